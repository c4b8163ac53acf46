#pragma once
#include <ATen/ATen.h>

#include "core/graph/graph.h"
#include "core/quant/target.h"

namespace espq {

/// Writes small quantized graphs by hand: every operation at 8 bit, every tensor at one exponent unless told otherwise.
struct QuantizedGraph {
  Graph graph;
  int exponent = -4;

  explicit QuantizedGraph(std::string_view target = "esp32p4") {
    graph.set_target(&find_target(target));
    graph.set_stage(Stage::Quantized);
  }

  Variable* input(const std::string& name, Shape shape) {
    Variable& variable = graph.add_variable(name);
    variable.set_shape(std::move(shape));
    graph.add_input(variable);
    return &variable;
  }

  Variable* constant(const std::string& name, at::Tensor value) { return &graph.add_parameter(name, std::move(value)); }

  Variable* integers(const std::string& name, const std::vector<int64_t>& values) {
    return constant(name, at::tensor(values, at::kLong));
  }

  /// A float operation; its output is named like the operation.
  Operation& floating(const std::string& type, const std::string& name, std::vector<Variable*> inputs, Shape shape,
                      AttributeMap attributes = {}) {
    Variable& output = graph.add_variable(name);
    output.set_shape(std::move(shape));
    Operation& operation = graph.add_operation(type, name + ":op", std::move(inputs), {&output}, std::move(attributes));
    operation.set_width(Width::Float);
    return operation;
  }

  SlotQuant slot(int bits, std::vector<int> exponents, int channel_axis = -1) {
    SlotQuant result;
    result.state = SlotState::Quantizes;
    result.bits = bits;
    result.channel_axis = channel_axis;
    result.scale = graph.scales().create();
    graph.scales().set_exponents(result.scale, std::move(exponents));
    return result;
  }

  /// A quantized one; operands that are integers stay as they are.
  Operation& quantized(const std::string& type, const std::string& name, std::vector<Variable*> inputs, Shape shape,
                       AttributeMap attributes = {}) {
    Operation& operation = floating(type, name, std::move(inputs), std::move(shape), std::move(attributes));
    operation.set_width(Width::Int8);
    std::vector<SlotQuant> inputs_quant;
    for (const Variable* operand : operation.inputs())
      inputs_quant.push_back(!operand || operand->dtype() == at::kLong ? SlotQuant{} : slot(8, {exponent}));
    operation.set_quant(std::move(inputs_quant), {slot(8, {exponent})});
    return operation;
  }

  /// A 1x1 or larger convolution that keeps height and width, with random weights on the grid 2^exponent.
  Operation& convolution(const std::string& name, Variable* source, int64_t channels, int64_t kernel = 1) {
    Shape shape = source->shape().value();
    Shape filter{channels, shape[1]};
    for (size_t axis = 2; axis < shape.size(); ++axis) filter.push_back(kernel);
    shape[1] = channels;
    const auto dims = static_cast<size_t>(filter.size() - 2);
    const at::Tensor weights = at::randint(-20, 20, filter).to(at::kFloat) * std::ldexp(1.0f, exponent);
    return quantized("Conv", name, {source, constant(name + ".w", weights)}, shape,
                     {{"strides", std::vector<int64_t>(dims, 1)},
                      {"dilations", std::vector<int64_t>(dims, 1)},
                      {"pads", std::vector<int64_t>(2 * dims, kernel / 2)},
                      {"kernel_shape", std::vector<int64_t>(dims, kernel)},
                      {"group", int64_t{1}}});
  }

  void give(std::vector<Variable*> outputs) { graph.set_outputs(std::move(outputs)); }
};

/// Types of the operations in the order of the file.
inline std::vector<std::string> types(const Graph& graph) {
  std::vector<std::string> result;
  for (const Operation* operation : graph.topological_order()) result.push_back(operation->type());
  return result;
}

}  // namespace espq
