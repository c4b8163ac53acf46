#include "core/ops/board/code_map.h"

#include "core/ops/board/chip_math.h"
#include "core/ops/kernels/map_floats.h"

namespace espq {

BoardKernel code_map(const BoardContext& context, const std::function<float(float)>& function) {
  const int low = static_cast<int>(quant_min(context.inputs[0].bits));
  const int high = static_cast<int>(quant_max(context.inputs[0].bits));
  auto table = std::make_shared<std::vector<float>>();
  table->reserve(high - low + 1);
  for (int code = low; code <= high; ++code) table->push_back(function(static_cast<float>(code)));
  return [table, low](const Tensors& inputs) -> Tensors {
    const float* entries = table->data() - low;
    return {map_floats(inputs[0], [entries](float code) { return entries[static_cast<int>(code)]; })};
  };
}

BoardKernel value_map(const BoardContext& context, const std::function<float(float)>& function) {
  if (!context.inputs[0].quantized() || !context.outputs[0].quantized()) return board_on_values(context);
  const chip::Rounder round(context.target.rounding, context.outputs[0].bits);
  const float scale = chip::scale(context.inputs[0].exponent());
  const float inverse = chip::inverse_scale(context.outputs[0].exponent());
  return code_map(context, [=, &function](float code) { return round(function(code * scale) * inverse); });
}

}  // namespace espq
