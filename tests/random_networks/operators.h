#pragma once
#include <string_view>
#include <vector>

#include "tests/random_networks/drawing.h"

namespace espq::random_networks {

/// How nodes of one type are drawn.
struct NodeDrawer {
  std::string_view type;
  /// Adds one such node. False when there is nothing for it to read; what was added is then taken back.
  bool (*draw)(Drawing&, std::string_view type);
  int weight = 4;  ///< how often, compared with others
};

// One list per family, each in the source of that name.
std::vector<NodeDrawer> layer_drawers();
std::vector<NodeDrawer> window_drawers();
std::vector<NodeDrawer> movement_drawers();
std::vector<NodeDrawer> shape_drawers();
std::vector<NodeDrawer> elementwise_drawers();
std::vector<NodeDrawer> normalization_drawers();

}  // namespace espq::random_networks
