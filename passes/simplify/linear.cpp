#include "passes/simplify/linear.h"

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool is_convolution(const Operation& operation) {
  return operation.type() == "Conv" || operation.type() == "ConvTranspose";
}

/// Views the weight as [group, rows or columns, ...] and scales along `axis` (1 or 2) of that view.
at::Tensor scaled_in_groups(const at::Tensor& weight, int64_t group, int64_t axis, const at::Tensor& factors) {
  Shape grouped{group, weight.size(0) / group};
  grouped.insert(grouped.end(), weight.sizes().begin() + 1, weight.sizes().end());
  Shape factor_shape(grouped.size(), 1);
  factor_shape[0] = group;
  factor_shape[axis] = grouped[axis];
  return (weight.to(at::kDouble).reshape(grouped) * factors.to(at::kDouble).reshape(factor_shape))
      .reshape(weight.sizes());
}

int64_t group_of(const Operation& operation) { return operation.int_attribute("group", 1); }
bool is_transposed(const Operation& operation) { return operation.int_attribute("transB", 0) != 0; }

}  // namespace

std::optional<LinearOperation> linear_operation(Operation& operation) {
  const bool convolution = is_convolution(operation);
  if (!convolution && operation.type() != "Gemm" && operation.type() != "MatMul") return std::nullopt;
  const Variable* parameter = operation.input(1);
  if (!parameter || !parameter->is_parameter() || !operation.input(0) || operation.input(0)->is_parameter())
    return std::nullopt;
  const at::Tensor& weight = parameter->value();
  if (!at::isFloatingType(weight.scalar_type()) || weight.dim() < 2) return std::nullopt;
  LinearOperation linear;
  linear.operation = &operation;
  if (convolution) {
    linear.rank = weight.dim();
    const int64_t group = group_of(operation);
    if (operation.type() == "Conv") {
      linear.output_channels = weight.size(0);
      linear.input_channels = weight.size(1) * group;
    } else {
      linear.output_channels = weight.size(1) * group;
      linear.input_channels = weight.size(0);
    }
    return linear;
  }
  if (weight.dim() != 2) return std::nullopt;
  const bool transposed = operation.type() == "Gemm" && is_transposed(operation);
  linear.input_channels = weight.size(transposed ? 1 : 0);
  linear.output_channels = weight.size(transposed ? 0 : 1);
  linear.channel_axis = -1;
  linear.takes_bias = operation.type() == "Gemm";
  linear.rank = operation.type() == "Gemm" ? 2 : rank_of(operation.input(0));
  return linear;
}

std::optional<LinearOperation> linear_producer(const Graph& graph, Operation& consumer, size_t slot) {
  Variable* value = consumer.input(slot);
  if (!value || !value->producer() || sole_consumer(graph, *value) != &consumer) return std::nullopt;
  return linear_operation(*value->producer());
}

at::Tensor LinearOperation::scaled_rows(const at::Tensor& factors) const {
  const at::Tensor& weight = operation->input(1)->value();
  if (operation->type() == "Conv") return scaled_in_groups(weight, 1, 1, factors);
  if (operation->type() == "ConvTranspose") return scaled_in_groups(weight, group_of(*operation), 2, factors);
  const bool transposed = operation->type() == "Gemm" && is_transposed(*operation);
  return weight.to(at::kDouble) * factors.to(at::kDouble).unsqueeze(transposed ? 1 : 0);
}

at::Tensor LinearOperation::scaled_columns(const at::Tensor& factors) const {
  const at::Tensor& weight = operation->input(1)->value();
  if (operation->type() == "Conv") return scaled_in_groups(weight, group_of(*operation), 2, factors);
  if (operation->type() == "ConvTranspose") return scaled_in_groups(weight, 1, 1, factors);
  const bool transposed = operation->type() == "Gemm" && is_transposed(*operation);
  return weight.to(at::kDouble) * factors.to(at::kDouble).unsqueeze(transposed ? 0 : 1);
}

std::optional<at::Tensor> LinearOperation::bias() const {
  const Variable* parameter = operation->input(2);
  if (!parameter || !takes_bias) return at::zeros({output_channels}, at::kDouble);
  if (!parameter->is_parameter() || operation->float_attribute("beta", 1.0F) != 1.0F) return std::nullopt;
  return channel_vector(parameter->value(), operation->type() == "Gemm" ? 2 : 1, -1, output_channels);
}

void set_weight(Graph& graph, const LinearOperation& linear, const at::Tensor& weight) {
  const at::ScalarType dtype = linear.operation->input(1)->value().scalar_type();
  set_constant(graph, *linear.operation, 1, weight.to(dtype), linear.operation->name() + "_weight");
}

void set_bias(Graph& graph, const LinearOperation& linear, const at::Tensor& bias) {
  const at::ScalarType dtype = linear.operation->input(1)->value().scalar_type();
  if (!linear.operation->input(2) && linear.operation->has("beta")) linear.operation->set_attribute("beta", 1.0F);
  set_constant(graph, *linear.operation, 2, bias.to(dtype), linear.operation->name() + "_bias");
}

std::optional<at::Tensor> channel_vector(const at::Tensor& constant, std::optional<int64_t> rank, int64_t axis,
                                         int64_t channels) {
  if (!at::isFloatingType(constant.scalar_type())) return std::nullopt;
  if (constant.numel() == 1 && (constant.dim() <= 1 || (rank && constant.dim() <= *rank)))
    return constant.to(at::kDouble).reshape({1}).expand({channels});
  if (constant.numel() != channels) return std::nullopt;
  if (rank && constant.dim() > *rank) return std::nullopt;
  if (axis >= 0 && !rank) return std::nullopt;
  const int64_t from_end = axis < 0 ? -axis : *rank - axis;  // the channel axis, counted from the last dimension
  if (constant.dim() < from_end || constant.size(-from_end) != channels) return std::nullopt;
  if (!rank && constant.dim() > 1) return std::nullopt;
  return constant.to(at::kDouble).reshape({channels});
}

std::optional<at::Tensor> output_vector(const LinearOperation& linear, const at::Tensor& constant) {
  return channel_vector(constant, linear.rank, linear.channel_axis, linear.output_channels);
}

std::optional<at::Tensor> input_vector(const LinearOperation& linear, const at::Tensor& constant) {
  if (linear.operation->int_attribute("transA", 0) != 0) return std::nullopt;
  return channel_vector(constant, linear.rank, linear.channel_axis, linear.input_channels);
}

}  // namespace espq
