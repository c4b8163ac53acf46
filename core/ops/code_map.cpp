#include "core/ops/code_map.h"

#include <ATen/Parallel.h>

#include "core/ops/chip_math.h"

namespace espq {

BoardKernel code_map(const BoardContext& context, const std::function<float(float)>& function) {
  const int low = static_cast<int>(quant_min(context.inputs[0].bits));
  const int high = static_cast<int>(quant_max(context.inputs[0].bits));
  auto table = std::make_shared<std::vector<float>>();
  table->reserve(high - low + 1);
  for (int code = low; code <= high; ++code) table->push_back(function(static_cast<float>(code)));
  return [table, low](const Tensors& inputs) -> Tensors {
    const at::Tensor codes = inputs[0].contiguous();
    at::Tensor result = at::empty_like(codes);
    const float* from = codes.const_data_ptr<float>();
    float* to = result.data_ptr<float>();
    const float* entries = table->data() - low;
    at::parallel_for(0, codes.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = entries[static_cast<int>(from[i])];
    });
    return {result};
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
