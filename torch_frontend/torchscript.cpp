// The only source that sees LibTorch's TorchScript headers.
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <set>

#include "torch_frontend/archive.h"
#include "torch_frontend/reader.h"

namespace espq::torch_frontend {
namespace {

namespace jit = torch::jit;
using c10::IValue;

/// Runs TorchScript block by block, so that calls, branches and loops have module paths and values that are known.
class Interpreter {
 public:
  explicit Interpreter(Tracer& tracer) : tracer_(tracer) {}
  IValue forward(const jit::Module& module, std::vector<IValue> arguments);
  /// What is wrong if the next run computes something else: the first attribute that a constant was written to.
  const std::string& kept() const { return kept_; }

 private:
  using Values = std::unordered_map<const jit::Value*, IValue>;
  struct Frame {
    std::string module_path;
    std::string caller;  ///< source of the call, outermost first that is the user's
    int depth = 0;
  };

  Tracer& tracer_;
  std::unordered_map<const c10::ivalue::Object*, std::string> paths_;      ///< of what the file holds
  std::set<std::pair<const c10::ivalue::Object*, std::string>> assigned_;  ///< attributes that this run has set
  std::string kept_;
  int64_t steps_ = 0;

  std::vector<IValue> run_graph(const jit::Graph& graph, std::vector<IValue> arguments, const Frame& frame);
  void run_block(const jit::Block& block, Values& values, const Frame& frame);
  void run_node(const jit::Node& node, Values& values, const Frame& frame);
  bool run_structure(const jit::Node& node, Values& values, const Frame& frame);
  bool run_container(const jit::Node& node, const std::vector<IValue>& inputs, std::vector<IValue>& outputs) const;
  void run_if(const jit::Node& node, Values& values, const Frame& frame);
  void run_loop(const jit::Node& node, Values& values, const Frame& frame);
  void run_operator(const jit::Node& node, Values& values, const Frame& frame);
  IValue call_function(jit::Function& function, std::vector<IValue> arguments, const jit::Node& node,
                       const std::string& module_path, const Frame& frame);
  bool is_of_file(const c10::ivalue::Object& object) const;
  std::string called_path(const c10::ivalue::Object& object, const Frame& frame) const;
  IValue get_attribute(const IValue& object, const std::string& name, const Frame& frame);
  void set_attribute(const jit::Node& node, const Values& values, const Frame& frame);
  Place place(const jit::Node& node, const Frame& frame) const;
};

/// More would be a program, not a network.
constexpr int64_t kMaxSteps = 1'000'000;
constexpr int kMaxDepth = 200;

std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

std::string source_line(const jit::Node& node) {
  // The archive has code of its own, which knows the line of the user's program that it was made of.
  const jit::SourceRange range = node.sourceRange();
  const auto original = range.findSourceRangeThatGenerated();
  const auto position = (original ? *original : range).file_line_col();
  return position ? fmt::format("{}:{}", std::get<0>(*position), std::get<1>(*position)) : std::string();
}

bool is_library_line(const std::string& source) { return source.find("/torch/") != std::string::npos; }

std::vector<IValue> input_values(const jit::Node& node, const std::unordered_map<const jit::Value*, IValue>& values) {
  std::vector<IValue> result;
  for (const jit::Value* input : node.inputs()) result.push_back(values.at(input));
  return result;
}

Place Interpreter::place(const jit::Node& node, const Frame& frame) const {
  // The user's own line says more than the line of torch.nn that it calls.
  std::string source = source_line(node);
  // Writes to attributes have no line of their own: the one before is the same statement.
  for (const jit::Node* before = node.prev();
       source.empty() && before->kind() != c10::prim::Param && before->kind() != c10::prim::Return;
       before = before->prev())
    source = source_line(*before);
  if (!frame.caller.empty() && (source.empty() || is_library_line(source))) source = frame.caller;
  return {frame.module_path, source};
}

IValue Interpreter::forward(const jit::Module& module, std::vector<IValue> arguments) {
  paths_[module._ivalue().get()] = "";
  arguments.insert(arguments.begin(), module._ivalue());
  return run_graph(*module.get_method("forward").graph(), std::move(arguments), {}).at(0);
}

std::vector<IValue> Interpreter::run_graph(const jit::Graph& graph, std::vector<IValue> arguments, const Frame& frame) {
  user_check(frame.depth < kMaxDepth, "module '{}': calls itself without end", frame.module_path);
  Values values;
  for (size_t i = 0; i < graph.inputs().size(); ++i) values[graph.inputs()[i]] = std::move(arguments.at(i));
  run_block(*graph.block(), values, frame);
  std::vector<IValue> results;
  for (const jit::Value* output : graph.outputs()) results.push_back(values.at(output));
  return results;
}

void Interpreter::run_block(const jit::Block& block, Values& values, const Frame& frame) {
  for (const jit::Node* node : block.nodes()) {
    user_check(++steps_ <= kMaxSteps, "{}: the network takes more than {} steps", place(*node, frame).text(),
               kMaxSteps);
    run_node(*node, values, frame);
  }
}

void Interpreter::run_node(const jit::Node& node, Values& values, const Frame& frame) {
  if (run_structure(node, values, frame)) return;
  std::vector<IValue> outputs;
  if (node.kind().is_prim() && run_container(node, input_values(node, values), outputs)) {
    for (size_t i = 0; i < node.outputs().size(); ++i) values[node.outputs()[i]] = std::move(outputs.at(i));
    return;
  }
  run_operator(node, values, frame);
}

/// Control flow, calls and attributes.
bool Interpreter::run_structure(const jit::Node& node, Values& values, const Frame& frame) {
  using namespace c10;
  switch (node.kind()) {
    case prim::Constant:
      values[node.output()] = node.output()->type()->kind() == TypeKind::FunctionType
                                  ? IValue()
                                  : jit::toIValue(node.output()).value_or(IValue());
      return true;
    case prim::GetAttr:
      values[node.output()] = get_attribute(values.at(node.input()), node.s(attr::name), frame);
      return true;
    case prim::SetAttr:
      set_attribute(node, values, frame);
      return true;
    case prim::CallMethod: {
      auto arguments = input_values(node, values);
      const auto object = arguments.at(0).toObject();
      values[node.output()] = call_function(object->type()->getMethod(node.s(attr::name)), std::move(arguments), node,
                                            called_path(*object, frame), frame);
      return true;
    }
    case prim::CallFunction: {
      auto arguments = input_values(node, values);
      arguments.erase(arguments.begin());
      values[node.output()] = call_function(*node.inputs()[0]->type()->expect<FunctionType>()->function(),
                                            std::move(arguments), node, frame.module_path, frame);
      return true;
    }
    case prim::If:
      run_if(node, values, frame);
      return true;
    case prim::Loop:
      run_loop(node, values, frame);
      return true;
    case prim::RaiseException: {
      const IValue message = values.at(node.inputs()[0]);
      tracer_.check_refusals();
      user_error("{}: the network raises an error for these inputs: {}", place(node, frame).text(),
                 message.isString() ? message.toStringRef() : "(no message)");
    }
    case prim::Enter:  // with torch.no_grad(): and the like
      values[node.output()] = IValue();
      return true;
    case prim::Exit:
    case prim::Print:
      for (const jit::Value* output : node.outputs()) values[output] = IValue();
      return true;
    default:
      return false;
  }
}

void Interpreter::run_if(const jit::Node& node, Values& values, const Frame& frame) {
  const IValue condition = values.at(node.input());
  const jit::Block& block = *node.blocks().at(condition.toBool() ? 0 : 1);
  run_block(block, values, frame);
  for (size_t i = 0; i < node.outputs().size(); ++i) values[node.outputs()[i]] = values.at(block.outputs()[i]);
}

void Interpreter::run_loop(const jit::Node& node, Values& values, const Frame& frame) {
  const jit::Block& body = *node.blocks().at(0);
  const int64_t count = values.at(node.inputs()[0]).toInt();
  bool proceed = values.at(node.inputs()[1]).toBool();
  std::vector<IValue> carried;
  for (size_t i = 2; i < node.inputs().size(); ++i) carried.push_back(values.at(node.inputs()[i]));
  for (int64_t i = 0; i < count && proceed; ++i) {
    user_check(++steps_ <= kMaxSteps, "{}: the loop does not end", place(node, frame).text());
    values[body.inputs()[0]] = i;
    for (size_t k = 0; k < carried.size(); ++k) values[body.inputs()[k + 1]] = std::move(carried[k]);
    run_block(body, values, frame);
    proceed = values.at(body.outputs()[0]).toBool();
    for (size_t k = 0; k < carried.size(); ++k) carried[k] = values.at(body.outputs()[k + 1]);
  }
  for (size_t k = 0; k < carried.size(); ++k) values[node.outputs()[k]] = std::move(carried[k]);
}

IValue Interpreter::call_function(jit::Function& function, std::vector<IValue> arguments, const jit::Node& node,
                                  const std::string& module_path, const Frame& frame) {
  auto* graph = jit::tryToGraphFunction(function);
  user_check(graph != nullptr, "{}: calls '{}', which is not TorchScript", place(node, frame).text(), function.name());
  Frame inner{module_path, frame.caller, frame.depth + 1};
  const std::string source = source_line(node);
  if (!source.empty() && !is_library_line(source)) inner.caller = source;
  return run_graph(*graph->graph(), std::move(arguments), inner).at(0);
}

/// A module that several modules share goes by the name that it has in the one that calls it.
std::string Interpreter::called_path(const c10::ivalue::Object& object, const Frame& frame) const {
  const auto known = paths_.find(&object);
  if (known == paths_.end()) return frame.module_path;
  const std::string& path = known->second;
  if (frame.module_path.empty() || path == frame.module_path || path.rfind(frame.module_path + ".", 0) == 0)
    return path;
  return join(frame.module_path, path.substr(path.rfind('.') + 1));
}

/// Modules are; other objects may also be made by forward().
bool Interpreter::is_of_file(const c10::ivalue::Object& object) const {
  return paths_.count(&object) != 0 || object.type()->is_module();
}

IValue Interpreter::get_attribute(const IValue& owner, const std::string& name, const Frame& frame) {
  const auto object = owner.toObject();
  IValue value = object->getAttr(name);
  const auto path = paths_.find(object.get());
  const std::string full = join(path == paths_.end() ? frame.module_path : path->second, name);
  // What this run made, it may write to.
  const bool own = !is_of_file(*object) || assigned_.count({object.get(), name}) != 0;
  if (value.isTensor())
    tracer_.name_constant(value.toTensor(), full, own ? Tracer::Origin::Run : Tracer::Origin::File);
  else if (value.isObject() && !own)
    paths_.try_emplace(value.toObject().get(), full);
  return value;
}

void Interpreter::set_attribute(const jit::Node& node, const Values& values, const Frame& frame) {
  const auto object = values.at(node.inputs()[0]).toObject();
  const IValue& value = values.at(node.inputs()[1]);
  const std::string& name = node.s(c10::attr::name);
  if (is_of_file(*object)) {
    const std::string text = fmt::format(
        "{}: keeps a result in the module's attribute '{}' from one run to the next; "
        "make such state an input and an output of the network",
        place(node, frame).text(), name);
    user_check(!tracer_.varies(value), "{}", text);
    if (kept_.empty()) kept_ = text;
    assigned_.emplace(object.get(), name);
  }
  object->setAttr(name, value);
}

/// Lists, tuples, dictionaries and type tests.
bool Interpreter::run_container(const jit::Node& node, const std::vector<IValue>& inputs,
                                std::vector<IValue>& outputs) const {
  using namespace c10;
  switch (node.kind()) {
    case prim::ListConstruct: {
      impl::GenericList list(node.output()->type()->expectRef<ListType>().getElementType());
      for (const IValue& input : inputs) list.push_back(input);
      outputs = {list};
      return true;
    }
    case prim::TupleConstruct: {
      const auto type = node.output()->type()->expect<TupleType>();
      outputs = {type->name() ? IValue(ivalue::Tuple::createNamed(inputs, type))
                              : IValue(ivalue::Tuple::create(inputs))};
      return true;
    }
    case prim::DictConstruct: {
      const auto& type = node.output()->type()->expectRef<DictType>();
      impl::GenericDict dictionary(type.getKeyType(), type.getValueType());
      for (size_t i = 0; i + 1 < inputs.size(); i += 2) dictionary.insert_or_assign(inputs[i], inputs[i + 1]);
      outputs = {dictionary};
      return true;
    }
    case prim::ListUnpack:
      for (const IValue& element : inputs.at(0).toListRef()) outputs.push_back(element);
      user_check(outputs.size() == node.outputs().size(), "a list of {} is unpacked into {} values", outputs.size(),
                 node.outputs().size());
      return true;
    case prim::TupleUnpack:
      outputs = inputs.at(0).toTupleRef().elements().vec();
      return true;
    case prim::TupleSlice: {
      const auto elements = inputs.at(0).toTupleRef().elements().vec();
      outputs = {ivalue::Tuple::create(
          std::vector<IValue>(elements.begin() + node.i(attr::beg), elements.begin() + node.i(attr::end)))};
      return true;
    }
    case prim::CreateObject: {
      const auto type = node.output()->type()->expect<ClassType>();
      outputs = {ivalue::Object::create(type, type->numAttributes())};
      return true;
    }
    case prim::isinstance: {
      const auto& types = node.tys(attr::types);
      const TypePtr given = inputs.at(0).type();
      outputs = {
          std::any_of(types.begin(), types.end(), [&](const TypePtr& type) { return given->isSubtypeOf(*type); })};
      return true;
    }
    case prim::unchecked_cast:
    case prim::unchecked_unwrap_optional:
      outputs = {inputs.at(0)};
      return true;
    case prim::Uninitialized:
      outputs = {IValue::uninitialized()};
      return true;
    default:
      return false;
  }
}

void Interpreter::run_operator(const jit::Node& node, Values& values, const Frame& frame) {
  const c10::FunctionSchema* schema = node.maybeSchema();
  user_check(schema != nullptr, "{}: {} is not supported", place(node, frame).text(), node.kind().toQualString());
  jit::Stack stack = input_values(node, values);
  jit::Operation operation = node.getOperation();
  const auto kernel = [&](jit::Stack& arguments) {
    if (schema->is_vararg()) arguments.emplace_back(static_cast<int64_t>(node.inputs().size()));
    operation(arguments);
  };
  tracer_.call(*schema, stack.size(), kernel, stack, place(node, frame));
  user_check(stack.size() == node.outputs().size(), "{}: {} is not supported", place(node, frame).text(),
             node.kind().toQualString());
  for (size_t i = 0; i < stack.size(); ++i) values[node.outputs()[i]] = std::move(stack[i]);
}

// ---------------------------------------------------------------------------------------------- inputs and outputs
void add_specs(const std::string& name, const c10::TypePtr& type, std::vector<InputSpec>& specs) {
  if (type->kind() == c10::TypeKind::TensorType) {
    specs.push_back({name, {}, {}});
  } else if (const auto tuple = type->cast<c10::TupleType>()) {
    for (size_t i = 0; i < tuple->elements().size(); ++i)
      add_specs(fmt::format("{}_{}", name, i), tuple->elements()[i], specs);
  } else {
    user_error("its input '{}' has the type {}; espq takes tensors and tuples of tensors", name, type->repr_str());
  }
}

IValue assemble(const c10::TypePtr& type, Tensors::const_iterator& next) {
  if (type->kind() == c10::TypeKind::TensorType) return *next++;
  std::vector<IValue> elements;
  for (const auto& element : type->expectRef<c10::TupleType>().elements()) elements.push_back(assemble(element, next));
  return c10::ivalue::Tuple::create(std::move(elements));
}

/// The value of an input that is no tensor; nullopt for tensors. Throws UserError when it is not known.
std::optional<IValue> fixed_value(const c10::Argument& parameter, const TorchImportOptions& options) {
  const auto given = options.input_values.find(parameter.name());
  const auto kind = parameter.type()->kind();
  if (given != options.input_values.end()) {
    if (kind == c10::TypeKind::IntType) return static_cast<int64_t>(given->second);
    if (kind == c10::TypeKind::FloatType) return given->second;
    if (kind == c10::TypeKind::BoolType) return given->second != 0;
    user_error("its input '{}' has the type {}, which is no number", parameter.name(), parameter.type()->repr_str());
  }
  if (parameter.default_value()) return *parameter.default_value();
  const bool number =
      kind == c10::TypeKind::IntType || kind == c10::TypeKind::FloatType || kind == c10::TypeKind::BoolType;
  user_check(!number, "its input '{}' is a number ({}): give its value (--input-shape {}=16000:value)",
             parameter.name(), parameter.type()->repr_str(), parameter.name());
  return std::nullopt;
}

/// "output", "output_1" for elements of lists and tuples, the keys of dictionaries.
void add_outputs(const IValue& value, const std::string& name, Reading& reading) {
  const auto join_name = [&](const auto& part) {
    return name.empty() ? fmt::format("{}", part) : fmt::format("{}_{}", name, part);
  };
  if (value.isTensor()) {
    reading.tracer.add_output(name.empty() ? "output" : name, value.toTensor(), {});
    reading.outputs.push_back(value.toTensor());
  } else if (value.isTuple() || value.isList()) {
    const auto elements = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    for (size_t i = 0; i < elements.size(); ++i)
      add_outputs(elements[i], fmt::format("{}_{}", name.empty() ? "output" : name, i), reading);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict())
      add_outputs(entry.value(),
                  entry.key().isString() ? join_name(entry.key().toStringRef()) : join_name(reading.outputs.size()),
                  reading);
  } else {
    user_check(value.isNone() || value.isInt() || value.isDouble() || value.isBool() || value.isString(),
               "its output '{}' is a {}; espq takes tensors in lists, tuples and dictionaries", name, value.tagKind());
  }
}

std::string first_lines(const std::string& text) {
  std::string result = text.substr(0, text.find("\n\n"));
  std::replace(result.begin(), result.end(), '\n', ' ');
  return result;
}

class MemoryReader : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit MemoryReader(std::string_view bytes) : bytes_(bytes) {}
  size_t size() const override { return bytes_.size(); }
  size_t read(uint64_t position, void* buffer, size_t count, const char*) const override {
    if (position >= bytes_.size()) return 0;
    return bytes_.copy(static_cast<char*>(buffer), count, position);
  }

 private:
  std::string_view bytes_;
};

/// The module as it stands in the file.
jit::Module load(std::string_view bytes) {
  try {
    jit::Module module = jit::load(std::make_shared<MemoryReader>(bytes), at::Device(at::kCPU));
    module.eval();
    return module;
  } catch (const c10::Error& error) {
    user_error("LibTorch cannot load it: {}", first_lines(error.what_without_backtrace()));
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    user_error("LibTorch cannot load it: {}", first_lines(error.what()));
  }
}

/// Parameters and buffers of these types become float32; indices and masks stay what they are.
void convert_to_float(jit::Module& module, std::initializer_list<at::ScalarType> types) {
  for (const IValue& attribute : module.attributes()) {
    if (!attribute.isTensor() || !attribute.toTensor().defined()) continue;
    const at::Tensor& tensor = attribute.toTensor();
    if (std::find(types.begin(), types.end(), tensor.scalar_type()) != types.end())
      tensor.set_data(tensor.to(at::kFloat));
  }
}

/// Tensors of a pickle in order, dictionaries with their keys.
void collect(const IValue& value, const std::string& name, std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  if (value.isTensor()) {
    tensors.emplace_back(name, value.toTensor());
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict())
      collect(entry.value(), entry.key().isString() ? entry.key().toStringRef() : name, tensors);
  } else if (value.isList() || value.isTuple()) {
    const auto elements = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    for (size_t i = 0; i < elements.size(); ++i) collect(elements[i], std::to_string(i), tensors);
  }
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> load_pickle(std::string_view bytes) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  try {
    collect(jit::pickle_load(std::vector<char>(bytes.begin(), bytes.end())), "", tensors);
  } catch (const c10::Error& error) {
    user_error("LibTorch cannot read its tensors: {}", first_lines(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    user_error("LibTorch cannot read its tensors: {}", first_lines(error.what()));
  }
  return tensors;
}

namespace {

/// forward() of a module, with the values of its arguments.
class Forward {
 public:
  Forward(const jit::Module& module, const TorchImportOptions& options) : options_(options) {
    const auto method = module.find_method("forward");
    user_check(method.has_value(), "has no forward()");
    const auto& all = method->function().getSchema().arguments();
    parameters_.assign(all.begin() + 1, all.end());
    for (const auto& [name, unused] : options.input_values)
      user_check(std::any_of(parameters_.begin(), parameters_.end(),
                             [&name = name](const c10::Argument& parameter) { return parameter.name() == name; }),
                 "has no input '{}' to give a value to", name);
    for (const c10::Argument& parameter : parameters_)
      if (!fixed_value(parameter, options)) add_specs(parameter.name(), parameter.type(), specs_);
  }
  const std::vector<InputSpec>& specs() const { return specs_; }

  std::vector<IValue> arguments(const Tensors& inputs) const {
    std::vector<IValue> result;
    auto next = inputs.cbegin();
    for (const c10::Argument& parameter : parameters_) {
      const auto fixed = fixed_value(parameter, options_);
      result.push_back(fixed ? *fixed : assemble(parameter.type(), next));
    }
    return result;
  }

 private:
  const TorchImportOptions& options_;
  std::vector<c10::Argument> parameters_;
  std::vector<InputSpec> specs_;
};

/// The network may write to its inputs: every run gets its own.
Tensors copies(const Tensors& tensors, at::ScalarType floats = at::kFloat) {
  Tensors result;
  for (const at::Tensor& tensor : tensors)
    result.push_back(tensor.to(tensor.is_floating_point() ? floats : tensor.scalar_type(), false, /*copy=*/true));
  return result;
}

/// LibTorch's own runs of the file's module, apart from the one that is traced.
class Reference {
 public:
  explicit Reference(std::string_view bytes) : module_(load(bytes)) {
    // Sums of 16-bit floats are too coarse to compare with, whoever computes them.
    convert_to_float(module_, {at::kHalf, at::kBFloat16});
    for (const at::Tensor& parameter : module_.parameters())
      if (parameter.scalar_type() == at::kDouble) floats_ = at::kDouble;
  }
  Tensors run(const Forward& forward, const Tensors& inputs) {
    return tensors_in(module_.get_method("forward")(forward.arguments(copies(inputs, floats_))));
  }

 private:
  jit::Module module_;
  at::ScalarType floats_ = at::kFloat;
};

/// Runs of the same network in another order of sums are closer than this, those with another state are not.
bool same_results(const Tensors& first, const Tensors& second) {
  bool same = first.size() == second.size();
  for (size_t i = 0; same && i < first.size(); ++i)
    same = first[i].sizes() == second[i].sizes() &&
           at::allclose(first[i].to(at::kDouble), second[i].to(at::kDouble), 1e-4, 1e-5, /*equal_nan=*/true);
  return same;
}

void trace(jit::Module& module, const Forward& forward, Reading& reading) {
  const Tensors own = copies(reading.example);
  for (size_t i = 0; i < own.size(); ++i) reading.tracer.add_input(forward.specs()[i].name, own[i]);
  Interpreter interpreter(reading.tracer);
  add_outputs(interpreter.forward(module, forward.arguments(own)), "", reading);
  reading.tracer.check_refusals();
  // A result that is kept because it does not depend on the inputs (a table of positions) is right in every run; a
  // count of the runs is not.
  if (const auto& kept = interpreter.kept(); !kept.empty())
    user_check(same_results(reading.outputs,
                            tensors_in(module.get_method("forward")(forward.arguments(copies(reading.example))))),
               "{}", kept);
  reading.tracer.release();
}

}  // namespace

void read_torchscript(std::string bytes, const TorchImportOptions& options, Reading& reading) {
  jit::Module module = load(bytes);
  if (!reading.record) std::string().swap(bytes);
  convert_to_float(module, {at::kHalf, at::kBFloat16, at::kDouble});
  const Forward forward(module, options);
  reading.example = example_inputs(forward.specs(), options);
  trace(module, forward, reading);
  module = jit::Module();  // the room that its weights take
  if (reading.record) reading.outputs = Reference(bytes).run(forward, reading.example);
}

}  // namespace espq::torch_frontend
