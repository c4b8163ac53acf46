#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "onnx_file/model.h"
#include "passes/recipe/recipe.h"

namespace espq::random_networks {

/// A small network with attributes drawn from all that ONNX allows, and how it is to be converted. All of it follows
/// from the seed.
struct RandomNetwork {
  uint64_t seed = 0;
  onnx_file::Model model = {};
  Dataset calibration = {};  ///< by input name
  Recipe recipe = {};        ///< target, widths and layers

  /// As imported. Throws UserError when the importer refuses it.
  Graph graph() const;
  /// Types of the nodes in order, "Conv Relu Add".
  std::string operators() const;
  /// "8", "16", or with the layers that differ: "8 n2_Conv=int16".
  std::string widths() const;
};

RandomNetwork draw_network(uint64_t seed);

/// Node types that networks are drawn from.
std::vector<std::string_view> drawn_types();

}  // namespace espq::random_networks
