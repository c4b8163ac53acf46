#include "core/analysis/sample_runner.h"

#include <ATen/ATen.h>

#include "core/data/sample_files.h"
#include "core/exec/chip_grid.h"
#include "core/exec/float_layout.h"

namespace espq {
namespace {

Graph interface_of(const Graph& graph, const SampleForm& form) {
  Graph result;
  for (const Variable* input : graph.inputs()) {
    Variable& added = result.add_variable(input->name());
    const bool turned = graph.is_chip() && !form.chip_layout && input->shape();
    added.set_shape(turned ? float_shape(*input) : input->shape());
    added.set_dtype(graph.is_chip() && variable_grid(input).quantized() ? at::kFloat : input->dtype());
    result.add_input(added);
  }
  return result;
}

/// Integers are real numbers to inputs_of(); this gives their type back, which the executor checks.
Tensors as_codes(const Graph& graph, const Dataset::Batch& sample, Tensors inputs) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Variable& input = *graph.inputs()[i];
    const auto found = sample.size() == 1 ? sample.begin() : sample.find(input.name());
    const at::ScalarType given = found->second.scalar_type();
    if (input.storage() && !c10::isFloatingType(given)) inputs[i] = inputs[i].to(given);
  }
  return inputs;
}

}  // namespace

SampleRunner::SampleRunner(const Runnable& model, const SampleForm& form)
    : graph_(model.graph),
      form_(form),
      interface_(interface_of(model.graph, form)),
      executor_(model.graph, model.precision) {}

Tensors SampleRunner::run(const Dataset::Batch& sample, const std::string& where) {
  Tensors inputs = inputs_of(interface_, sample, where);
  if (!graph_.is_chip()) return executor_.run(inputs);
  if (form_.codes) inputs = as_codes(graph_, sample, std::move(inputs));
  if (!form_.chip_layout) return run_in_float_layout(executor_, graph_, inputs, form_.codes);
  Tensors results = executor_.run(inputs);
  if (form_.codes) return results;
  for (size_t i = 0; i < results.size(); ++i) results[i] = real_values(*graph_.outputs()[i], results[i]);
  return results;
}

}  // namespace espq
