#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/graph/attribute.h"
#include "core/quant/scheme.h"
#include "core/quant/target.h"

namespace espq {

class Graph;
class Operation;
class Variable;

/// One place where a variable is read: operand `slot` of `operation`.
struct Use {
  Operation* operation = nullptr;
  int slot = 0;
  bool operator==(const Use&) const = default;
};

/// How a variable of a chip graph is stored: the dtype and exponents of the file.
struct StorageFormat {
  at::ScalarType dtype = at::kFloat;
  std::vector<int> exponents;  ///< one, or one per output channel; empty for tensors that are not quantized
};

/// A tensor flowing through the graph, or a constant parameter.
class Variable {
 public:
  const std::string& name() const { return name_; }
  /// Defined for parameters: the constant itself.
  at::Tensor value;
  /// Static shape; nullopt = not known yet.
  std::optional<Shape> shape;
  at::ScalarType dtype = at::kFloat;
  /// Set in chip graphs only (after lower() or from the .espdl reader). A parameter's `value` then holds integers.
  std::optional<StorageFormat> storage;
  /// Chip graphs: exported_dim[i] = original_dim[permutation[i]]; empty = same order as in the ONNX model.
  std::vector<int> permutation;

  bool is_parameter() const { return value.defined(); }
  Operation* producer() const { return producer_; }
  int producer_slot() const { return producer_slot_; }
  /// Readers in (edit) order; an operation that reads the variable twice appears twice.
  const std::vector<Use>& uses() const { return uses_; }

 private:
  friend class Graph;
  std::string name_;
  Operation* producer_ = nullptr;
  int producer_slot_ = 0;
  std::vector<Use> uses_;
};

/// One node of the network.
class Operation {
 public:
  const std::string& name() const { return name_; }
  std::string type;
  AttributeMap attributes;
  /// Names of the attributes that the model left out and that were filled in with the standard's default.
  std::vector<std::string> implied_attributes;
  /// Arithmetic: nullopt = not dispatched yet.
  std::optional<OperationWidth> width;
  /// True once the quantizer made slots for it.
  bool quantized = false;
  /// One entry per input / output slot when quantized.
  std::vector<SlotQuant> input_quant, output_quant;

  /// Operands in order; nullptr = an omitted optional one.
  const std::vector<Variable*>& inputs() const { return inputs_; }
  const std::vector<Variable*>& outputs() const { return outputs_; }
  Variable* input(size_t slot) const { return slot < inputs_.size() ? inputs_[slot] : nullptr; }
  Variable* output(size_t slot = 0) const { return outputs_.at(slot); }

  bool has(std::string_view key) const { return attributes.count(std::string(key)) != 0; }
  /// Typed access. Throws UserError naming the operation when the attribute is missing or of another type.
  int64_t int_attribute(std::string_view key) const;
  float float_attribute(std::string_view key) const;
  const std::string& string_attribute(std::string_view key) const;
  const std::vector<int64_t>& ints_attribute(std::string_view key) const;
  int64_t int_attribute(std::string_view key, int64_t fallback) const;
  float float_attribute(std::string_view key, float fallback) const;
  std::string string_attribute(std::string_view key, std::string_view fallback) const;
  std::vector<int64_t> ints_attribute(std::string_view key, std::vector<int64_t> fallback) const;

 private:
  friend class Graph;
  std::string name_;
  std::vector<Variable*> inputs_, outputs_;
};

/// Owns operations and variables. Handles stay valid while the object lives; iteration is in insertion order.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;
  /// A deep copy of structure and quantization; parameter tensors are shared (they are never modified
  /// in place). Use lists of the copy are in (operation, slot) order, which is what the file order starts from.
  Graph clone() const;

  std::string name;
  int64_t ir_version = 8;
  int64_t opset = 18;
  /// Chip that the graph was quantized for; nullptr before quantization.
  const Target* target = nullptr;
  /// True for graphs in the chip's layouts and operators (lower(), .espdl reader).
  bool lowered = false;
  ScaleForest scales;

  // --- look-up -----------------------------------------------------------------------------------------------------
  std::vector<Operation*> operations() const;
  std::vector<Variable*> variables() const;
  size_t operation_count() const { return operations_.size(); }
  /// nullptr when there is none of that name.
  Operation* find_operation(std::string_view name) const;
  Variable* find_variable(std::string_view name) const;
  std::vector<Variable*> inputs, outputs;
  bool is_output(const Variable* variable) const;
  bool is_input(const Variable* variable) const;

  /// Kahn's algorithm with a FIFO queue seeded in insertion order (spec of the file order). Throws UserError on a
  /// cycle.
  std::vector<Operation*> topological_order() const;
  /// Producers of the inputs in slot order, duplicates kept.
  std::vector<Operation*> upstream(const Operation& operation) const;
  /// Readers of all outputs, duplicates kept.
  std::vector<Operation*> downstream(const Operation& operation) const;

  // --- creation ----------------------------------------------------------------------------------------------------
  /// Throws UserError when the name is taken. An empty name is replaced by a fresh one.
  Variable& add_variable(std::string name = {});
  /// A constant.
  Variable& add_parameter(std::string name, at::Tensor value);
  Operation& add_operation(std::string type, std::string name, std::vector<Variable*> inputs,
                           std::vector<Variable*> outputs, AttributeMap attributes = {});
  std::string fresh_operation_name();
  std::string fresh_variable_name();

  // --- edit primitives: every change of a link goes through one of these ---------------------------------------------
  void set_input(Operation& operation, size_t slot, Variable* variable);
  void append_input(Operation& operation, Variable* variable);
  void set_output(Operation& operation, size_t slot, Variable* variable);
  /// Drops operand slots from the end (with their quantization).
  void truncate_inputs(Operation& operation, size_t count);
  void rename(Operation& operation, std::string name);
  void rename(Variable& variable, std::string name);
  /// All readers of `from` (and graph outputs, when asked) read `to` instead.
  void replace_uses(Variable& from, Variable& to, bool graph_outputs = true);
  /// A new operation `type` between operand `slot` of `consumer` and what it reads: consumer reads the new variable,
  /// and the new operation takes the consumer's place in the use list.
  Operation& insert_before(Operation& consumer, size_t slot, std::string type, std::string name,
                           AttributeMap attributes = {});
  /// Removes the operation; its outputs stay as variables without producer.
  void remove(Operation& operation);
  /// Removes a variable that nothing produces or reads and that is no graph input or output.
  void remove(Variable& variable);
  /// Removes a one-in one-out operation: readers of its output read its input. Keeps graph output names.
  void bypass(Operation& operation);
  /// Moves the operation to the end of the insertion order.
  void move_to_end(Operation& operation);
  /// Reorders variables (file order); must be a permutation of variables().
  void reorder_variables(const std::vector<Variable*>& order);

 private:
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<std::unique_ptr<Variable>> variables_;
  std::unordered_map<std::string, Operation*> operation_by_name_;
  std::unordered_map<std::string, Variable*> variable_by_name_;
  int64_t next_operation_ = 0, next_variable_ = 0;
  void unlink_input(Operation& operation, size_t slot);
};

/// Exponents of the grid that a slot refers to; empty when unknown.
inline const std::vector<int>& slot_exponents(const Graph& graph, const SlotQuant& slot) {
  return graph.scales.exponents(slot.scale);
}

/// Operations that the variables depend on.
std::unordered_set<const Operation*> operations_behind(std::vector<const Variable*> variables);

/// Names in order.
std::vector<std::string> names_of(const std::vector<Variable*>& variables);

/// Readable text of the whole graph, one line per operation (golden files, debugging).
std::string to_text(const Graph& graph);

}  // namespace espq
