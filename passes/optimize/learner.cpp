#include "passes/optimize/learner.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "core/ops/operator.h"
#include "core/quant/fake_quantize.h"
#include "passes/optimize/adam.h"

namespace espq {

namespace {

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.is_contiguous();
}

}  // namespace

void Learner::step(const at::Tensor& gradient, double factor) {
  constexpr double kMean = 0.9, kSquare = 0.999, kEpsilon = 1e-8;
  const c10::NoGradGuard no_gradients;
  if (!mean_.defined()) {
    mean_ = at::zeros_like(leaf_);
    square_ = at::zeros_like(leaf_);
    if (rate_.numel() > 1) rate_ = rate_.expand(leaf_.sizes()).contiguous();
  }
  ++steps_;
  const auto count = static_cast<double>(steps_);
  const double root = std::sqrt(1 - std::pow(kSquare, count)), rate = factor / (1 - std::pow(kMean, count));
  const at::Tensor slopes = gradient.contiguous();
  if (is_plain(leaf_) && is_plain(mean_) && is_plain(square_) && is_plain(slopes) && is_plain(rate_)) {
    adam(slopes.const_data_ptr<float>(), rate_.const_data_ptr<float>(), rate_.numel() == 1,
         mean_.mutable_data_ptr<float>(), square_.mutable_data_ptr<float>(), leaf_.mutable_data_ptr<float>(),
         leaf_.numel(), {kMean, kSquare, 1 - kMean, 1 - kSquare, static_cast<float>(root), static_cast<float>(rate)});
    leaf_.unsafeGetTensorImpl()->bump_version();
    return;
  }
  mean_.mul_(kMean).add_(gradient, 1 - kMean);
  square_.mul_(kSquare).addcmul_(gradient, gradient, 1 - kSquare);
  const at::Tensor size = square_.sqrt().div_(root).add_(kEpsilon);
  leaf_.sub_(mean_.div(size).mul_(rate_ * rate));
}

at::Tensor grid_step(const Graph& graph, const Operation& operation, size_t slot) {
  const at::Tensor value = operation.input(slot)->value().detach();
  if (operation.quantized()) {
    const bool bias = definition_of(operation).input_spec(slot).role == OperandRole::Bias;
    const SlotQuant& grid = bias ? operation.output_quant()[0] : operation.input_quant()[slot];
    if (grid.scale != kNoScale && !slot_exponents(graph, grid).empty())
      return scale_tensor(slot_exponents(graph, grid), grid.channel_axis, value);
  }
  return value.abs().max() / quant_max(8);
}

}  // namespace espq
