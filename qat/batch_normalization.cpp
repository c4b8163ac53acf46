#include "qat/batch_normalization.h"

#include <ATen/ATen.h>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

std::vector<BatchNormalization> batch_normalizations(const Graph& network) {
  std::vector<BatchNormalization> result;
  for (const Operation* operation : network.operations()) {
    const auto foldable = foldable_normalization(network, *operation);
    if (!foldable || foldable->linear.operation().type() == "ConvTranspose") continue;
    const at::Tensor& weight = foldable->linear.weight();
    if (weight.scalar_type() != at::kFloat) continue;
    result.push_back({operation->name(), foldable->linear.operation().name(), weight, foldable->bias,
                      foldable->normalization.to(at::kFloat)});
  }
  return result;
}

KeptNormalization::KeptNormalization(Graph& graph, const BatchNormalization& kept, double share_of_batch)
    : weight(kept.weight.clone(at::MemoryFormat::Contiguous)),
      normalization(kept.normalization),
      momentum(share_of_batch),
      name_(kept.name),
      producer_bias_(kept.producer_bias) {
  Operation* operation = graph.find_operation(kept.producer);
  const auto refuse = [&] {
    user_error("BatchNormalization '{}' cannot be kept: the quantized graph has no Conv or Gemm '{}' with a bias",
               name_, kept.producer);
  };
  if (!operation) refuse();
  const auto linear = linear_operation(*operation);
  if (!linear || !linear->bias_variable() || !linear->bias_variable()->is_parameter()) refuse();
  producer_ = operation;
  row_axis_ = linear->rule().row_axis(*operation);
  weight_variable_ = operation->input(linear->weight_slot());
  bias_variable_ = operation->input(linear->bias_slot().value());
  const at::Tensor &held_weight = weight_variable()->value(), &held_bias = bias_variable()->value();
  const at::Device device = held_weight.device();
  weight = weight.to(device);
  if (producer_bias_.defined()) producer_bias_ = producer_bias_.to(device);
  for (at::Tensor* tensor : {&normalization.gamma, &normalization.beta, &normalization.mean, &normalization.variance})
    *tensor = tensor->to(device, tensor->scalar_type(), false, /*copy=*/true);
  if (held_weight.sizes() == weight.sizes()) fold();
  // Recipes that fold in float32 differ in the last bits.
  const bool same = folded_weight.defined() && at::allclose(folded_weight, held_weight, 1e-5, 1e-7) &&
                    at::allclose(folded_bias, held_bias, 1e-5, 1e-5);
  user_check(same && weight_variable()->uses().size() == 1 && bias_variable()->uses().size() == 1,
             "BatchNormalization '{}' cannot be kept: the weights of '{}' are no longer those of the network with it "
             "folded in; leave it out of the list, or leave out the pass that changed them",
             name_, kept.producer);
}

void KeptNormalization::fold() {
  const Normalization wide = normalization.to(at::kDouble);  // as fold_batch_normalization() does
  const at::Tensor scale = wide.scale();
  Shape per_row(static_cast<size_t>(weight.dim()), 1);
  per_row[row_axis_] = scale.numel();
  folded_weight = (weight.to(at::kDouble) * scale.reshape(per_row)).to(at::kFloat);
  folded_bias = wide.offset(producer_bias_).to(at::kFloat);
  scale_ = scale.to(at::kFloat);
}

void KeptNormalization::use_batch_statistics() { folded_bias = at::zeros_like(folded_bias); }

void KeptNormalization::store() {
  weight_variable()->set_value(folded_weight.detach());
  bias_variable()->set_value(folded_bias.detach());
}

at::Tensor KeptNormalization::normalize(const at::Tensor& result) {
  const int64_t channels = scale_.numel();
  user_check(result.numel() > channels,
             "BatchNormalization '{}': the statistics of a batch need more than one value per channel; train with "
             "larger batches or freeze it",
             name_);
  std::vector<int64_t> shape(static_cast<size_t>(result.dim()), 1);
  shape[1] = channels;
  // A channel whose gamma is 0 has a weight of 0, and so has its result.
  const at::Tensor divisor = at::where(scale_ == 0, at::ones_like(scale_), scale_).reshape(shape);
  const at::Tensor plain = result / divisor + producer_bias_.to(at::kFloat).reshape(shape);
  return at::batch_norm(plain, normalization.gamma, normalization.beta, normalization.mean, normalization.variance,
                        true, momentum, normalization.epsilon, false);
}

}  // namespace espq
