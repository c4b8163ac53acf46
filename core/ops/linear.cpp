#include "core/ops/linear.h"

#include <ATen/ATen.h>

#include <numeric>

#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// A weight [group * a, b, kernel ...] as [group, a, b, kernel ...].
at::Tensor in_groups(const at::Tensor& weight, int64_t groups) {
  Shape grouped{groups, weight.size(0) / groups};
  grouped.insert(grouped.end(), weight.sizes().begin() + 1, weight.sizes().end());
  return weight.reshape(grouped);
}

/// Scales along axis 0 of the weight, or along axis 1, of which every group has its own part of `factors`.
at::Tensor scaled(const at::Tensor& weight, int64_t groups, int axis, const at::Tensor& factors) {
  const at::Tensor grouped = in_groups(weight.to(at::kDouble), axis == 0 ? 1 : groups);
  Shape factor_shape(static_cast<size_t>(grouped.dim()), 1);
  factor_shape[0] = grouped.size(0);
  factor_shape[axis + 1] = grouped.size(axis + 1);
  return (grouped * factors.to(at::kDouble).reshape(factor_shape)).reshape(weight.sizes());
}

}  // namespace

std::optional<LinearOperation> linear_operation(const Operation& operation) {
  const OperatorDefinition& definition = definition_of(operation);
  if (!definition.linear) return std::nullopt;
  LinearOperation linear;
  linear.operation_ = &operation;
  linear.rule_ = &*definition.linear;
  linear.weight_slot_ = *definition.input_slot(OperandRole::Weight);
  linear.bias_slot_ = definition.input_slot(OperandRole::Bias);
  const Variable *data = operation.input(0), *parameter = operation.input(linear.weight_slot_);
  if (!data || data->is_parameter() || !parameter || !parameter->is_parameter()) return std::nullopt;
  const at::Tensor& weight = parameter->value();
  const bool matrix = linear.rule_->channel_axis < 0;
  if (!at::isFloatingType(weight.scalar_type()) || (matrix ? weight.dim() != 2 : weight.dim() < 2)) return std::nullopt;
  const int row_axis = linear.rule_->row_axis(operation);
  linear.groups_ = operation.int_attribute("group", 1);
  const int64_t by_axis[] = {weight.size(0), weight.size(1) * linear.groups_};
  linear.rows_ = by_axis[row_axis];
  linear.input_channels_ = by_axis[1 - row_axis];
  linear.columns_ = linear.rows_ == 0 ? 0 : weight.numel() / linear.rows_;
  return linear;
}

std::optional<LinearOperation> linear_producer(const Graph& graph, const Operation& consumer, size_t slot) {
  const Variable* value = consumer.input(slot);
  if (!value || !value->producer() || sole_consumer(graph, *value) != &consumer) return std::nullopt;
  return linear_operation(*value->producer());
}

Operation& LinearOperation::operation(Graph& graph) const {
  Operation* operation = graph.find_operation(operation_->name());
  internal_check(operation == operation_, "'" + operation_->name() + "' belongs to another graph");
  return *operation;
}

std::optional<int64_t> LinearOperation::rank() const {
  if (rule_->channel_axis >= 0) return weight().dim();
  return bias_slot_ ? 2 : rank_of(operation_->input(0));
}

at::Tensor LinearOperation::rows_first(const at::Tensor& like_weight) const {
  if (rule_->row_axis(*operation_) == 0) return like_weight;
  const at::Tensor turned = in_groups(like_weight, groups_).transpose(1, 2);
  return turned.flatten(0, 1);
}

at::Tensor LinearOperation::matrices() const {
  return rows_first(weight()).reshape({groups_, rows_ / groups_, columns_});
}

at::Tensor LinearOperation::weight_from(const at::Tensor& matrices) const {
  const Shape shape = weight().sizes().vec();
  if (rule_->row_axis(*operation_) == 0) return matrices.reshape(shape);
  Shape turned{groups_, shape[1], shape[0] / groups_};
  turned.insert(turned.end(), shape.begin() + 2, shape.end());
  return matrices.reshape(turned).transpose(1, 2).reshape(shape);
}

at::Tensor LinearOperation::scaled_rows(const at::Tensor& factors) const {
  return scaled(weight(), groups_, rule_->row_axis(*operation_), factors);
}

at::Tensor LinearOperation::scaled_columns(const at::Tensor& factors) const {
  return scaled(weight(), groups_, 1 - rule_->row_axis(*operation_), factors);
}

std::optional<at::Tensor> LinearOperation::bias() const {
  const Variable* parameter = bias_variable();
  if (!parameter) return at::zeros({rows_}, at::kDouble);
  if (!parameter->is_parameter() || operation_->float_attribute("beta", 1.0F) != 1.0F) return std::nullopt;
  return channel_vector(parameter->value(), rule_->channel_axis < 0 ? 2 : 1, -1, rows_);
}

void LinearOperation::set_weight(Graph& graph, const at::Tensor& weight) const {
  set_constant(graph, operation(graph), weight_slot_, weight.to(this->weight().scalar_type()),
               operation_->name() + "_weight");
}

void LinearOperation::set_bias(Graph& graph, const at::Tensor& bias) const {
  internal_check(bias_slot_.has_value(), "'" + operation_->name() + "' takes no bias");
  Operation& changed = operation(graph);
  if (!bias_variable() && changed.has("beta")) changed.set_attribute("beta", 1.0F);
  set_constant(graph, changed, *bias_slot_, bias.to(weight().scalar_type()), operation_->name() + "_bias");
}

std::vector<LinearOperation> LinearOperation::split_outputs(Graph& graph, const std::vector<int64_t>& rows) const {
  Operation& whole = operation(graph);
  const auto total_bias = bias();
  internal_check(groups_ == 1 && !whole.quantized() && total_bias &&
                     std::accumulate(rows.begin(), rows.end(), int64_t{0}) == rows_,
                 "'" + whole.name() + "' cannot be split into these parts");
  Variable& result = *whole.output();
  std::vector<Variable*> pieces;
  std::vector<LinearOperation> parts;
  int64_t first = 0;
  for (const int64_t count : rows) {
    const std::string name = free_operation_name(graph, whole.name() + "_part");
    const at::Tensor filters = weight().narrow(rule_->row_axis(whole), first, count).contiguous();
    std::vector<Variable*> inputs = whole.inputs();
    inputs[weight_slot_] = &graph.add_parameter(free_variable_name(graph, name + "_weight"), filters);
    if (bias_variable())
      inputs[*bias_slot_] = &graph.add_parameter(free_variable_name(graph, name + "_bias"),
                                                 total_bias->narrow(0, first, count).to(filters.scalar_type()));
    std::optional<Shape> shape = result.shape();
    if (shape) shape->at(rule_->channel_axis < 0 ? shape->size() - 1 : rule_->channel_axis) = count;
    pieces.push_back(&add_value(graph, result, std::move(shape)));
    Operation& part = graph.add_operation(whole.type(), name, std::move(inputs), {pieces.back()}, whole.attributes());
    parts.push_back(*linear_operation(part));
    first += count;
  }
  const std::string name = whole.name();
  const int64_t axis = rule_->channel_axis;
  Variable* const replaced[] = {whole.input(weight_slot_), bias_slot_ ? whole.input(*bias_slot_) : nullptr};
  graph.remove(whole);
  for (Variable* parameter : replaced)
    if (parameter && parameter->uses().empty() && !graph.is_output(parameter)) graph.remove(*parameter);
  graph.add_operation("Concat", name, std::move(pieces), {&result}, {{"axis", axis}});
  return parts;
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
  return channel_vector(constant, linear.rank(), linear.rule().channel_axis, linear.rows());
}

std::optional<at::Tensor> input_vector(const LinearOperation& linear, const at::Tensor& constant) {
  if (linear.operation().int_attribute("transA", 0) != 0) return std::nullopt;
  return channel_vector(constant, linear.rank(), linear.rule().channel_axis, linear.input_channels());
}

}  // namespace espq
