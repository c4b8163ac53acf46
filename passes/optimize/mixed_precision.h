#pragma once
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/report.h"

namespace espq {

struct MixedPrecisionOptions {
  int64_t layers = 5;      ///< at most so many get 16 bits
  double gain = 0.05;      ///< the noise of the outputs has to fall by this share with each
  double cost = 1;         ///< at most this share of the multiplications of all layers may take 16 bits
  int64_t batches = 32;    ///< of the data that decide
  int64_t candidates = 6;  ///< of every round: what promises most is measured
};

template <class Fields>
void describe(Fields& fields, MixedPrecisionOptions& options) {
  fields("layers", options.layers);
  fields("gain", options.gain);
  fields("cost", options.cost);
  fields("batches", options.batches);
  fields("candidates", options.candidates);
}

/// Operations that should compute with 16 bits.
struct MixedPrecision {
  std::vector<std::string> operations;
  PassReport report;
};

/// Chooses the layers whose 8 bits cost the outputs most: one after the other that without whose rounding, and that of
/// those chosen already, the outputs have the least noise; then one is exchanged for another as long as that helps.
/// What each layer does to the outputs, to first order and with signs (projected_errors.h: errors that cancel each
/// other are seen, which a list of errors layer by layer does not show), says what is worth a measurement, and the
/// measured noise of the network decides. A layer is an operation with weights and the functions of one tensor right
/// behind it, which would round its result again; or another operation by itself. Only those with a 16-bit kernel in
/// the chip library.
/// Takes an 8-bit graph whose exponents are at rest; `teacher`: the float network that it was. Throws UserError on
/// options out of range.
MixedPrecision mixed_precision(const Graph& quantized, const Graph& teacher, const Dataset& data, RuntimeLevel level,
                               const MixedPrecisionOptions& options = {});

}  // namespace espq
