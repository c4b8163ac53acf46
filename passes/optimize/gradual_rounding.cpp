#include "passes/optimize/gradual_rounding.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "core/quant/quantize_gradient.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// Which elements are rounded: those whose hash is below the limit.
struct Choice {
  uint32_t seed, limit;
};

/// Mixes the bits of an element's number (the finalizer of MurmurHash3): vector code, no state.
inline uint32_t mixed(uint32_t number, uint32_t seed) {
  uint32_t hash = number * 0x9E3779B1u ^ seed;
  hash ^= hash >> 16;
  hash *= 0x85EBCA6Bu;
  hash ^= hash >> 13;
  hash *= 0xC2B2AE35u;
  return hash ^ (hash >> 16);
}

/// out = rounded value where chosen, else the value.
ESPQ_CLONES void choose_row(const float* __restrict value, const float* __restrict rounded, float* __restrict out,
                            int64_t count, Choice choice) {
  for (int64_t i = 0; i < count; ++i) {
    const float there = rounded[i], here = value[i];  // a choice between two loads would be no vector code
    out[i] = mixed(static_cast<uint32_t>(i), choice.seed) < choice.limit ? there : here;
  }
}

/// The inverse, of a gradient: each element goes to one side, the other side gets 0.
ESPQ_CLONES void part_row(const float* __restrict gradient, float* __restrict value, float* __restrict rounded,
                          int64_t count, Choice choice) {
  for (int64_t i = 0; i < count; ++i) {
    const float passed = gradient[i];
    const bool chosen = mixed(static_cast<uint32_t>(i), choice.seed) < choice.limit;
    value[i] = chosen ? 0.0f : passed;
    rounded[i] = chosen ? passed : 0.0f;
  }
}

Choice choice_of(const RoundedShare& share, uint64_t slot) {
  uint64_t seed = (share.seed + 1) * 0x9E3779B97F4A7C15ull ^ (slot + 1) * 0xD1B54A32D192ED03ull;
  seed ^= seed >> 32;
  const double limit = std::clamp(share.share, 0.0, 1.0) * 4294967296.0;
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(std::min(limit, 4294967295.0))};
}

at::Tensor chosen(const at::Tensor& value, const at::Tensor& rounded, const Choice& choice) {
  at::Tensor result = at::empty_like(value);
  choose_row(value.const_data_ptr<float>(), rounded.const_data_ptr<float>(), result.mutable_data_ptr<float>(),
             value.numel(), choice);
  return result;
}

/// One operand where the hash chooses, the other elsewhere; gradients go the same ways.
class Choose : public torch::autograd::Function<Choose> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& value,
                            const at::Tensor& rounded, const Choice& choice) {
    context->set_materialize_grads(false);
    context->saved_data["choice"] = std::vector<int64_t>{choice.seed, choice.limit};
    return chosen(value, rounded, choice);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const std::vector<int64_t> saved = context->saved_data["choice"].toIntVector();
    const Choice choice{static_cast<uint32_t>(saved[0]), static_cast<uint32_t>(saved[1])};
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor value = at::empty_like(gradient), rounded = at::empty_like(gradient);
    part_row(gradient.const_data_ptr<float>(), value.mutable_data_ptr<float>(), rounded.mutable_data_ptr<float>(),
             gradient.numel(), choice);
    return {value, rounded, at::Tensor()};
  }
};

}  // namespace

at::Tensor GradualRounding::round(const at::Tensor& value, bool relu) const {
  const at::Tensor source = relu ? at::relu(value) : value;
  if (share_->share >= 1 || source.scalar_type() != at::kFloat || !source.device().is_cpu())
    return fake_quantize_with_gradient(source, rounding_, log2_scale_);
  const at::Tensor dense = source.contiguous();
  const at::Tensor rounded = fake_quantize_with_gradient(dense, rounding_, log2_scale_).contiguous();
  const Choice choice = choice_of(*share_, slot_);
  if (!at::GradMode::is_enabled() || !rounded.requires_grad()) return chosen(dense, rounded, choice);
  return Choose::apply(dense, rounded, choice);
}

}  // namespace espq
