#include "passes/simplify/remove_no_ops.h"

#include <ATen/ATen.h>

#include <numeric>
#include <unordered_map>

#include "core/graph/match.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool same_shape(const Operation& operation) {
  const Variable* source = operation.input(0);
  return source->shape() && operation.output()->shape() && *source->shape() == *operation.output()->shape();
}

bool unused(const Graph& graph, const Operation& operation, size_t slot) {
  if (slot >= operation.outputs().size() || !operation.output(slot)) return true;
  return operation.output(slot)->uses().empty() && !graph.is_output(operation.output(slot));
}

bool is_idle_dropout(const Graph& graph, const Operation& operation) {
  const Variable* training = operation.input(2);
  if (training && scalar_constant(training) != 0.0) return false;
  return unused(graph, operation, 1);
}

bool is_idle_cast(const Operation& operation) {
  // Types are known together with shapes; an unknown shape means that the type is a guess.
  return operation.input(0)->shape() && operation.output()->shape() &&
         operation.input(0)->dtype() == operation.output()->dtype();
}

bool is_idle_transpose(const Operation& operation) {
  if (!operation.has("perm")) return false;
  const auto& order = operation.ints_attribute("perm");
  return std::is_sorted(order.begin(), order.end());
}

bool is_idle_pad(const Operation& operation) {
  const auto pads = integer_constant(operation.input(1));
  return pads && std::all_of(pads->begin(), pads->end(), [](int64_t pad) { return pad == 0; });
}

/// The sizes can also agree when a slice reverses its operand.
bool is_idle_slice(const Operation& operation) {
  if (!same_shape(operation)) return false;
  if (!operation.input(4)) return true;
  const auto steps = integer_constant(operation.input(4));
  return steps && std::all_of(steps->begin(), steps->end(), [](int64_t step) { return step > 0; });
}

/// The largest, the smallest and the mean of one tensor, however often it is given.
bool reads_one_tensor(const Operation& operation) {
  return std::all_of(operation.inputs().begin(), operation.inputs().end(),
                     [&](const Variable* operand) { return operand == operation.input(0); });
}

bool is_zero(const Variable* value) {
  return value && value->is_parameter() && value->value().numel() > 0 && value->value().eq(0).all().item<bool>();
}

/// Adds or subtracts zeros.
bool changes_nothing(const Operation& operation) { return same_shape(operation) && is_zero(operation.input(1)); }

/// 0 + x as x + 0.
void bring_zeros_behind(Graph& graph, Operation& operation) {
  if (operation.type() != "Add" || !is_zero(operation.input(0))) return;
  Variable* zeros = operation.input(0);
  graph.set_input(operation, 0, operation.input(1));
  graph.set_input(operation, 1, zeros);
}

bool is_relu_on_relu(const Operation& operation) { return producer_of(operation.input(0), "Relu") != nullptr; }

using Test = bool (*)(const Graph&, const Operation&);

const std::unordered_map<std::string_view, Test>& tests() {
  static const Test reshapes = [](const Graph&, const Operation& operation) { return same_shape(operation); };
  static const Test repeats = [](const Graph&, const Operation& operation) { return reads_one_tensor(operation); };
  static const Test zeros = [](const Graph&, const Operation& operation) { return changes_nothing(operation); };
  static const std::unordered_map<std::string_view, Test> table{
      {"Identity", [](const Graph&, const Operation&) { return true; }},
      {"Dropout", is_idle_dropout},
      {"Cast", [](const Graph&, const Operation& operation) { return is_idle_cast(operation); }},
      {"Transpose", [](const Graph&, const Operation& operation) { return is_idle_transpose(operation); }},
      {"Reshape", reshapes},
      {"Flatten", reshapes},
      {"Squeeze", reshapes},
      {"Unsqueeze", reshapes},
      {"Expand", reshapes},
      {"Pad", [](const Graph&, const Operation& operation) { return is_idle_pad(operation); }},
      {"Slice", [](const Graph&, const Operation& operation) { return is_idle_slice(operation); }},
      {"Concat", [](const Graph&, const Operation& operation) { return operation.inputs().size() == 1; }},
      {"Add", zeros},
      {"Sub", zeros},
      {"Max", repeats},
      {"Min", repeats},
      {"Mean", repeats},
      {"Relu", [](const Graph&, const Operation& operation) { return is_relu_on_relu(operation); }},
  };
  return table;
}

}  // namespace

PassReport remove_no_ops(Graph& graph) {
  PassReport report{"remove_no_ops"};
  for (Operation* operation : graph.operations()) {
    const auto test = tests().find(operation->type());
    if (test == tests().end() || !operation->input(0) || !operation->output()) continue;
    bring_zeros_behind(graph, *operation);
    if (!test->second(graph, *operation)) continue;
    if (!can_bypass(graph, *operation)) {
      // The whole network, or a copy of another output: it stays, but computes nothing.
      if (operation->inputs().size() == 1 || !reads_one_tensor(*operation)) continue;
      report.count("idle " + operation->type() + " became Identity", operation->name());
      become(graph, *operation, "Identity", {operation->input(0)});
      continue;
    }
    report.count("idle " + operation->type() + " removed", operation->name());
    for (size_t slot = 1; slot < operation->outputs().size(); ++slot) graph.set_output(*operation, slot, nullptr);
    graph.bypass(*operation);
  }
  return report;
}

}  // namespace espq
