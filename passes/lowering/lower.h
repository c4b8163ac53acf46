#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct LowerOptions {
  /// Which chip library loads the file (see RuntimeLevel).
  RuntimeLevel runtime_level = RuntimeLevel::V3_3_9;
  /// Distance of the inputs of neighbouring entries in 16-bit tables, for operations without a table step of their own:
  /// a power of two, 65536 / step + 1 entries. Empty = no such tables.
  std::optional<int> int16_table_step = 256;
  /// A Clip from 0 to a bound that its grid does not exceed is written as the Relu that it is.
  bool saturating_clips = true;
};

template <class Fields>
void describe(Fields& fields, LowerOptions& options) {
  fields("runtime_level", options.runtime_level);
  fields("int16_table_step", options.int16_table_step);
  fields("saturating_clips", options.saturating_clips);
}

/// The chip graph of a quantized graph: operators, attributes, layouts and integers as the chip library reads them.
/// - Its stage is Chip. Activations are in the layout and shape of the file (`permutation` says how they came from the
///   model's order), graph inputs and outputs included.
/// - What is quantized has `storage`; constants then hold integers. Filters keep the order [N, C, H, W], a Gemm's
/// filter
///   is [N, K], a MatMul's constant operand [.., K, N]: blocks of SIMD lanes are made when the file is written.
/// - Look-up tables are parameters that nothing reads (ChipFacts::table).
/// The quantized graph stays as it is. What the chip would compute otherwise is a warning: logged, and in the report.
/// Throws UserError naming the operation when the chip library cannot express it.
Graph lower(const Graph& quantized, const LowerOptions& options = {}, const Quirks& quirks = {},
            Report* report = nullptr);

}  // namespace espq
