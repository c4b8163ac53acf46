#include "passes/legalize/rewriter.h"

#include <ATen/ATen.h>

#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/simplify/rewrite.h"

namespace espq {

namespace {

/// Of the operation on zeros, and on the constants among its operands: with the shapes and types that the results have.
Tensors sample_results(const Operation& operation) {
  Tensors inputs;
  for (const Variable* input : operation.inputs()) {
    if (!input) {
      inputs.emplace_back();
    } else if (input->is_parameter()) {
      inputs.push_back(input->value());
    } else {
      internal_check(input->shape().has_value(), "'" + input->name() + "' has no shape");
      inputs.push_back(at::zeros(*input->shape(), input->dtype()));
    }
  }
  return definition_of(operation).forward({.operation = operation}, inputs);
}

void set_shapes(Operation& operation) {
  const Tensors results = sample_results(operation);
  for (size_t i = 0; i < operation.outputs().size() && i < results.size(); ++i)
    if (Variable* output = operation.outputs()[i])
      output->set_shape(results[i].defined() ? results[i].sizes().vec() : Shape());
}

}  // namespace

Rewriter::Rewriter(Graph& graph, Operation& origin, Origins* origins, int bits, const LegalizeOptions& options)
    : graph_(graph), origin_(origin), origins_(origins), bits_(bits), options_(options), width_(origin.width()) {
  if (!width_) return;
  const bool without_grids = width_->is_float() && !definition_of(origin).quantization.quantizable;
  const bool narrowed = width_ == Width::Int8 && bits == 16 && default_width(origin, bits) == width_;
  by_operator_ = without_grids || narrowed;
}

std::optional<Width> Rewriter::width_for(const Operation& made) const {
  if (!by_operator_) return width_;
  const Width own = default_width(made, bits_);
  return own.is_float() ? width_ : own;
}

void Rewriter::record_origin(const std::string& made, const std::string& origin) {
  if (!origins_) return;
  const auto known = origins_->find(origin);
  (*origins_)[made] = known == origins_->end() ? origin : known->second;
}

const Shape& Rewriter::shape(size_t slot) const {
  const Variable* input = origin_.input(slot);
  user_check(input && input->shape(), "operation '{}' ({}): the shape of operand {} is not known", origin_.name(),
             origin_.type(), slot);
  return *input->shape();
}

Variable& Rewriter::constant(std::string_view part, const at::Tensor& value) {
  return graph_.add_parameter(free_variable_name(graph_, fmt::format("{}_{}", origin_.name(), part)), value);
}

Variable& Rewriter::constant(std::string_view part, const std::vector<int64_t>& values) {
  return constant(part, integer_tensor(values));
}

Variable& Rewriter::number(std::string_view part, double value) {
  return constant(part, at::scalar_tensor(value, at::kFloat));
}

Operation& Rewriter::make(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                          const std::vector<Variable*>& outputs, AttributeMap attributes) {
  const std::string name = free_operation_name(graph_, fmt::format("{}_{}", origin_.name(), part));
  Operation& made = graph_.add_operation(std::string(type), name, inputs, outputs, std::move(attributes));
  normalize_attributes(made);
  made.set_width(width_for(made));
  record_origin(name, origin_.name());
  return made;
}

Variable& Rewriter::add(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                        AttributeMap attributes) {
  Variable& result = add_value(graph_, *inputs.at(0), std::nullopt,
                               free_variable_name(graph_, fmt::format("{}_{}", origin_.name(), part)));
  const Tensors results = sample_results(make(type, part, inputs, {&result}, std::move(attributes)));
  result.set_shape(results.at(0).sizes().vec());
  result.set_dtype(results[0].scalar_type());
  return result;
}

Variable& Rewriter::before(size_t slot, std::string_view type, std::string_view part,
                           const std::vector<Variable*>& more, AttributeMap attributes) {
  std::vector<Variable*> inputs{origin_.input(slot)};
  inputs.insert(inputs.end(), more.begin(), more.end());
  Variable& result = add(type, part, inputs, std::move(attributes));
  graph_.set_input(origin_, slot, &result);
  return result;
}

void Rewriter::after(std::string_view type, std::string_view part, const std::vector<Variable*>& more,
                     AttributeMap attributes) {
  Variable* result = origin_.output();
  Variable& inside = add_value(graph_, *result, std::nullopt, free_variable_name(graph_, origin_.name() + "_inside"));
  graph_.set_output(origin_, 0, &inside);
  set_shapes(origin_);
  std::vector<Variable*> inputs{&inside};
  inputs.insert(inputs.end(), more.begin(), more.end());
  make(type, part, inputs, {result}, std::move(attributes));
}

void Rewriter::become(std::string_view type, const std::vector<Variable*>& inputs, AttributeMap attributes) {
  espq::become(graph_, origin_, std::string(type), inputs, std::move(attributes));
  origin_.set_width(width_for(origin_));
}

void Rewriter::remake(std::vector<Variable*> outputs) {
  const std::string name = origin_.name(), type = origin_.type();
  const auto width = origin_.width();
  const std::vector<Variable*> inputs = origin_.inputs();
  AttributeMap attributes = origin_.attributes();
  std::vector<std::string> implied = origin_.implied_attributes();
  graph_.remove(origin_);
  for (size_t slot = 0; slot < outputs.size(); ++slot)
    if (!outputs[slot])
      outputs[slot] = &add_value(graph_, *inputs.at(0), std::nullopt,
                                 free_variable_name(graph_, fmt::format("{}_output{}", name, slot)));
  Operation& made = graph_.add_operation(type, name, inputs, outputs);
  made.set_attributes(std::move(attributes), std::move(implied));
  made.set_width(width);
  set_shapes(made);
}

void Rewriter::replace(const std::vector<Variable*>& values) {
  const std::vector<Variable*> outputs = origin_.outputs();
  const std::string name = origin_.name();
  graph_.remove(origin_);
  bool named = false;
  for (size_t slot = 0; slot < outputs.size(); ++slot) {
    if (!outputs[slot]) continue;
    const std::string own = named ? free_operation_name(graph_, fmt::format("{}_output{}", name, slot)) : name;
    named = true;
    Variable& shape =
        graph_.add_parameter(free_variable_name(graph_, own + "_shape"), integer_tensor(*values.at(slot)->shape()));
    Operation& last = graph_.add_operation("Reshape", own, {values[slot], &shape}, {outputs[slot]});
    normalize_attributes(last);
    last.set_width(width_for(last));
    set_shapes(last);
    if (own != name) record_origin(own, name);
  }
}

namespace {

bool is_permutation(std::vector<int64_t> indices, int64_t size) {
  std::sort(indices.begin(), indices.end());
  for (size_t i = 0; i < indices.size(); ++i)
    if (indices[i] != static_cast<int64_t>(i)) return false;
  return static_cast<int64_t>(indices.size()) == size;
}

/// The convolution of one group whose channels `value` has, through functions of single elements; everything on the
/// way is read once.
std::optional<LinearOperation> convolution_behind(const Graph& graph, const Variable& value) {
  const Variable* at = &value;
  while (at->producer() && sole_consumer(graph, *at)) {
    const Operation& producer = *at->producer();
    if (const auto linear = linear_operation(producer)) {
      const bool fits = producer.type() == "Conv" && linear->groups() == 1 && linear->bias();
      return fits ? linear : std::nullopt;
    }
    const OperatorDefinition& definition = definition_of(producer);
    const bool per_element = definition.layout == LayoutRule::Elementwise && definition.inputs.size() == 1;
    if (!per_element && producer.type() != "Clip") return std::nullopt;
    at = producer.input(0);
  }
  return std::nullopt;
}

}  // namespace

Variable& Rewriter::pick(Variable& value, int64_t axis, const std::vector<int64_t>& indices, std::string_view part) {
  if (axis == 1 && is_permutation(indices, value.shape()->at(1)))
    if (const auto linear = convolution_behind(graph_, value)) {
      const at::Tensor order = integer_tensor(indices);
      const bool biased = linear->bias_variable() != nullptr;
      const at::Tensor bias = *linear->bias();
      linear->set_weight(graph_, linear->weight().index_select(0, order));
      if (biased) linear->set_bias(graph_, bias.index_select(0, order));
      return value;
    }
  return add("Gather", part, {&value, &constant(fmt::format("{}_indices", part), indices)}, {{"axis", axis}});
}

void Rewriter::pick_after(int64_t axis, const std::vector<int64_t>& indices, std::string_view part) {
  after("Gather", part, {&constant(fmt::format("{}_indices", part), indices)}, {{"axis", axis}});
}

void pad_in_front(Rewriter& rewriter, Window& window) {
  std::vector<int64_t> pads{0, 0};
  pads.insert(pads.end(), window.begin.begin(), window.begin.end());
  pads.insert(pads.end(), {0, 0});
  pads.insert(pads.end(), window.end.begin(), window.end.end());
  rewriter.before(0, "Pad", "padding", {&rewriter.constant("pads", pads)}, {{"mode", std::string("constant")}});
  window.begin.assign(window.rank(), 0);
  window.end.assign(window.rank(), 0);
}

at::Tensor response(const Operation& operation, const Shape& input, int64_t axis, const at::Tensor& values) {
  Shape line(input.size(), 1);
  line[axis] = values.numel();
  Tensors operands{values.reshape(line).expand(input)};
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
    operands.push_back(operation.input(slot) ? operation.input(slot)->value() : at::Tensor());
  at::Tensor result = definition_of(operation).forward({.operation = operation}, operands)[0];
  for (int64_t other = result.dim(); other-- > 0;)
    if (other != axis) result = result.select(other, 0);
  return result;
}

bool Rewriter::become_gathers() {
  const Shape input = shape(0);
  std::vector<std::pair<int64_t, std::vector<int64_t>>> picks;
  for (size_t axis = 0; axis < input.size(); ++axis) {
    const at::Tensor positions = at::arange(input[axis], at::kFloat);
    const at::Tensor source = response(origin_, input, static_cast<int64_t>(axis), positions);
    if (source.numel() == input[axis] && source.equal(positions)) continue;
    const at::Tensor indices = source.to(at::kLong).contiguous();
    const auto* first = indices.const_data_ptr<int64_t>();
    picks.emplace_back(static_cast<int64_t>(axis), std::vector<int64_t>(first, first + indices.numel()));
  }
  if (picks.empty()) return false;
  Variable* value = origin_.input(0);
  for (size_t i = 0; i + 1 < picks.size(); ++i)
    value = &pick(*value, picks[i].first, picks[i].second, fmt::format("axis{}", picks[i].first));
  Variable& last = constant("indices", picks.back().second);
  become("Gather", {value, &last}, {{"axis", picks.back().first}});
  return true;
}

}  // namespace espq
