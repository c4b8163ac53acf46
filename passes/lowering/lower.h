#pragma once
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "core/support/json_fields.h"

namespace espq {

template <>
struct EnumNames<RuntimeLevel> {
  static const std::vector<std::pair<RuntimeLevel, std::string_view>> values;
};

/// Defects of esp-ppq 1.3.12's exporter, each off by default. Switched on they give the file that it would have
/// written, which the chip then computes differently from the simulation.
struct IncumbentDefects {
  /// A constant operand of Add, Mul ... keeps its channels-first order although the activation is channels-last.
  bool constants_keep_channels_first = false;
  /// PRelu slopes of single channels are not brought together with a channels-last activation.
  bool slopes_meet_any_axis = false;
  /// The recorded shape of the result of an added Transpose is that of the model's order, transposed (the chip library
  /// computes shapes itself).
  bool stale_transpose_shapes = false;
  /// A graph input that is read with two exponents (or as float beside integers) is stored with the first one only; no
  /// node converts it for the other readers.
  bool one_format_per_graph_input = false;
  /// Scales that differ by less than 1e-5 are taken for equal: no RequantizeLinear between tiny scales.
  bool absolute_requantize_threshold = false;
  /// Relu is fused although the operation in front of it writes a graph output, which disappears.
  bool fuse_over_graph_outputs = false;
  /// A bias that saturates at the positive end of 32 or 64 bits becomes the negative end, at 40 bits one too many.
  bool bias_overflow_wraps = false;
  /// 16-bit activations get tables that the chip library does not read.
  bool unread_int16_tables = false;
};

struct LowerOptions {
  /// Which chip library loads the file (see RuntimeLevel).
  RuntimeLevel runtime_level = RuntimeLevel::V3_3_9;
  /// Distance of the inputs of neighbouring entries in 16-bit tables, for operations without an `int16_lut_step` of
  /// their own: a power of two, 65536 / step + 1 entries. 0 = no such tables.
  int int16_table_step = 256;
  IncumbentDefects defects;

  /// What esp-ppq 1.3.12 writes, defects included.
  static LowerOptions incumbent();
};

template <class Fields>
void describe(Fields& fields, IncumbentDefects& defects) {
  fields("constants_keep_channels_first", defects.constants_keep_channels_first);
  fields("slopes_meet_any_axis", defects.slopes_meet_any_axis);
  fields("stale_transpose_shapes", defects.stale_transpose_shapes);
  fields("one_format_per_graph_input", defects.one_format_per_graph_input);
  fields("absolute_requantize_threshold", defects.absolute_requantize_threshold);
  fields("fuse_over_graph_outputs", defects.fuse_over_graph_outputs);
  fields("bias_overflow_wraps", defects.bias_overflow_wraps);
  fields("unread_int16_tables", defects.unread_int16_tables);
}

template <class Fields>
void describe(Fields& fields, LowerOptions& options) {
  fields("runtime_level", options.runtime_level);
  fields("int16_table_step", options.int16_table_step);
  fields("incumbent_defects", options.defects);
}

/// What a caller should tell the user: each line names a layer.
struct LowerReport {
  std::vector<std::string> warnings;
};

/// The chip graph of a quantized graph: operators, attributes, layouts and integers as the chip library reads them.
/// - `lowered` is set. Activations are in the layout and shape of the file (`permutation` says how they came from the
///   model's order), graph inputs and outputs included.
/// - What is quantized has `storage`; constants then hold integers. Filters keep the order [N, C, H, W], a Gemm's
/// filter
///   is [N, K], a MatMul's constant operand [.., K, N]: blocks of SIMD lanes are made when the file is written.
/// - Look-up tables are parameters that nothing reads; attribute `lut` names them.
/// The quantized graph stays as it is. Throws UserError naming the operation when the chip library cannot express it.
Graph lower(const Graph& quantized, const LowerOptions& options = {}, LowerReport* report = nullptr);

}  // namespace espq
