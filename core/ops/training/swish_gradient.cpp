#include "core/ops/training/swish_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// What LibTorch adds up: through the factor x, and through the sigmoid s.
ESPQ_CLONES void swish_gradient_row(const float* __restrict x, const float* __restrict s,
                                    const float* __restrict gradient, float* __restrict out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = gradient[i] * s[i] + gradient[i] * x[i] * (1 - s[i]) * s[i];
}

/// The same where `inside`, 0 elsewhere.
ESPQ_CLONES void masked_swish_gradient_row(const float* __restrict x, const float* __restrict s,
                                           const float* __restrict gradient, const uint8_t* __restrict inside,
                                           float* __restrict out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float g = inside[i] ? gradient[i] : 0.0f;
    out[i] = g * s[i] + g * x[i] * (1 - s[i]) * s[i];
  }
}

class SwishGradient : public torch::autograd::Function<SwishGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const std::optional<RowRounding>& rounding) {
    context->set_materialize_grads(false);
    const at::Tensor sigmoid = at::sigmoid(input);
    if (!rounding) {
      context->save_for_backward({input, sigmoid});
      return input * sigmoid;
    }
    at::Tensor inside, result = round_product(input, sigmoid, *rounding, inside);
    context->save_for_backward({input, sigmoid, inside});
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const auto saved = context->get_saved_variables();
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor result = at::empty_like(gradient);
    const float *x = saved[0].const_data_ptr<float>(), *s = saved[1].const_data_ptr<float>();
    const float* from = gradient.const_data_ptr<float>();
    const uint8_t* inside = saved.size() > 2 ? saved[2].const_data_ptr<uint8_t>() : nullptr;
    float* to = result.mutable_data_ptr<float>();
    at::parallel_for(0, result.numel(), kRowGrain, [&](int64_t begin, int64_t end) {
      if (inside) {
        masked_swish_gradient_row(x + begin, s + begin, from + begin, inside + begin, to + begin, end - begin);
      } else {
        swish_gradient_row(x + begin, s + begin, from + begin, to + begin, end - begin);
      }
    });
    return {result, at::Tensor()};
  }
};

}  // namespace

at::Tensor swish_with_gradient(const at::Tensor& input, const std::optional<RowRounding>& rounding) {
  const bool fits = at::GradMode::is_enabled() && input.requires_grad() && input.is_cpu() &&
                    input.scalar_type() == at::kFloat && input.is_contiguous();
  return fits ? SwishGradient::apply(input, rounding) : at::Tensor();
}

}  // namespace espq
