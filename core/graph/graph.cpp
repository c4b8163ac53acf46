#include "core/graph/graph.h"

#include <algorithm>
#include <deque>
#include <unordered_set>

#include "core/support/error.h"

namespace espq {

// ------------------------------------------------------------------------------------------------ attributes
namespace {

template <typename T>
const T& typed_attribute(const Operation& operation, std::string_view key, const char* type_name) {
  const auto found = operation.attributes().find(std::string(key));
  user_check(found != operation.attributes().end(), "{} '{}': attribute '{}' is missing", operation.type(),
             operation.name(), key);
  const T* value = std::get_if<T>(&found->second);
  user_check(value != nullptr, "{} '{}': attribute '{}' is not {}", operation.type(), operation.name(), key, type_name);
  return *value;
}

}  // namespace

int64_t Operation::int_attribute(std::string_view key) const {
  return typed_attribute<int64_t>(*this, key, "an integer");
}
float Operation::float_attribute(std::string_view key) const { return typed_attribute<float>(*this, key, "a float"); }
const std::string& Operation::string_attribute(std::string_view key) const {
  return typed_attribute<std::string>(*this, key, "a string");
}
const std::vector<int64_t>& Operation::ints_attribute(std::string_view key) const {
  return typed_attribute<std::vector<int64_t>>(*this, key, "a list of integers");
}
int64_t Operation::int_attribute(std::string_view key, int64_t fallback) const {
  return has(key) ? int_attribute(key) : fallback;
}
float Operation::float_attribute(std::string_view key, float fallback) const {
  return has(key) ? float_attribute(key) : fallback;
}
std::string Operation::string_attribute(std::string_view key, std::string_view fallback) const {
  return has(key) ? string_attribute(key) : std::string(fallback);
}
std::vector<int64_t> Operation::ints_attribute(std::string_view key, std::vector<int64_t> fallback) const {
  if (has(key)) return ints_attribute(key);
  return fallback;
}

// ------------------------------------------------------------------------------------------------ edits of one handle
void Variable::set_value(at::Tensor value) {
  internal_check(value.defined(), "'" + name_ + "': a constant needs a value");
  shape_ = value.sizes().vec();
  dtype_ = value.scalar_type();
  value_ = std::move(value);
  ++*revision_;
}
void Variable::set_shape(std::optional<Shape> shape) {
  shape_ = std::move(shape);
  ++*revision_;
}
void Variable::set_dtype(at::ScalarType dtype) {
  dtype_ = dtype;
  ++*revision_;
}
void Variable::set_storage(std::optional<StorageFormat> storage) {
  storage_ = std::move(storage);
  ++*revision_;
}
void Variable::set_permutation(std::vector<int> permutation) {
  permutation_ = std::move(permutation);
  ++*revision_;
}

void Operation::retype(std::string type) {
  type_ = std::move(type);
  ++*revision_;
}
void Operation::set_attribute(std::string_view key, Attribute value) {
  attributes_.insert_or_assign(std::string(key), std::move(value));
  ++*revision_;
}
void Operation::remove_attribute(std::string_view key) {
  attributes_.erase(std::string(key));
  ++*revision_;
}
void Operation::set_attributes(AttributeMap attributes, std::vector<std::string> implied) {
  attributes_ = std::move(attributes);
  implied_attributes_ = std::move(implied);
  ++*revision_;
}
void Operation::set_width(std::optional<Width> width) {
  width_ = width;
  ++*revision_;
}
ChipFacts& Operation::edit_chip() {
  ++*revision_;
  return chip_;
}
void Operation::set_quant(std::vector<SlotQuant> inputs, std::vector<SlotQuant> outputs) {
  internal_check(inputs.size() == inputs_.size() && outputs.size() == outputs_.size(),
                 "'" + name_ + "': one slot per operand and output is needed");
  input_quant_ = std::move(inputs);
  output_quant_ = std::move(outputs);
  quantized_ = true;
  ++*revision_;
}
void Operation::clear_quant() {
  input_quant_.clear();
  output_quant_.clear();
  quantized_ = false;
  ++*revision_;
}
SlotQuant& Operation::edit_input_quant(size_t slot) {
  ++*revision_;
  return input_quant_.at(slot);
}
SlotQuant& Operation::edit_output_quant(size_t slot) {
  ++*revision_;
  return output_quant_.at(slot);
}

// ------------------------------------------------------------------------------------------------ look-up
namespace {

template <class Handle, class Owned>
std::vector<Handle> handles(const Owned& owned) {
  std::vector<Handle> result;
  result.reserve(owned.size());
  for (const auto& each : owned) result.push_back(each.get());
  return result;
}

template <class Map>
auto found_in(const Map& map, std::string_view name) {
  const auto found = map.find(std::string(name));
  return found == map.end() ? nullptr : found->second;
}

template <class Handle>
std::vector<const Handle*> const_handles(const std::vector<Handle*>& handles) {
  return {handles.begin(), handles.end()};
}

std::vector<Operation*> producers(const std::vector<Variable*>& inputs) {
  std::vector<Operation*> result;
  for (Variable* input : inputs)
    if (input && input->producer()) result.push_back(input->producer());
  return result;
}

std::vector<Operation*> readers(const std::vector<Variable*>& outputs) {
  std::vector<Operation*> result;
  for (Variable* output : outputs)
    if (output)
      for (const Use& use : output->uses()) result.push_back(use.operation);
  return result;
}

std::vector<Operation*> ordered(const std::vector<Operation*>& operations) {
  std::unordered_map<const Operation*, size_t> waiting;
  std::deque<Operation*> ready;
  for (Operation* operation : operations) {
    const size_t count = producers(operation->inputs()).size();
    waiting[operation] = count;
    if (count == 0) ready.push_back(operation);
  }
  std::vector<Operation*> order;
  order.reserve(operations.size());
  while (!ready.empty()) {
    Operation* operation = ready.front();
    ready.pop_front();
    order.push_back(operation);
    for (Operation* consumer : readers(operation->outputs()))
      if (--waiting[consumer] == 0) ready.push_back(consumer);
  }
  if (order.size() != operations.size()) {
    for (const Operation* operation : operations)
      user_check(waiting[operation] == 0, "{} '{}': is part of a cycle, the graph cannot be ordered", operation->type(),
                 operation->name());
  }
  return order;
}

}  // namespace

Graph::Graph() : revision_(std::make_unique<uint64_t>(0)) {}

void Graph::set_stage(Stage stage) {
  stage_ = stage;
  touch();
}

void Graph::set_target(const Target* target) {
  target_ = target;
  touch();
}

std::vector<Operation*> Graph::operations() { return handles<Operation*>(operations_); }
std::vector<const Operation*> Graph::operations() const { return handles<const Operation*>(operations_); }
std::vector<Variable*> Graph::variables() { return handles<Variable*>(variables_); }
std::vector<const Variable*> Graph::variables() const { return handles<const Variable*>(variables_); }

Operation* Graph::find_operation(std::string_view name) { return found_in(operation_by_name_, name); }
const Operation* Graph::find_operation(std::string_view name) const { return found_in(operation_by_name_, name); }
Variable* Graph::find_variable(std::string_view name) { return found_in(variable_by_name_, name); }
const Variable* Graph::find_variable(std::string_view name) const { return found_in(variable_by_name_, name); }

bool Graph::is_output(const Variable* variable) const {
  return std::find(outputs_.begin(), outputs_.end(), variable) != outputs_.end();
}

bool Graph::is_input(const Variable* variable) const {
  return std::find(inputs_.begin(), inputs_.end(), variable) != inputs_.end();
}

std::vector<Operation*> Graph::upstream(const Operation& operation) { return producers(operation.inputs_); }
std::vector<const Operation*> Graph::upstream(const Operation& operation) const {
  return const_handles(producers(operation.inputs_));
}

std::vector<Operation*> Graph::downstream(const Operation& operation) { return readers(operation.outputs_); }
std::vector<const Operation*> Graph::downstream(const Operation& operation) const {
  return const_handles(readers(operation.outputs_));
}

std::vector<Operation*> Graph::topological_order() { return ordered(handles<Operation*>(operations_)); }
std::vector<const Operation*> Graph::topological_order() const {
  return const_handles(ordered(handles<Operation*>(operations_)));
}

// ------------------------------------------------------------------------------------------------ creation
std::string Graph::fresh_operation_name() {
  std::string name;
  do name = fmt::format("operation_{}", next_operation_++);
  while (find_operation(name));
  return name;
}

std::string Graph::fresh_variable_name() {
  std::string name;
  do name = fmt::format("variable_{}", next_variable_++);
  while (find_variable(name));
  return name;
}

Variable& Graph::add_variable(std::string name) {
  if (name.empty()) name = fresh_variable_name();
  user_check(!find_variable(name), "tensor '{}' is defined twice", name);
  auto variable = std::make_unique<Variable>();
  variable->name_ = name;
  variable->revision_ = revision_.get();
  Variable& result = *variable;
  variables_.push_back(std::move(variable));
  touch();
  variable_by_name_.emplace(std::move(name), &result);
  return result;
}

Variable& Graph::add_parameter(std::string name, at::Tensor value) {
  Variable& variable = add_variable(std::move(name));
  variable.set_value(std::move(value));
  return variable;
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): a handful of pointers, given like the names
Operation& Graph::add_operation(std::string type, std::string name, std::vector<Variable*> inputs,
                                std::vector<Variable*> outputs, AttributeMap attributes) {
  if (name.empty()) name = fresh_operation_name();
  user_check(!find_operation(name), "{} '{}': an operation of that name exists already", type, name);
  auto owned = std::make_unique<Operation>();
  Operation& operation = *owned;
  operation.name_ = name;
  operation.revision_ = revision_.get();
  operation.type_ = std::move(type);
  operation.attributes_ = std::move(attributes);
  operations_.push_back(std::move(owned));
  operation_by_name_.emplace(std::move(name), &operation);
  for (Variable* input : inputs) append_input(operation, input);
  operation.outputs_.resize(outputs.size(), nullptr);
  for (size_t slot = 0; slot < outputs.size(); ++slot) set_output(operation, slot, outputs[slot]);
  return operation;
}

// ------------------------------------------------------------------------------------------------ links
void Graph::set_inputs(std::vector<Variable*> inputs) {
  inputs_ = std::move(inputs);
  touch();
}
void Graph::add_input(Variable& variable) {
  inputs_.push_back(&variable);
  touch();
}
void Graph::set_outputs(std::vector<Variable*> outputs) {
  outputs_ = std::move(outputs);
  touch();
}
void Graph::add_output(Variable& variable) {
  outputs_.push_back(&variable);
  touch();
}

void Graph::unlink_input(Operation& operation, size_t slot) {
  Variable* old = operation.inputs_[slot];
  if (!old) return;
  const Use use{&operation, static_cast<int>(slot)};
  const auto found = std::find(old->uses_.begin(), old->uses_.end(), use);
  internal_check(found != old->uses_.end(), "use list of '" + old->name() + "' is out of step");
  old->uses_.erase(found);
  operation.inputs_[slot] = nullptr;
  touch();
}

void Graph::set_input(Operation& operation, size_t slot, Variable* variable) {
  internal_check(slot < operation.inputs_.size(), "no operand slot " + std::to_string(slot));
  if (operation.inputs_[slot] == variable) return;
  unlink_input(operation, slot);
  operation.inputs_[slot] = variable;
  touch();
  if (variable) variable->uses_.push_back({&operation, static_cast<int>(slot)});
}

void Graph::append_input(Operation& operation, Variable* variable) {
  operation.inputs_.push_back(nullptr);
  if (operation.quantized_) operation.input_quant_.resize(operation.inputs_.size());
  touch();
  set_input(operation, operation.inputs_.size() - 1, variable);
}

void Graph::set_output(Operation& operation, size_t slot, Variable* variable) {
  internal_check(slot < operation.outputs_.size(), "no output slot " + std::to_string(slot));
  if (Variable* old = operation.outputs_[slot]) old->producer_ = nullptr;
  operation.outputs_[slot] = variable;
  touch();
  if (!variable) return;
  user_check(!variable->producer_, "tensor '{}' is produced twice (by '{}' and '{}')", variable->name(),
             variable->producer_ ? variable->producer_->name() : "", operation.name());
  variable->producer_ = &operation;
  variable->producer_slot_ = static_cast<int>(slot);
}

void Graph::truncate_inputs(Operation& operation, size_t count) {
  while (operation.inputs_.size() > count) {
    unlink_input(operation, operation.inputs_.size() - 1);
    operation.inputs_.pop_back();
  }
  if (operation.input_quant_.size() > count) operation.input_quant_.resize(count);
}

void Graph::rename(Operation& operation, std::string name) {
  if (operation.name_ == name) return;
  user_check(!find_operation(name), "an operation named '{}' exists already", name);
  operation_by_name_.erase(operation.name_);
  operation.name_ = name;
  touch();
  operation_by_name_.emplace(std::move(name), &operation);
}

void Graph::rename(Variable& variable, std::string name) {
  if (variable.name_ == name) return;
  user_check(!find_variable(name), "a tensor named '{}' exists already", name);
  variable_by_name_.erase(variable.name_);
  variable.name_ = name;
  touch();
  variable_by_name_.emplace(std::move(name), &variable);
}

void Graph::replace_uses(Variable& from, Variable& to, bool graph_outputs) {
  if (&from == &to) return;
  for (const Use& use : from.uses_) {
    use.operation->inputs_[use.slot] = &to;
    to.uses_.push_back(use);
  }
  from.uses_.clear();
  if (graph_outputs) std::replace(outputs_.begin(), outputs_.end(), &from, &to);
  touch();
}

Operation& Graph::insert_before(Operation& consumer, size_t slot, std::string type, std::string name,
                                AttributeMap attributes) {
  Variable* source = consumer.input(slot);
  internal_check(source != nullptr, "insert_before on an omitted operand");
  Variable& fresh = add_variable();
  fresh.dtype_ = source->dtype_;
  Operation& operation = add_operation(std::move(type), std::move(name), {}, {&fresh}, std::move(attributes));
  const Use old{&consumer, static_cast<int>(slot)};
  *std::find(source->uses_.begin(), source->uses_.end(), old) = {&operation, 0};
  operation.inputs_.push_back(source);
  consumer.inputs_[slot] = &fresh;
  fresh.uses_.push_back(old);
  return operation;
}

// ------------------------------------------------------------------------------------------------ removal
void Graph::remove(Operation& operation) {
  truncate_inputs(operation, 0);
  for (Variable* output : operation.outputs_)
    if (output) output->producer_ = nullptr;
  operation_by_name_.erase(operation.name_);
  touch();
  std::erase_if(operations_, [&](const auto& owned) { return owned.get() == &operation; });
}

void Graph::remove(Variable& variable) {
  internal_check(variable.uses_.empty() && !variable.producer_, "'" + variable.name() + "' is still linked");
  internal_check(!is_input(&variable) && !is_output(&variable), "'" + variable.name() + "' is a graph input or output");
  internal_check(std::none_of(operations_.begin(), operations_.end(),
                              [&](const auto& operation) { return operation->chip_.table == &variable; }),
                 "'" + variable.name() + "' is a look-up table");
  variable_by_name_.erase(variable.name_);
  touch();
  std::erase_if(variables_, [&](const auto& owned) { return owned.get() == &variable; });
}

void Graph::bypass(Operation& operation) {
  Variable* source = operation.input(0);
  Variable* result = operation.output(0);
  internal_check(source && result, "bypass needs one input and one output");
  const bool result_is_output = is_output(result);
  Operation* producer = source->producer();
  remove(operation);
  if (result_is_output && producer && !is_output(source) && !source->is_parameter()) {
    // The name of a graph output is the user's: the producer writes it directly.
    const int slot = source->producer_slot();
    result->storage_ = source->storage_;
    result->dtype_ = source->dtype_;
    result->shape_ = source->shape_;
    result->permutation_ = source->permutation_;
    set_output(*producer, slot, result);
    replace_uses(*source, *result);
    remove(*source);
    return;
  }
  replace_uses(*result, *source);
  if (!is_input(result) && !is_output(result)) remove(*result);
}

void Graph::move_to_end(Operation& operation) {
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [&](const auto& owned) { return owned.get() == &operation; });
  touch();
  std::rotate(found, found + 1, operations_.end());
}

void Graph::reorder_variables(const std::vector<Variable*>& order) {
  internal_check(order.size() == variables_.size(), "reorder_variables: not a permutation");
  std::unordered_map<const Variable*, size_t> position;
  for (size_t i = 0; i < order.size(); ++i) position.emplace(order[i], i);
  internal_check(position.size() == variables_.size(), "reorder_variables: not a permutation");
  touch();
  std::sort(variables_.begin(), variables_.end(),
            [&](const auto& a, const auto& b) { return position.at(a.get()) < position.at(b.get()); });
}

// ------------------------------------------------------------------------------------------------ copy
Graph Graph::clone() const {
  Graph copy;
  copy.name = name;
  copy.ir_version = ir_version;
  copy.opset = opset;
  copy.target_ = target_;
  copy.stage_ = stage_;
  copy.scales_ = scales_;
  copy.next_operation_ = next_operation_;
  copy.next_variable_ = next_variable_;
  std::unordered_map<const Variable*, Variable*> mapped{{nullptr, nullptr}};
  for (const auto& source : variables_) {
    Variable& variable = copy.add_variable(source->name());
    variable.value_ = source->value_;
    variable.shape_ = source->shape_;
    variable.dtype_ = source->dtype_;
    variable.storage_ = source->storage_;
    variable.permutation_ = source->permutation_;
    mapped.emplace(source.get(), &variable);
  }
  const auto map_all = [&](const std::vector<Variable*>& list) {
    std::vector<Variable*> result;
    result.reserve(list.size());
    for (const Variable* variable : list) result.push_back(mapped.at(variable));
    return result;
  };
  for (const auto& source : operations_) {
    Operation& operation = copy.add_operation(source->type_, source->name(), map_all(source->inputs_),
                                              map_all(source->outputs_), source->attributes_);
    operation.implied_attributes_ = source->implied_attributes_;
    operation.width_ = source->width_;
    operation.chip_ = source->chip_;
    operation.chip_.table = mapped.at(source->chip_.table);
    operation.quantized_ = source->quantized_;
    operation.input_quant_ = source->input_quant_;
    operation.output_quant_ = source->output_quant_;
  }
  copy.inputs_ = map_all(inputs_);
  copy.outputs_ = map_all(outputs_);
  return copy;
}

std::unordered_set<const Operation*> operations_behind(std::vector<const Variable*> variables) {
  std::unordered_set<const Operation*> operations;
  while (!variables.empty()) {
    const Operation* producer = variables.back() ? variables.back()->producer() : nullptr;
    variables.pop_back();
    if (!producer || !operations.insert(producer).second) continue;
    variables.insert(variables.end(), producer->inputs().begin(), producer->inputs().end());
  }
  return operations;
}

std::vector<std::string> names_of(std::span<const Variable* const> variables) {
  std::vector<std::string> names;
  for (const Variable* variable : variables) names.push_back(variable->name());
  return names;
}

}  // namespace espq
