#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq::onnx_frontend {

/// Values of a graph's variables when all its inputs are zero, computed only when a rule needs a shape that the file
/// does not tell: with fixed input shapes these values have the shapes of every run.
class SampleRun {
 public:
  explicit SampleRun(const Graph& graph) : graph_(graph) {}
  /// Throws UserError naming `reader` when the value cannot be computed.
  const at::Tensor& value(const Variable& variable, const std::string& reader);

 private:
  const Graph& graph_;
  std::unordered_map<const Variable*, at::Tensor> values_;
  void advance();
};

/// One node of the file on its way into the graph: rules rewrite it before it becomes an operation.
class Draft {
 public:
  std::string type;
  std::string name;
  std::vector<Variable*> inputs, outputs;
  AttributeMap attributes;
  int64_t opset = 18;

  Draft(Graph& graph, SampleRun& sample) : graph_(graph), sample_(sample) {}

  std::string title() const { return type + " '" + name + "'"; }
  Variable* input(size_t slot) const { return slot < inputs.size() ? inputs[slot] : nullptr; }
  /// Puts a variable into an operand slot, filling omitted slots before it.
  void set_input(size_t slot, Variable* variable);
  /// True when somebody may read the output: it has a name in the file.
  bool has_output(size_t slot) const { return slot < outputs.size() && outputs[slot]; }

  template <typename T>
  T attribute(const std::string& key, T fallback) const {
    const auto found = attributes.find(key);
    if (found == attributes.end()) return fallback;
    const T* value = std::get_if<T>(&found->second);
    user_check(value != nullptr, "{}: attribute '{}' has the wrong type", title(), key);
    return *value;
  }
  using Integers = std::vector<int64_t>;
  Integers integers(const std::string& key) const { return attribute<Integers>(key, {}); }

  /// A new parameter named after the node.
  Variable* parameter(const std::string& suffix, at::Tensor value);
  Variable* parameter(const std::string& suffix, const Integers& value);
  /// A new operation in front of the node; returns its only output.
  Variable* emit(const std::string& new_type, const std::string& suffix, std::vector<Variable*> new_inputs,
                 AttributeMap new_attributes = {});
  /// The same with several outputs.
  std::vector<Variable*> emit_many(const std::string& new_type, const std::string& suffix,
                                   std::vector<Variable*> new_inputs, AttributeMap new_attributes, size_t count);
  /// Shape of an operand in every run.
  Shape shape_of(size_t slot);
  /// The constant in an operand slot; undefined when the operand is omitted. Throws UserError when it is computed.
  at::Tensor constant(size_t slot, std::string_view what) const;

  /// The node becomes an operation of the graph.
  Operation& finish();

 private:
  Graph& graph_;
  SampleRun& sample_;
  std::string fresh_variable_name(const std::string& suffix) const;
};

}  // namespace espq::onnx_frontend
