#pragma once
#include <map>
#include <string>

#include "core/graph/graph.h"
#include "core/support/json_fields.h"
#include "passes/report.h"

namespace espq {

template <>
struct EnumNames<OperationWidth> {
  static const std::vector<std::pair<OperationWidth, std::string_view>> values;
};

struct WidthOptions {
  /// Arithmetic of every operator that the table calls quantizable: 8 or 16 bits.
  int bits = 8;
  /// Unless `per_operation` says otherwise: in 16-bit networks operators for which the chip library has an 8-bit kernel
  /// only (Resize) compute with 8 bits, and functions of one tensor for which it has none (Softplus, Mish, Abs ...)
  /// become look-up tables. esp-ppq 1.3.12 writes a 16-bit Resize, which the chip does not compute, and float
  /// functions, which it does not load.
  bool fit_to_chip = true;
  /// Refuse networks with operations for which the chip library (3.3.9) has no kernel: the chip could not load the
  /// file, unless the application registers one. Off when it does.
  bool check_kernels = true;
  /// Mixed precision: operation name -> "float", "int8" or "int16". A name that the graph does not have is an error.
  std::map<std::string, OperationWidth> per_operation = {};
};

template <class Fields>
void describe(Fields& fields, WidthOptions& options) {
  fields("bits", options.bits);
  fields("fit_to_chip", options.fit_to_chip);
  fields("check_kernels", options.check_kernels);
  fields("per_operation", options.per_operation);
}

/// Gives every operation its arithmetic. Operations that already have a width (set by a float pass) keep it.
/// Throws UserError on an unknown operation name, a width that is not 8 or 16, or operations without a kernel (all of
/// them at once).
PassReport assign_widths(Graph& graph, const WidthOptions& options);

}  // namespace espq
