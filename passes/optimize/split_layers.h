#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "core/support/enum_names.h"
#include "passes/optimize/reference.h"
#include "passes/report.h"

namespace espq {

/// How a weight becomes the sum of two.
enum class SplitMethod {
  Remainder,  ///< what its 8-bit grid holds, and what that leaves: together nearly 16 bits
  Balance,    ///< large weights go by halves into both (esp-ppq 1.3.12's method "balance")
};

template <>
struct EnumNames<SplitMethod> {
  static const std::vector<std::pair<SplitMethod, std::string_view>> values;
};

struct SplitLayersOptions {
  /// Operations to split, by name or pattern ('*', '?'); empty: those that gain most are looked for.
  std::vector<std::string> names = {};
  int64_t layers = 5;  ///< at most so many are found
  double gain = 0.05;  ///< the noise of the outputs has to fall by this share with each that is found
  double cost = 0.1;   ///< they may add at most this share of the multiplications of all layers
  SplitMethod method = SplitMethod::Remainder;
  double threshold = 0;      ///< Balance: weights of a larger magnitude are large; 0: `percentile` says
  double percentile = 0.99;  ///< Balance: of the magnitudes of a layer's weights, where large ones begin
};

template <class Fields>
void describe(Fields& fields, SplitLayersOptions& options) {
  fields("names", options.names);
  fields("layers", options.layers);
  fields("gain", options.gain);
  fields("cost", options.cost);
  fields("method", options.method);
  fields("threshold", options.threshold);
  fields("percentile", options.percentile);
}

/// Horizontal split: a Conv, ConvTranspose, Gemm or MatMul with constant weights becomes two on the same input, NAME
/// with the bias and NAME_rest without, and an Add NAME_sum of their results. The float network computes the same.
/// Takes a float graph. `names`: of operations (no patterns). Throws UserError on options that make no sense and on an
/// operation that is no such layer.
PassReport split_layers(Graph& graph, const std::vector<std::string>& names, const Target& target,
                        const SplitLayersOptions& options);

/// The operations of a float graph that `options.names` means. Throws UserError on options that make no sense and
/// naming an entry that no layer has.
std::vector<std::string> layers_to_split(const Graph& graph, const SplitLayersOptions& options);

/// Share of every layer with constant weights in the multiplications of all of them, by name.
std::unordered_map<std::string, double> shares_of_multiplications(const Graph& graph);

/// Layers with constant weights of a calibrated graph with corrected biases, those first whose rounded weights cost its
/// outputs most: each in turn computes with exact weights and without the correction for the rounded ones.
/// `reference`: of the float network.
std::vector<std::string> worst_weights(const Graph& quantized, Reference& reference);

}  // namespace espq
