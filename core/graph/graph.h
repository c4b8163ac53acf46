#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <iterator>
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

/// What a graph may contain; verify() (core/ops/operator.h) checks it.
enum class Stage {
  Float,      ///< the network as imported: floats, no grids
  Quantized,  ///< slots of its operations carry grids, values are still floats
  Chip,       ///< layouts, operators and integers of the chip library: what a file holds
};

/// One place where a variable is read: operand `slot` of `operation`.
struct Use {
  Operation* operation = nullptr;
  int slot = 0;
  bool operator==(const Use&) const = default;
};

/// The same, of a graph that may not be changed.
struct ConstUse {
  const Operation* operation = nullptr;
  int slot = 0;
  bool operator==(const ConstUse&) const = default;
};

/// Readers of a variable that may not be changed: a view, as good as the variable.
class ConstUses {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = ConstUse;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = ConstUse;
    Iterator() = default;
    explicit Iterator(const Use* place) : place_(place) {}
    ConstUse operator*() const { return {place_->operation, place_->slot}; }
    Iterator& operator++() {
      ++place_;
      return *this;
    }
    Iterator operator++(int) { return Iterator(place_++); }
    bool operator==(const Iterator&) const = default;

   private:
    const Use* place_ = nullptr;
  };
  explicit ConstUses(const std::vector<Use>& uses) : uses_(&uses) {}
  Iterator begin() const { return Iterator(uses_->data()); }
  Iterator end() const { return Iterator(uses_->data() + uses_->size()); }
  size_t size() const { return uses_->size(); }
  bool empty() const { return uses_->empty(); }
  ConstUse operator[](size_t index) const { return {(*uses_)[index].operation, (*uses_)[index].slot}; }
  ConstUse front() const { return (*this)[0]; }

 private:
  const std::vector<Use>* uses_;
};

/// How a variable of a chip graph is stored: the dtype and exponents of the file.
struct StorageFormat {
  at::ScalarType dtype = at::kFloat;
  std::vector<int> exponents;  ///< one, or one per output channel; empty for tensors that are not quantized
};

/// A tensor flowing through the graph, or a constant parameter. Whatever changes one counts in Graph::revision().
class Variable {
 public:
  const std::string& name() const { return name_; }
  /// Defined for parameters: the constant itself.
  const at::Tensor& value() const { return value_; }
  /// Static shape; nullopt = not known yet.
  const std::optional<Shape>& shape() const { return shape_; }
  at::ScalarType dtype() const { return dtype_; }
  /// Set in chip graphs only (after lower() or from the .espdl reader). A parameter's value then holds integers.
  const std::optional<StorageFormat>& storage() const { return storage_; }
  /// Chip graphs: exported_dim[i] = original_dim[permutation[i]]; empty = same order as in the ONNX model.
  const std::vector<int>& permutation() const { return permutation_; }

  bool is_parameter() const { return value_.defined(); }
  Operation* producer() { return producer_; }
  const Operation* producer() const { return producer_; }
  int producer_slot() const { return producer_slot_; }
  /// Readers in (edit) order; an operation that reads the variable twice appears twice.
  const std::vector<Use>& uses() { return uses_; }
  ConstUses uses() const { return ConstUses(uses_); }

  /// Makes it a constant, whose shape and dtype are those of `value`.
  void set_value(at::Tensor value);
  void set_shape(std::optional<Shape> shape);
  void set_dtype(at::ScalarType dtype);
  void set_storage(std::optional<StorageFormat> storage);
  void set_permutation(std::vector<int> permutation);

 private:
  friend class Graph;
  std::string name_;
  at::Tensor value_;
  std::optional<Shape> shape_;
  at::ScalarType dtype_ = at::kFloat;
  std::optional<StorageFormat> storage_;
  std::vector<int> permutation_;
  Operation* producer_ = nullptr;
  int producer_slot_ = 0;
  std::vector<Use> uses_;
  uint64_t* revision_ = nullptr;
};

/// What the chip library is told about an operation beside its operands and the attributes of its operator. Only the
/// .espdl writer and reader know which attributes these are in a file.
struct ChipFacts {
  /// Which kernels run it. nullopt = the file does not say.
  std::optional<Width> kernels = {};
  /// LUT, from the Quantized stage on: the operator whose values the table holds. Empty = the file does not say.
  std::string function = {};
  /// Distance of the inputs of neighbouring entries in the 16-bit table, from the Quantized stage on.
  std::optional<int> table_step = {};
  /// The table, a constant that no operation reads; nullptr = none.
  const Variable* table = nullptr;
  /// Operators that can apply a Relu to their result: whether they do. nullopt = nothing is said.
  std::optional<bool> fused_relu = {};
  /// GRU and LSTM: exponent of gates and cell state.
  std::optional<int> gate_exponent = {};

  bool operator==(const ChipFacts&) const = default;
};

/// One node of the network. Whatever changes one counts in Graph::revision().
class Operation {
 public:
  const std::string& name() const { return name_; }
  const std::string& type() const { return type_; }
  const AttributeMap& attributes() const { return attributes_; }
  /// Names of the attributes that the model left out and that were filled in with the standard's default.
  const std::vector<std::string>& implied_attributes() const { return implied_attributes_; }
  /// Arithmetic: nullopt = not dispatched yet.
  const std::optional<Width>& width() const { return width_; }
  /// True once the quantizer made slots for it.
  bool quantized() const { return quantized_; }
  const ChipFacts& chip() const { return chip_; }
  /// One entry per input / output slot when quantized.
  const std::vector<SlotQuant>& input_quant() const { return input_quant_; }
  const std::vector<SlotQuant>& output_quant() const { return output_quant_; }

  /// Operands in order; nullptr = an omitted optional one.
  const std::vector<Variable*>& inputs() { return inputs_; }
  std::span<const Variable* const> inputs() const { return inputs_; }
  const std::vector<Variable*>& outputs() { return outputs_; }
  std::span<const Variable* const> outputs() const { return outputs_; }
  Variable* input(size_t slot) { return slot < inputs_.size() ? inputs_[slot] : nullptr; }
  const Variable* input(size_t slot) const { return slot < inputs_.size() ? inputs_[slot] : nullptr; }
  Variable* output(size_t slot = 0) { return outputs_.at(slot); }
  const Variable* output(size_t slot = 0) const { return outputs_.at(slot); }

  bool has(std::string_view key) const { return attributes_.count(std::string(key)) != 0; }
  /// Typed access. Throws UserError naming the operation when the attribute is missing or of another type.
  int64_t int_attribute(std::string_view key) const;
  float float_attribute(std::string_view key) const;
  const std::string& string_attribute(std::string_view key) const;
  const std::vector<int64_t>& ints_attribute(std::string_view key) const;
  int64_t int_attribute(std::string_view key, int64_t fallback) const;
  float float_attribute(std::string_view key, float fallback) const;
  std::string string_attribute(std::string_view key, std::string_view fallback) const;
  std::vector<int64_t> ints_attribute(std::string_view key, std::vector<int64_t> fallback) const;

  void retype(std::string type);
  void set_attribute(std::string_view key, Attribute value);
  void remove_attribute(std::string_view key);
  void set_attributes(AttributeMap attributes, std::vector<std::string> implied = {});
  void set_width(std::optional<Width> width);
  ChipFacts& edit_chip();
  /// Quantizes the operation: one slot per operand and one per output.
  void set_quant(std::vector<SlotQuant> inputs, std::vector<SlotQuant> outputs);
  void clear_quant();
  /// A slot to change. The reference is good until slots are added or removed.
  SlotQuant& edit_input_quant(size_t slot);
  SlotQuant& edit_output_quant(size_t slot);

 private:
  friend class Graph;
  std::string name_, type_;
  AttributeMap attributes_;
  std::vector<std::string> implied_attributes_;
  std::optional<Width> width_;
  ChipFacts chip_;
  bool quantized_ = false;
  std::vector<SlotQuant> input_quant_, output_quant_;
  std::vector<Variable*> inputs_, outputs_;
  uint64_t* revision_ = nullptr;
};

/// Owns operations and variables. Handles stay valid while the object lives; iteration is in insertion order. A const
/// graph gives const handles.
class Graph {
 public:
  Graph();
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

  Stage stage() const { return stage_; }
  bool is_chip() const { return stage_ == Stage::Chip; }
  void set_stage(Stage stage);
  /// Chip that the graph was quantized for; nullptr before quantization.
  const Target* target() const { return target_; }
  void set_target(const Target* target);
  /// Grows with every change of the graph, its operations, variables and scales: what was computed from a graph is
  /// stale when the number is another one.
  uint64_t revision() const { return *revision_ + scales_.revision(); }
  /// Counts as a change: for parameters whose tensors were written in place.
  void touch() { ++*revision_; }

  const ScaleForest& scales() const { return scales_; }
  ScaleForest& scales() { return scales_; }

  // --- look-up -----------------------------------------------------------------------------------------------------
  std::vector<Operation*> operations();
  std::vector<const Operation*> operations() const;
  std::vector<Variable*> variables();
  std::vector<const Variable*> variables() const;
  size_t operation_count() const { return operations_.size(); }
  /// nullptr when there is none of that name.
  Operation* find_operation(std::string_view name);
  const Operation* find_operation(std::string_view name) const;
  Variable* find_variable(std::string_view name);
  const Variable* find_variable(std::string_view name) const;
  const std::vector<Variable*>& inputs() { return inputs_; }
  std::span<const Variable* const> inputs() const { return inputs_; }
  const std::vector<Variable*>& outputs() { return outputs_; }
  std::span<const Variable* const> outputs() const { return outputs_; }
  bool is_output(const Variable* variable) const;
  bool is_input(const Variable* variable) const;

  /// Kahn's algorithm with a FIFO queue seeded in insertion order (spec of the file order). Throws UserError on a
  /// cycle.
  std::vector<Operation*> topological_order();
  std::vector<const Operation*> topological_order() const;
  /// Producers of the inputs in slot order, duplicates kept.
  std::vector<Operation*> upstream(const Operation& operation);
  std::vector<const Operation*> upstream(const Operation& operation) const;
  /// Readers of all outputs, duplicates kept.
  std::vector<Operation*> downstream(const Operation& operation);
  std::vector<const Operation*> downstream(const Operation& operation) const;

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
  void set_inputs(std::vector<Variable*> inputs);
  void add_input(Variable& variable);
  void set_outputs(std::vector<Variable*> outputs);
  void add_output(Variable& variable);
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
  /// Removes a variable that nothing produces or reads and that is no graph input, output or look-up table.
  void remove(Variable& variable);
  /// Removes a one-in one-out operation: readers of its output read its input. Keeps graph output names.
  void bypass(Operation& operation);
  /// Moves the operation to the end of the insertion order.
  void move_to_end(Operation& operation);
  /// Reorders variables (file order); must be a permutation of variables().
  void reorder_variables(const std::vector<Variable*>& order);

 private:
  Stage stage_ = Stage::Float;
  const Target* target_ = nullptr;
  ScaleForest scales_;
  std::unique_ptr<uint64_t> revision_;  ///< on the heap, so that handles find it after the graph has moved
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<std::unique_ptr<Variable>> variables_;
  std::vector<Variable*> inputs_, outputs_;
  std::unordered_map<std::string, Operation*> operation_by_name_;
  std::unordered_map<std::string, Variable*> variable_by_name_;
  int64_t next_operation_ = 0, next_variable_ = 0;
  void unlink_input(Operation& operation, size_t slot);
};

/// Exponents of the grid that a slot refers to; empty when unknown.
inline const std::vector<int>& slot_exponents(const Graph& graph, const SlotQuant& slot) {
  return graph.scales().exponents(slot.scale);
}

/// Operations that the variables depend on.
std::unordered_set<const Operation*> operations_behind(std::vector<const Variable*> variables);

/// Names in order.
std::vector<std::string> names_of(std::span<const Variable* const> variables);

/// Readable text of the whole graph, one line per operation: everything but the values of constants (golden files,
/// debugging).
///   quantized graph 'net' for esp32p4 (%x[1x3x8x8])
///     %y[1x8x8x8]{quantizes 8 bit @-5 #2} = Conv 'c' (%x[1x3x8x8]{quantizes 8 bit @-6 #1}, ...) {group=1} int8
///   return %y[1x8x8x8]
/// In braces behind a tensor: what the operation's slot does, exponents behind '@', number of the scale group behind
/// '#'. In chip graphs: dtype and exponents as stored, and between '<' and '>' the permutation.
std::string to_text(const Graph& graph);

}  // namespace espq
