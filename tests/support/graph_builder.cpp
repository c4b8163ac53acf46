#include "tests/support/graph_builder.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "core/ops/operator.h"

namespace espq::test {
namespace {

/// Attributes of a convolution of stride 1 that keeps height and width.
AttributeMap same_size(const Shape& input, int64_t kernel) {
  const size_t rank = input.size() - 2;
  return {{"kernel_shape", Shape(rank, kernel)}, {"pads", Shape(2 * rank, kernel / 2)}};
}

Shape filter_shape(const Shape& input, int64_t channels, int64_t kernel) {
  Shape shape(input.size(), kernel);
  shape[0] = channels;
  shape[1] = input.at(1);
  return shape;
}

/// Name of something that belongs to `name`; empty when that is.
std::string part_of(std::string_view name, const std::string& part) {
  return name.empty() ? std::string() : std::string(name) + part;
}

}  // namespace

GraphBuilder::GraphBuilder(uint64_t seed) : generator_(at::make_generator<at::CPUGeneratorImpl>(seed)) {
  graph.name = "test";
}

GraphBuilder::GraphBuilder(std::string_view target, uint64_t seed) : GraphBuilder(seed) {
  graph.set_target(&find_target(target));
  graph.set_stage(Stage::Quantized);
}

// ------------------------------------------------------------------------------------------------ tensors
Variable* GraphBuilder::input(std::string_view name, Shape shape, at::ScalarType dtype) {
  Variable& result = graph.add_variable(std::string(name));
  samples_.emplace(&result, at::zeros(shape, at::TensorOptions().dtype(dtype)));
  result.set_shape(std::move(shape));
  result.set_dtype(dtype);
  graph.add_input(result);
  return &result;
}

Variable* GraphBuilder::constant(std::string_view name, at::Tensor value) {
  return &graph.add_parameter(std::string(name), std::move(value));
}

Variable* GraphBuilder::scalar(double value) { return constant(at::scalar_tensor(value)); }

Variable* GraphBuilder::integers(std::string_view name, const std::vector<int64_t>& values) {
  return constant(name, at::tensor(values, at::kLong));
}

Variable* GraphBuilder::random(std::string_view name, const Shape& shape, double deviation) {
  return constant(name, at::randn(shape, generator_) * deviation);
}

Variable* GraphBuilder::uniform(std::string_view name, const Shape& shape, double low, double high) {
  return constant(name, at::rand(shape, generator_) * (high - low) + low);
}

// ------------------------------------------------------------------------------------------------ operations
std::vector<Variable*> GraphBuilder::op_with_results(size_t count, std::string_view type, std::string_view name,
                                                     std::vector<Variable*> operands, AttributeMap attributes) {
  Tensors samples;
  for (const Variable* operand : operands)
    samples.push_back(!operand ? at::Tensor() : operand->is_parameter() ? operand->value() : samples_.at(operand));
  std::vector<Variable*> results;
  for (size_t i = 0; i < count; ++i)
    results.push_back(&graph.add_variable(i == 0 ? std::string(name) : part_of(name, fmt::format(".{}", i))));
  Operation& operation =
      graph.add_operation(std::string(type), std::string(name), std::move(operands), results, std::move(attributes));
  normalize_attributes(operation);
  const Tensors computed = definition_of(operation).forward({.operation = operation}, samples);
  for (size_t i = 0; i < count; ++i) {
    results[i]->set_shape(computed.at(i).sizes().vec());
    results[i]->set_dtype(computed[i].scalar_type());
    samples_.emplace(results[i], computed[i].detach());
  }
  return results;
}

Variable* GraphBuilder::op(std::string_view type, std::string_view name, std::vector<Variable*> operands,
                           AttributeMap attributes) {
  return op_with_results(1, type, name, std::move(operands), std::move(attributes)).front();
}

Variable* GraphBuilder::conv(std::string_view name, Variable* source, int64_t channels, int64_t kernel) {
  const Shape& shape = source->shape().value();
  return op("Conv", name,
            {source, random(part_of(name, ".weight"), filter_shape(shape, channels, kernel)),
             random(part_of(name, ".bias"), {channels})},
            same_size(shape, kernel));
}

// ------------------------------------------------------------------------------------------------ quantized graphs
SlotQuant GraphBuilder::slot(int bits, std::vector<int> exponents, int channel_axis, SlotState state) {
  SlotQuant result;
  result.state = state;
  result.bits = bits;
  result.channel_axis = channel_axis;
  result.scale = graph.scales().create();
  graph.scales().set_exponents(result.scale, std::move(exponents));
  return result;
}

Variable* GraphBuilder::floating(std::string_view type, std::string_view name, std::vector<Variable*> operands,
                                 AttributeMap attributes) {
  Variable* result = op(type, name, std::move(operands), std::move(attributes));
  result->producer()->set_width(Width::Float);
  return result;
}

Variable* GraphBuilder::quantized(std::string_view type, std::string_view name, std::vector<Variable*> operands,
                                  AttributeMap attributes) {
  Variable* result = op(type, name, std::move(operands), std::move(attributes));
  Operation& operation = *result->producer();
  operation.set_width(Width::Int8);
  std::vector<SlotQuant> slots;
  for (const Variable* operand : operation.inputs())
    slots.push_back(operand && at::isFloatingType(operand->dtype()) ? slot(8, {exponent}) : SlotQuant{});
  operation.set_quant(std::move(slots), {slot(8, {exponent})});
  return result;
}

Variable* GraphBuilder::quantized_conv(std::string_view name, Variable* source, int64_t channels, int64_t kernel) {
  const Shape& shape = source->shape().value();
  const at::Tensor codes = at::randint(-20, 20, filter_shape(shape, channels, kernel), generator_, at::kFloat);
  return quantized("Conv", name, {source, constant(part_of(name, ".weight"), codes * std::ldexp(1.0f, exponent))},
                   same_size(shape, kernel));
}

// ------------------------------------------------------------------------------------------------ what is there
Operation& GraphBuilder::operation(std::string_view name) {
  Operation* found = graph.find_operation(name);
  if (!found) throw std::out_of_range("the test's graph has no operation '" + std::string(name) + "'");
  return *found;
}

Dataset GraphBuilder::data(int64_t batches) const {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(11);
  std::vector<Dataset::Batch> result(batches);
  for (auto& batch : result)
    for (const Variable* input : graph.inputs()) batch[input->name()] = at::randn(*input->shape(), generator);
  return Dataset(std::move(result));
}

std::vector<std::string> types(const Graph& graph) {
  std::vector<std::string> result;
  for (const Operation* operation : graph.topological_order()) result.push_back(operation->type());
  return result;
}

std::vector<std::string> operation_names(const Graph& graph) {
  std::vector<std::string> result;
  for (const Operation* operation : graph.operations()) result.push_back(operation->name());
  return result;
}

}  // namespace espq::test
