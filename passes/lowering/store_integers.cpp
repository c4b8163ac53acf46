#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

#include "core/quant/fake_quantize.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// Float32 cannot hold the largest integer of a wide grid: a clamp in float32 lets one more through, which 40 bits keep
/// and the conversions to 32 and 64 bits turn into the other end.
at::Tensor wrapped_integers(const at::Tensor& value, const SlotQuant& slot, const std::vector<int>& exponents,
                            Rounding rounding) {
  const at::Tensor codes =
      quantize_to_codes(value.to(at::kFloat), exponents, slot.channel_axis, slot.bits, rounding).to(at::kDouble);
  const bool narrow = slot.bits <= 32;
  const at::Tensor overflow = codes >= std::ldexp(1.0, narrow ? 31 : 63);
  const at::Tensor integers = codes.masked_fill(overflow, 0).to(at::kLong);
  if (!narrow) return integers.masked_fill(overflow, std::numeric_limits<int64_t>::min());
  return integers.masked_fill(overflow, std::numeric_limits<int32_t>::min()).to(at::kInt);
}

at::ScalarType storage_dtype(int bits) {
  return bits <= 8 ? at::kChar : bits <= 16 ? at::kShort : bits <= 32 ? at::kInt : at::kLong;
}

/// Whether it was stored.
bool store(const Graph& graph, Variable* variable, const SlotQuant& slot, const Quirks& quirks) {
  if (!variable || variable->storage() || !has_format(graph, slot)) return false;
  const std::vector<int> exponents = slot_exponents(graph, slot);
  variable->set_storage(StorageFormat{storage_dtype(slot.bits), exponents});
  if (!variable->is_parameter()) return true;
  const Rounding rounding = graph.target()->rounding;
  const bool wraps = quirks.bias_overflow_wraps && slot.bits > 24;
  variable->set_value(wraps
                          ? wrapped_integers(variable->value(), slot, exponents, rounding)
                          : quantize_to_integers(variable->value(), exponents, slot.channel_axis, slot.bits, rounding));
  variable->set_dtype(variable->value().scalar_type());
  variable->set_shape(variable->value().sizes().vec());
  return true;
}

}  // namespace

PassReport store_integers(Graph& graph, const Quirks& quirks) {
  PassReport report{"store_integers"};
  c10::AutoGradMode no_gradients(false);
  for (Operation* operation : graph.topological_order()) {
    if (!operation->quantized()) continue;
    for (size_t slot = 0; slot < operation->inputs().size(); ++slot)
      report.count("tensor", store(graph, operation->input(slot), operation->input_quant().at(slot), quirks));
    for (size_t slot = 0; slot < operation->outputs().size(); ++slot)
      report.count("tensor", store(graph, operation->outputs()[slot], operation->output_quant().at(slot), quirks));
  }
  return report;
}

}  // namespace espq::lowering
