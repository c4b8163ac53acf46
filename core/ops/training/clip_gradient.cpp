#include "core/ops/training/clip_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/quant/grid_rows.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

ESPQ_CLONES void clip_row(const float* __restrict in, float* __restrict out, uint8_t* __restrict inside, int64_t count,
                          ClipBounds bounds) {
  for (int64_t i = 0; i < count; ++i) {
    const float raised = in[i] < bounds.low ? bounds.low : in[i];
    const float value = raised > bounds.high ? bounds.high : raised;
    inside[i] = static_cast<uint8_t>(in[i] >= bounds.low) & static_cast<uint8_t>(in[i] <= bounds.high);
    out[i] = value;
  }
}

class ClipGradient : public torch::autograd::Function<ClipGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const ClipBounds& bounds) {
    context->set_materialize_grads(false);
    at::Tensor result = at::empty_like(input), inside = at::empty_like(input, at::kByte);
    const float* in = input.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    uint8_t* mask = inside.mutable_data_ptr<uint8_t>();
    at::parallel_for(0, input.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
      clip_row(in + begin, out + begin, mask + begin, end - begin, bounds);
    });
    context->save_for_backward({inside});
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    return {masked_gradient(gradients[0], context->get_saved_variables()[0]), at::Tensor()};
  }
};

}  // namespace

at::Tensor clip_with_gradient(const at::Tensor& input, const ClipBounds& bounds) {
  const bool fits = at::GradMode::is_enabled() && input.requires_grad() && input.is_cpu() &&
                    input.scalar_type() == at::kFloat && input.is_non_overlapping_and_dense();
  return fits ? ClipGradient::apply(input, bounds) : at::Tensor();
}

}  // namespace espq
