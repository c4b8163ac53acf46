#pragma once

namespace espq {

/// What exists only to equal esp-ppq 1.3.12, number by number and byte by byte: everything that package does and espq
/// does not want to do. recipes/esp-ppq-1.3.12.json switches all of it on; nothing else should. Each line says what the
/// package does, and what that costs on the chip.
struct Quirks {
  // --- the float network
  /// The rewrites between reading and quantizing that parity/format.h lists, with the package's names and order: fewer
  /// fusions, and BatchNormalization folded in float32.
  bool format_like_incumbent = false;
  /// A factor is folded where onnxsim 0.7.3 does it: Mul only, into Conv and ConvTranspose only. Other factors cost an
  /// operation and a rounding.
  bool fold_scale_like_onnxsim = false;

  // --- widths
  /// Every quantizable operation gets the width of the network, whether or not the chip has a kernel: a 16-bit Resize
  /// is not computed, and Softplus, Mish, Abs ... stay float functions that the chip library does not load.
  bool widths_ignore_kernels = false;

  /// Forms that the chip library reads otherwise than ONNX means them are written as they are, with a warning: the chip
  /// computes something else, or aborts.
  bool misread_forms = false;

  // --- exponents from data
  /// The width of the network, not the operation's own, chooses the observer: 16-bit operations of an 8-bit network use
  /// the 8-bit method.
  bool observers_by_main_width = false;
  /// The grid must hold 2 * max(|lowest|, |highest|) in qmax - qmin steps: a minimum of exactly -128 steps costs a bit.
  bool symmetric_range = false;
  /// The mse observer tries eight limits of a one-sided histogram with a two-sided number of levels; its 16-bit results
  /// are 32 times too coarse.
  bool mse_by_levels = false;

  // --- scales that belong together
  /// Relu and Clip take over the scale of the operation in front even when the value between the two is a graph output;
  /// that output stays unquantized until the file is written.
  bool tie_through_graph_outputs = false;
  /// Of an operation that reads one tensor twice only the first operand carries its grid: the second is requantized.
  bool tie_first_operand_only = false;
  /// Kernels that pass codes on (MaxPool, Slice ...; PRelu at 16 bit and on chips without vector units) may have
  /// different exponents on both sides: their results are wrong by that power of two.
  bool passed_codes_unaligned = false;
  /// A float result (Softmax) whose only reader is aligned gets a grid: the chip library refuses the file.
  bool move_float_producers = false;
  /// Operations of different width may share a scale: a 16-bit Add gives its own to the 8-bit convolution in front of
  /// it, which then clips.
  bool scales_ignore_width = false;
  /// Alignment moves producers of operands that it does not align, results that leave the network and sums whose
  /// operands need more room than the common scale has: the input of a GRU is clipped to the range of its state.
  bool move_every_producer = false;
  /// Alignment to the largest scale doubles it: one bit is lost.
  bool large_doubles = false;

  // --- sums
  /// A bias too large for the accumulator saturates, and a shift beyond 31 bits stays: nearly dead channels are wrong.
  bool bias_saturates = false;
  /// An output may be finer than the product of input and weight, which asks the chip for a left shift: it does none.
  bool shifts_left = false;

  // --- look-up tables
  /// 16-bit functions become tables in networks of 16 bits only: elsewhere the simulation differs from the file.
  bool tables_by_main_width = false;
  /// Functions without a kernel in the chip library do not become tables: the library refuses them.
  bool functions_without_kernel = false;

  // --- the chip graph
  /// Constants of Add, Mul ... keep their channels-first order: behind a convolution they meet the wrong axis.
  bool constants_keep_channels_first = false;
  /// PRelu slopes of single channels are not brought together with a channels-last tensor: the chip uses wrong slopes.
  bool slopes_meet_any_axis = false;
  /// The recorded shape behind an added Transpose is the model's, transposed: the chip computes shapes itself, but
  /// tools that show the file see a wrong one.
  bool stale_transpose_shapes = false;
  /// A graph input that is read with two exponents (or as float, too) is stored with the first: other readers are
  /// wrong.
  bool one_format_per_graph_input = false;
  /// Scales that differ by less than 1e-5 count as equal: between tiny scales the RequantizeLinear is missing.
  bool absolute_requantize_threshold = false;
  /// 8 bits become 16 in one RequantizeLinear whatever the size: on chips with vector units the library never writes
  /// the last 8 of more than 50 elements when 8 are left over by 16.
  bool requantize_loses_tail = false;
  /// Relu is fused although the operation in front writes a graph output: the output disappears.
  bool fuse_over_graph_outputs = false;
  /// A bias that saturates at the positive end of 32 or 64 bits becomes the negative end, at 40 bits one too many.
  bool bias_overflow_wraps = false;
  /// 16-bit activations get tables that the chip library does not read: the file is larger.
  bool unread_int16_tables = false;

  // --- the file
  /// Target, espq's version and the runtime level are not recorded: readers must be told the chip.
  bool anonymous_files = false;
  /// The recorded test outputs are what Simulated precision computes, whether the chip agrees or not.
  bool simulated_test_values = false;

  // --- training
  /// The gradient passes where a per-channel weight was clipped; per tensor it is masked. Only training differs.
  bool clipped_channels_pass_gradients = false;

  bool operator==(const Quirks&) const = default;
};

template <class Fields>
void describe(Fields& fields, Quirks& quirks) {
  fields("format_like_incumbent", quirks.format_like_incumbent);
  fields("fold_scale_like_onnxsim", quirks.fold_scale_like_onnxsim);
  fields("widths_ignore_kernels", quirks.widths_ignore_kernels);
  fields("misread_forms", quirks.misread_forms);
  fields("observers_by_main_width", quirks.observers_by_main_width);
  fields("symmetric_range", quirks.symmetric_range);
  fields("mse_by_levels", quirks.mse_by_levels);
  fields("tie_through_graph_outputs", quirks.tie_through_graph_outputs);
  fields("tie_first_operand_only", quirks.tie_first_operand_only);
  fields("passed_codes_unaligned", quirks.passed_codes_unaligned);
  fields("move_float_producers", quirks.move_float_producers);
  fields("scales_ignore_width", quirks.scales_ignore_width);
  fields("move_every_producer", quirks.move_every_producer);
  fields("large_doubles", quirks.large_doubles);
  fields("bias_saturates", quirks.bias_saturates);
  fields("shifts_left", quirks.shifts_left);
  fields("tables_by_main_width", quirks.tables_by_main_width);
  fields("functions_without_kernel", quirks.functions_without_kernel);
  fields("constants_keep_channels_first", quirks.constants_keep_channels_first);
  fields("slopes_meet_any_axis", quirks.slopes_meet_any_axis);
  fields("stale_transpose_shapes", quirks.stale_transpose_shapes);
  fields("one_format_per_graph_input", quirks.one_format_per_graph_input);
  fields("absolute_requantize_threshold", quirks.absolute_requantize_threshold);
  fields("requantize_loses_tail", quirks.requantize_loses_tail);
  fields("fuse_over_graph_outputs", quirks.fuse_over_graph_outputs);
  fields("bias_overflow_wraps", quirks.bias_overflow_wraps);
  fields("unread_int16_tables", quirks.unread_int16_tables);
  fields("anonymous_files", quirks.anonymous_files);
  fields("simulated_test_values", quirks.simulated_test_values);
  fields("clipped_channels_pass_gradients", quirks.clipped_channels_pass_gradients);
}

}  // namespace espq
