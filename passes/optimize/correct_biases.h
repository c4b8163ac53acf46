#pragma once
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/support/enum_names.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// What sees its errors corrected together.
enum class CorrectionMethod {
  Layers,  ///< one layer after the other, held-out data decide
  Blocks,  ///< all layers of a block at once, its error on all data decides: esp-ppq 1.3.12
};

template <>
struct EnumNames<CorrectionMethod> {
  static const std::vector<std::pair<CorrectionMethod, std::string_view>> values;
};

struct CorrectBiasesOptions {
  int64_t batches = 32;  ///< of the data to learn from, at most
  int64_t sweeps = 2;    ///< over the network; the second sees what the first left
  CorrectionMethod method = CorrectionMethod::Layers;
  int64_t block_size = 4;  ///< Blocks: depth of a block
};

template <class Fields>
void describe(Fields& fields, CorrectBiasesOptions& options) {
  fields("batches", options.batches);
  fields("sweeps", options.sweeps);
  fields("method", options.method);
  fields("block_size", options.block_size);
}

/// Rounding of weights and activations moves the mean of what a layer computes. From the front to the back, every layer
/// with a constant bias gets it back: the mean difference per channel between the float network and the quantized one
/// as it is by then is added to the bias, in steps of the accumulator, which is finer than the result (empirical bias
/// correction, Nagel et al. 2019, arXiv 1906.04721, section 4.2). Where few values stand behind a mean, as much of it
/// is used as they tell it from chance: m^2 / (m^2 + variance / n).
/// A sweep is undone unless the outputs come nearer to the float network's on data that were held out. Takes a
/// quantized graph whose exponents stand, and `teacher`, the float network with the same names; settle() follows.
/// Throws UserError on options out of range.
PassReport correct_biases(Graph& quantized, const Graph& teacher, const Dataset& data,
                          const CorrectBiasesOptions& options = {});

}  // namespace espq
