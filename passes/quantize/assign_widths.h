#pragma once
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "passes/quantize/layers.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

struct WidthOptions {
  /// Arithmetic of every operator whose row says that it is quantizable: 8 or 16 bits.
  int bits = 8;
  /// Refuse (require_runs) networks with operations for which the chip library has no kernel: the chip could not load
  /// the file, unless the application registers one. Off when it does.
  bool check_kernels = true;
};

template <class Fields>
void describe(Fields& fields, WidthOptions& options) {
  fields("bits", options.bits);
  fields("check_kernels", options.check_kernels);
}

/// Gives every operation its arithmetic: the width that `layers` says (mixed precision), else that of the options. In
/// 16-bit networks operators for which the chip library has an 8-bit kernel only (Resize) compute with 8 bits, and
/// functions of one tensor for which it has none (Softplus, Mish, Abs ...) are quantized, to become look-up tables.
/// Operations between layers in float alone (the sum of two Pow that a Sqrt reads) compute in float, too, where the
/// library has a kernel for it and no layer says otherwise.
/// Operations that already have a width (set by a float pass) keep it. Where weights of 8 bits under activations of 16
/// are asked for, operations that cannot have them (of several groups, or without constant weights) get 16 for both.
/// Throws UserError on a key of `layers` that no operation has, or a width that is not 8 or 16.
PassReport assign_widths(Graph& graph, const WidthOptions& options, const Layers& layers = {},
                         const Quirks& quirks = {});

/// The width of an operation about which no layer says anything.
Width default_width(const Operation& operation, int bits, const Quirks& quirks = {});

/// A quantized function of one tensor for which the chip library has no kernel: a look-up table serves it.
bool becomes_table(const Operation& operation);

}  // namespace espq
