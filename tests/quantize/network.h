#pragma once
#include <ATen/ATen.h>

#include "core/data/dataset.h"
#include "core/exec/executor.h"
#include "core/graph/graph.h"
#include "core/ops/operator.h"

namespace espq {

/// A small network built by hand. Operations are called after their output variables.
struct Network {
  Graph graph;

  Variable* input(const std::string& name, Shape shape) {
    Variable& variable = graph.add_variable(name);
    variable.set_shape(std::move(shape));
    graph.add_input(variable);
    return &variable;
  }

  Variable* constant(const std::string& name, const at::Tensor& value) { return &graph.add_parameter(name, value); }

  Variable* add(const std::string& type, const std::string& name, std::vector<Variable*> inputs,
                AttributeMap attributes = {}) {
    Variable& output = graph.add_variable(name + ".out");
    Operation& operation = graph.add_operation(type, name, std::move(inputs), {&output}, std::move(attributes));
    normalize_attributes(operation);
    return &output;
  }

  /// A 3x3 convolution with bias that keeps height and width; weights are seeded by the name.
  Variable* conv(const std::string& name, Variable* x, int64_t in, int64_t out) {
    at::manual_seed(std::hash<std::string>()(name));
    return add("Conv", name,
               {x, constant(name + ".w", at::randn({out, in, 3, 3})), constant(name + ".b", at::randn({out}))},
               {{"kernel_shape", std::vector<int64_t>{3, 3}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  }

  void finish(std::vector<Variable*> outputs) {
    graph.set_outputs(std::move(outputs));
    infer_shapes(graph, zero_inputs(graph));
  }

  Operation& operation(const std::string& name) { return *graph.find_operation(name); }
  const SlotQuant& in(const std::string& name, size_t slot = 0) { return operation(name).input_quant().at(slot); }
  const SlotQuant& out(const std::string& name, size_t slot = 0) { return operation(name).output_quant().at(slot); }
  std::vector<int> exponents(const SlotQuant& slot) { return slot_exponents(graph, slot); }

  /// Normally distributed batches for every input.
  Dataset data(int batches = 3) const {
    at::manual_seed(11);
    std::vector<Dataset::Batch> result(batches);
    for (auto& batch : result)
      for (const Variable* input : graph.inputs())
        batch[graph.inputs().size() == 1 ? "" : input->name()] = at::randn(*input->shape());
    return Dataset(std::move(result));
  }
};

}  // namespace espq
