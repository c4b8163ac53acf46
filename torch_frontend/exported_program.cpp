#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>

#include "torch_frontend/archive.h"

namespace espq::torch_frontend {
namespace {

using c10::IValue;
using nlohmann::json;

constexpr int64_t kSchemaMajor = 8;  // torch 2.5 and later

/// The only key of a union, e.g. {"as_int": 3}.
std::pair<std::string, const json*> variant(const json& value) {
  user_check(value.is_object() && value.size() == 1, "its graph has another form than espq knows: {}",
             value.dump().substr(0, 80));
  return {value.begin().key(), &value.begin().value()};
}

/// "File "model.py", line 12, in forward": the innermost line that is not LibTorch's own.
std::string source_of(const std::string& trace) {
  std::string best;
  for (size_t at = trace.find("File \""); at != std::string::npos; at = trace.find("File \"", at + 1)) {
    const size_t start = at + 6, end = trace.find('"', start), line = trace.find("line ", end);
    if (end == std::string::npos || line == std::string::npos) break;
    const std::string file = trace.substr(start, end - start);
    const std::string number = trace.substr(line + 5, trace.find_first_not_of("0123456789", line + 5) - line - 5);
    if (best.empty() || file.find("torch/") == std::string::npos) best = fmt::format("{}:{}", file, number);
  }
  return best;
}

/// "key,path,class;..." from the outside in.
std::string module_path_of(const std::string& stack) {
  const size_t begin = stack.rfind(';') + 1;  // npos + 1 = 0
  const size_t first = stack.find(',', begin), last = stack.rfind(',');
  if (first == std::string::npos || last <= first || stack.compare(begin, 6, "_empty") == 0) return {};
  std::string path = stack.substr(first + 1, last - first - 1);
  return path.substr(0, path.find('@'));  // a module that runs several times is one module
}

class Program {
 public:
  Program(Archive archive, Reading& reading) : archive_(std::move(archive)), reading_(reading) {}
  void run(const TorchImportOptions& options);

 private:
  Archive archive_;
  Reading& reading_;
  const json* graph_ = nullptr;                     ///< of the program itself
  std::unordered_map<std::string, IValue> values_;  ///< of the graph that runs, which may be inside of another

  const json& module() const { return archive_.program.at("graph_module"); }
  const IValue& value(const std::string& name) const;
  InputSpec input_spec(const std::string& name) const;
  void add_inputs(const TorchImportOptions& options);
  void add_constant(const json& spec, const char* name_key, const std::map<std::string, at::Tensor>& tensors);
  void check_symbols(const std::vector<InputSpec>& specs) const;
  void check_targets(const json& graph);
  Place place(const json& node) const;
  Place writer_of(const std::string& name) const;
  void run_inlined(const json& node);
  void run_node(const json& node);
  void run_number(const json& node, const std::string& target);
  void run_operator(const json& node, const c10::OperatorHandle& handle);
  IValue argument(const json& value, const c10::TypePtr& type) const;
  IValue plain_argument(const json& value, const c10::TypePtr& type) const;
  IValue number(const json& value) const;
  void assign(const json& output, IValue value);
  void add_outputs();
  std::vector<std::string> output_names(size_t count) const;
};

const IValue& Program::value(const std::string& name) const {
  const auto found = values_.find(name);
  user_check(found != values_.end(), "its graph reads '{}' before anything makes it", name);
  return found->second;
}

// ------------------------------------------------------------------------------------------------------ inputs
InputSpec Program::input_spec(const std::string& name) const {
  const json& meta = graph_->at("tensor_values").at(name);
  InputSpec spec{name, Shape{}, archive_dtype(meta.at("dtype").get<int64_t>()), {}, Shape{}};
  for (const json& size : meta.at("sizes")) {
    const auto [kind, entry] = variant(size);
    spec.shape->push_back(kind == "as_int" ? entry->get<int64_t>() : -1);
    if (!spec.usual) continue;
    if (kind == "as_int")
      spec.usual->push_back(entry->get<int64_t>());
    else if (entry->contains("hint") && entry->at("hint").is_object())
      spec.usual->push_back(entry->at("hint").at("as_int").get<int64_t>());
    else
      spec.usual.reset();
  }
  return spec;
}

/// A dimension of one name has one size, and one that the program was exported for.
void Program::check_symbols(const std::vector<InputSpec>& specs) const {
  std::map<std::string, int64_t> bound;
  for (size_t i = 0; i < specs.size(); ++i) {
    const json& sizes = graph_->at("tensor_values").at(specs[i].name).at("sizes");
    for (size_t axis = 0; axis < sizes.size(); ++axis) {
      const auto [kind, entry] = variant(sizes[axis]);
      if (kind != "as_expr") continue;
      const std::string text = entry->at("expr_str").get<std::string>();
      if (text.rfind("Symbol('", 0) != 0) continue;
      const std::string symbol = text.substr(8, text.find('\'', 8) - 8);
      const int64_t size = reading_.example[i].size(static_cast<int64_t>(axis));
      const auto [known, fresh] = bound.emplace(symbol, size);
      user_check(fresh || known->second == size, "input '{}': dimension {} must be {} as in another input, it is {}",
                 specs[i].name, axis, known->second, size);
      if (!archive_.program.contains("range_constraints") || !archive_.program.at("range_constraints").contains(symbol))
        continue;
      const json& range = archive_.program.at("range_constraints").at(symbol);
      const auto limit = [&](const char* key, int64_t fallback) {
        return range.contains(key) && range.at(key).is_number_integer() ? range.at(key).get<int64_t>() : fallback;
      };
      const int64_t low = limit("min_val", 0), high = limit("max_val", std::numeric_limits<int64_t>::max());
      user_check(size >= low && size <= high, "input '{}': dimension {} is {}, the network was exported for {} to {}",
                 specs[i].name, axis, size, low, high);
    }
  }
}

void Program::add_constant(const json& spec, const char* name_key, const std::map<std::string, at::Tensor>& tensors) {
  const std::string name = spec.at(name_key).get<std::string>();
  const auto found = tensors.find(name);
  const auto other = archive_.constants.find(name);
  const bool known = found != tensors.end() || other != archive_.constants.end();
  user_check(known, "the values of '{}' are missing", name);
  const at::Tensor value = found != tensors.end() ? found->second : other->second;
  values_[spec.at("arg").at("name").get<std::string>()] = value;
  reading_.tracer.name_constant(value, name);
}

void Program::add_inputs(const TorchImportOptions& options) {
  std::vector<InputSpec> specs;
  for (const json& entry : module().at("signature").at("input_specs")) {
    const auto [kind, spec] = variant(entry);
    if (kind == "parameter") {
      add_constant(*spec, "parameter_name", archive_.weights);
    } else if (kind == "buffer") {
      add_constant(*spec, "buffer_name", archive_.weights);
    } else if (kind == "tensor_constant") {
      add_constant(*spec, "tensor_constant_name", archive_.constants);
    } else if (kind == "user_input") {
      const auto [type, name] = variant(spec->at("arg"));
      if (type == "as_tensor") specs.push_back(input_spec(name->at("name").get<std::string>()));
      // Numbers that the user passed while exporting stand in the graph as they are.
    } else {
      user_check(kind == "constant_input", "has an input of the kind '{}', which espq does not support", kind);
    }
  }
  if (archive_.sample.size() == specs.size())
    for (size_t i = 0; i < specs.size(); ++i) specs[i].recorded = archive_.sample[i];
  for (const auto& [name, unused] : options.input_values)
    user_error("has no input '{}' to give a value to: numbers have the value that the program was exported with", name);
  reading_.example = example_inputs(specs, options);
  check_symbols(specs);
  for (size_t i = 0; i < specs.size(); ++i) {
    const at::Tensor own = reading_.example[i].clone();  // the program may write to it
    reading_.tracer.add_input(specs[i].name, own);
    values_[specs[i].name] = own;
  }
}

// ------------------------------------------------------------------------------------------------------ arguments
double real_number(const json& value) {
  if (!value.is_string()) return value.get<double>();
  const std::string text = value.get<std::string>();
  const double infinity = std::numeric_limits<double>::infinity();
  return text == "Infinity" ? infinity : text == "-Infinity" ? -infinity : std::numeric_limits<double>::quiet_NaN();
}

IValue Program::number(const json& value) const {
  const auto [kind, entry] = variant(value);
  if (kind == "as_name") return this->value(entry->get<std::string>());
  if (kind == "as_float") return real_number(*entry);
  if (kind == "as_bool") return entry->get<bool>();
  return entry->get<int64_t>();
}

at::MemoryFormat memory_format(int64_t number) {
  return number == 2   ? at::MemoryFormat::ChannelsLast
         : number == 3 ? at::MemoryFormat::ChannelsLast3d
         : number == 4 ? at::MemoryFormat::Preserve
                       : at::MemoryFormat::Contiguous;
}

/// A Python number where LibTorch's operator has a tensor: it does not decide the result's type.
IValue as_tensor(const IValue& number) {
  const at::Tensor tensor = c10::scalar_to_tensor(number.toScalar());
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

/// An argument of a call as LibTorch wants it for a parameter of this type.
IValue Program::argument(const json& value, const c10::TypePtr& type) const {
  const IValue result = plain_argument(value, type);
  const bool number = result.isInt() || result.isDouble() || result.isBool();
  return number && type->kind() == c10::TypeKind::TensorType ? as_tensor(result) : result;
}

IValue Program::plain_argument(const json& value, const c10::TypePtr& type) const {
  const auto [kind, entry] = variant(value);
  const auto tensor = [&](const json& name) { return this->value(name.at("name").get<std::string>()).toTensor(); };
  if (kind == "as_none") return {};
  if (kind == "as_tensor") return tensor(*entry);
  if (kind == "as_optional_tensor") return argument(*entry, type);
  if (kind == "as_tensors") {
    // The parameter may be a list of tensors that are optional.
    c10::List<at::Tensor> plain;
    c10::List<std::optional<at::Tensor>> optional;
    for (const json& name : *entry) {
      plain.push_back(tensor(name));
      optional.push_back(tensor(name));
    }
    const bool list = type->kind() == c10::TypeKind::ListType;
    return list && type->containedType(0)->kind() == c10::TypeKind::OptionalType ? IValue(optional) : IValue(plain);
  }
  if (kind == "as_optional_tensors") {
    c10::List<std::optional<at::Tensor>> list;
    for (const json& element : *entry) {
      const auto [form, name] = variant(element);
      list.push_back(form == "as_none" ? std::nullopt : std::optional(tensor(*name)));
    }
    return list;
  }
  if (kind == "as_int" || kind == "as_sym_int") {
    const IValue result = kind == "as_int" ? IValue(entry->get<int64_t>()) : number(*entry);
    return type->str().find("float") != std::string::npos && result.isInt()
               ? IValue(static_cast<double>(result.toInt()))
               : result;
  }
  if (kind == "as_float" || kind == "as_sym_float")
    return kind == "as_float" ? IValue(real_number(*entry)) : number(*entry);
  if (kind == "as_bool" || kind == "as_sym_bool")
    return kind == "as_bool" ? IValue(entry->get<bool>()) : number(*entry);
  if (kind == "as_string") return entry->get<std::string>();
  if (kind == "as_ints" || kind == "as_sym_ints") {
    c10::List<int64_t> list;
    for (const json& element : *entry)
      list.push_back(element.is_object() ? number(element).toInt() : element.get<int64_t>());
    if (type->str().find("float") != std::string::npos) {
      c10::List<double> numbers;
      for (const int64_t element : list) numbers.push_back(static_cast<double>(element));
      return numbers;
    }
    return list;
  }
  if (kind == "as_floats" || kind == "as_sym_floats") {
    c10::List<double> list;
    for (const json& element : *entry)
      list.push_back(element.is_object() ? number(element).toDouble() : real_number(element));
    return list;
  }
  if (kind == "as_bools") {
    c10::List<bool> list;
    for (const json& element : *entry) list.push_back(element.get<bool>());
    return list;
  }
  if (kind == "as_scalar_type") return static_cast<int64_t>(graph_dtype(archive_dtype(entry->get<int64_t>())));
  if (kind == "as_device") return at::Device(at::kCPU);
  if (kind == "as_layout") return static_cast<int64_t>(at::kStrided);
  if (kind == "as_memory_format") return static_cast<int64_t>(memory_format(entry->get<int64_t>()));
  user_error("an argument of the kind '{}' is not supported", kind);
}

void Program::assign(const json& output, IValue value) {
  const auto [kind, entry] = variant(output);
  if (kind == "as_tensor") {
    values_[entry->at("name").get<std::string>()] = std::move(value);
  } else if (kind == "as_tensors" || kind == "as_optional_tensors") {
    const auto tensors = value.toListRef();
    user_check(tensors.size() == entry->size(), "a list of {} results is expected to have {}", tensors.size(),
               entry->size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const json& name = entry->at(i).contains("name")        ? entry->at(i)
                         : entry->at(i).contains("as_tensor") ? entry->at(i).at("as_tensor")
                                                              : json();
      if (name.is_object()) values_[name.at("name").get<std::string>()] = tensors[i];
    }
  } else if (kind == "as_optional_tensor") {
    if (entry->contains("as_tensor")) values_[entry->at("as_tensor").at("name").get<std::string>()] = std::move(value);
  } else if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    values_[entry->at("as_name").get<std::string>()] = std::move(value);
  }
}

// ------------------------------------------------------------------------------------------------------ nodes
Place Program::place(const json& node) const {
  const json& metadata = node.at("metadata");
  return {module_path_of(metadata.value("nn_module_stack", "")), source_of(metadata.value("stack_trace", ""))};
}

constexpr std::string_view kOperators = "torch.ops.";

std::optional<c10::OperatorHandle> find_operator(const std::string& target) {
  if (target.rfind(kOperators, 0) != 0) return std::nullopt;
  const std::string rest = target.substr(kOperators.size());  // aten.conv2d.default
  const size_t first = rest.find('.'), last = rest.rfind('.');
  if (first == std::string::npos || last == first) return std::nullopt;
  std::string overload = rest.substr(last + 1);
  if (overload == "default") overload.clear();
  return c10::Dispatcher::singleton().findSchema(
      {rest.substr(0, first) + "::" + rest.substr(first + 1, last - first - 1), overload});
}

/// The node that the program is told to run by `with torch.no_grad():` and `with torch.autocast(...):`: a part of the
/// graph, to which both mean nothing where all floats are float32 and nothing is trained.
bool is_inlined(const std::string& target) {
  return target == "torch.ops.higher_order.wrap_with_set_grad_enabled" ||
         target == "torch.ops.higher_order.wrap_with_autocast";
}

/// Position of the argument that is a graph; what stands behind it are the graph's inputs.
size_t graph_argument(const json& node) {
  const json& inputs = node.at("inputs");
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].at("arg").contains("as_graph")) return i;
  user_error("its part '{}' has no graph", node.value("name", ""));
}

const json& inner_graph(const json& node) {
  return node.at("inputs").at(graph_argument(node)).at("arg").at("as_graph").at("graph");
}

/// Without the operators themselves nothing can be traced, so these are looked for first.
void Program::check_targets(const json& graph) {
  for (const json& node : graph.at("nodes")) {
    const std::string target = node.at("target").get<std::string>();
    if (is_inlined(target))
      check_targets(inner_graph(node));
    else if (target.rfind("torch.ops.higher_order.", 0) == 0)
      reading_.tracer.refuse(place(node), target,
                             "control flow that depends on values, or a part with a graph of its own");
    else if (target.rfind(kOperators, 0) == 0 && !find_operator(target))
      reading_.tracer.refuse(place(node), target, "");
  }
}

/// Python's operators on numbers.
struct NumberOperator {
  double (*compute)(double a, double b);
  enum class Result { Like, Integer, Real, Truth } result;  ///< Like: an integer when all operands are
};

const std::map<std::string_view, NumberOperator>& number_operators() {
  using Result = NumberOperator::Result;
  static const std::map<std::string_view, NumberOperator> table = {
      {"add", {[](double a, double b) { return a + b; }, Result::Like}},
      {"sub", {[](double a, double b) { return a - b; }, Result::Like}},
      {"mul", {[](double a, double b) { return a * b; }, Result::Like}},
      {"neg", {[](double a, double) { return -a; }, Result::Like}},
      {"truediv", {[](double a, double b) { return a / b; }, Result::Real}},
      {"floordiv", {[](double a, double b) { return std::floor(a / b); }, Result::Like}},
      {"mod", {[](double a, double b) { return a - std::floor(a / b) * b; }, Result::Like}},
      {"pow", {[](double a, double b) { return std::pow(a, b); }, Result::Like}},
      {"sym_max", {[](double a, double b) { return std::max(a, b); }, Result::Like}},
      {"sym_min", {[](double a, double b) { return std::min(a, b); }, Result::Like}},
      {"sym_float", {[](double a, double) { return a; }, Result::Real}},
      {"sym_int", {[](double a, double) { return std::trunc(a); }, Result::Integer}},
      {"trunc", {[](double a, double) { return std::trunc(a); }, Result::Integer}},
      {"floor", {[](double a, double) { return std::floor(a); }, Result::Integer}},
      {"ceil", {[](double a, double) { return std::ceil(a); }, Result::Integer}},
      {"round", {[](double a, double) { return std::nearbyint(a); }, Result::Integer}},
      {"eq", {[](double a, double b) { return double(a == b); }, Result::Truth}},
      {"ne", {[](double a, double b) { return double(a != b); }, Result::Truth}},
      {"lt", {[](double a, double b) { return double(a < b); }, Result::Truth}},
      {"le", {[](double a, double b) { return double(a <= b); }, Result::Truth}},
      {"gt", {[](double a, double b) { return double(a > b); }, Result::Truth}},
      {"ge", {[](double a, double b) { return double(a >= b); }, Result::Truth}},
      {"and_", {[](double a, double b) { return double(a != 0 && b != 0); }, Result::Truth}},
      {"or_", {[](double a, double b) { return double(a != 0 || b != 0); }, Result::Truth}},
      {"not_", {[](double a, double) { return double(a == 0); }, Result::Truth}},
      {"sym_not", {[](double a, double) { return double(a == 0); }, Result::Truth}},
  };
  return table;
}

void Program::run_number(const json& node, const std::string& target) {
  const auto found = number_operators().find(std::string_view(target).substr(target.rfind('.') + 1));
  user_check(found != number_operators().end(), "{}: {} is not supported", place(node).text(), target);
  double operands[2] = {};
  bool whole = true;
  const json& inputs = node.at("inputs");
  user_check(!inputs.empty() && inputs.size() <= 2, "{}: {} has {} operands", place(node).text(), target,
             inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const IValue operand = argument(inputs[i].at("arg"), c10::AnyType::get());
    whole = whole && (operand.isInt() || operand.isBool());
    operands[i] = operand.toScalar().toDouble();
  }
  const double value = found->second.compute(operands[0], operands[1]);
  const auto kind = found->second.result;
  const bool integer = kind == NumberOperator::Result::Integer || (kind == NumberOperator::Result::Like && whole);
  user_check(!integer || std::abs(value) < 9e15, "{}: {} gives no number", place(node).text(), target);
  assign(node.at("outputs").at(0), kind == NumberOperator::Result::Truth ? IValue(value != 0)
                                   : integer                             ? IValue(static_cast<int64_t>(value))
                                                                         : IValue(value));
}

void Program::run_operator(const json& node, const c10::OperatorHandle& handle) {
  const c10::FunctionSchema& schema = handle.schema();
  torch::jit::Stack stack;
  std::unordered_map<std::string, const json*> given;
  std::vector<const json*> positional;
  for (const json& input : node.at("inputs")) {
    const std::string name = input.value("name", "");
    if (name.empty())
      positional.push_back(&input.at("arg"));
    else
      given[name] = &input.at("arg");
  }
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const c10::Argument& parameter = schema.arguments()[i];
    const auto found = given.find(parameter.name());
    if (found != given.end())
      stack.push_back(argument(*found->second, parameter.type()));
    else if (i < positional.size())
      stack.push_back(argument(*positional[i], parameter.type()));
    else {
      user_check(parameter.default_value().has_value() || parameter.type()->kind() == c10::TypeKind::OptionalType,
                 "{}: {} lacks its argument '{}'", place(node).text(), schema.name(), parameter.name());
      stack.push_back(parameter.default_value().value_or(IValue()));
    }
  }
  const size_t count = stack.size();
  reading_.tracer.call(
      schema, count, [&](torch::jit::Stack& s) { handle.callBoxed(&s); }, stack, place(node));
  const json& outputs = node.at("outputs");
  if (outputs.size() == stack.size())
    for (size_t i = 0; i < stack.size(); ++i) assign(outputs[i], stack[i]);
  else
    user_check(outputs.empty(), "{}: {} has {} results, its graph names {}", place(node).text(), schema.name(),
               stack.size(), outputs.size());
}

/// Names are those of the inner graph while it runs.
void Program::run_inlined(const json& node) {
  const json &graph = inner_graph(node), &given = node.at("inputs"), &names = graph.at("inputs");
  const size_t first = graph_argument(node) + 1;
  user_check(given.size() - first == names.size(), "{}: its graph has {} inputs, {} are given", place(node).text(),
             names.size(), given.size() - first);
  std::vector<IValue> arguments, results;
  for (size_t i = first; i < given.size(); ++i) arguments.push_back(argument(given[i].at("arg"), c10::AnyType::get()));
  auto outside = std::exchange(values_, {});
  for (size_t i = 0; i < names.size(); ++i) assign(names[i], arguments[i]);
  for (const json& inner : graph.at("nodes")) run_node(inner);
  for (const json& output : graph.at("outputs")) results.push_back(argument(output, c10::AnyType::get()));
  values_ = std::move(outside);
  const json& outputs = node.at("outputs");
  user_check(outputs.size() <= results.size(), "{}: its graph has {} results, {} are read", place(node).text(),
             results.size(), outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) assign(outputs[i], results[i]);
}

void Program::run_node(const json& node) {
  const std::string target = node.at("target").get<std::string>();
  if (is_inlined(target)) return run_inlined(node);
  for (const char* ignored : {"_assert_scalar", "sym_constrain_range", "_assert_async"})
    if (target.find(ignored) != std::string::npos) return;
  if (const auto handle = find_operator(target)) return run_operator(node, *handle);
  run_number(node, target);
}

// ------------------------------------------------------------------------------------------------------ outputs
/// Keys of a dictionary of any of Python's kinds, in order; empty for lists and tuples.
json dictionary_keys(const json& spec) {
  const std::string type = spec.at("type").get<std::string>();
  const json& context = spec.at("context");
  if (type == "collections.defaultdict") return context.at("dict_context");
  if (type != "builtins.dict" && type != "collections.OrderedDict") return json::array();
  const json keys = json::parse(context.get<std::string>());
  return keys.is_array() ? keys : json::array();
}

/// Names of the leaves of a nested result, as for TorchScript: "output", "output_1", keys of dictionaries.
void leaf_names(const json& spec, const std::string& name, std::vector<std::string>& names) {
  const json& children = spec.at("children_spec");
  if (spec.at("type").is_null()) return names.push_back(name.empty() ? "output" : name);
  const json keys = dictionary_keys(spec);
  for (size_t i = 0; i < children.size(); ++i) {
    if (i < keys.size() && keys[i].is_string())
      leaf_names(children[i], (name.empty() ? "" : name + "_") + keys[i].get<std::string>(), names);
    else
      leaf_names(children[i], fmt::format("{}_{}", name.empty() ? "output" : name, i), names);
  }
}

std::vector<std::string> Program::output_names(size_t count) const {
  std::vector<std::string> names;
  try {
    const json& call = module().at("module_call_graph").at(0).at("signature");
    const json spec = json::parse(call.at("out_spec").get<std::string>());
    leaf_names(spec.at(1), "", names);
  } catch (const json::exception&) {
    names.clear();  // classes of the user's own
  }
  if (names.size() != count) {
    names.clear();
    for (size_t i = 0; i < count; ++i) names.push_back(count == 1 ? "output" : fmt::format("output_{}", i));
  }
  return names;
}

/// Where the program computes the value of this name.
Place Program::writer_of(const std::string& name) const {
  for (const json& node : graph_->at("nodes"))
    for (const json& output : node.at("outputs"))
      if (const auto [kind, entry] = variant(output); kind == "as_tensor" && entry->value("name", "") == name)
        return place(node);
  return {};
}

void Program::add_outputs() {
  std::vector<const json*> results;
  for (const json& entry : module().at("signature").at("output_specs")) {
    const auto [kind, spec] = variant(entry);
    if (kind == "user_output") {
      results.push_back(&spec->at("arg"));
    } else {
      // Writing to an input ends with the run, unless the program gives the result back by it.
      const std::string name = spec->at("arg").value("name", "");
      user_check(kind != "buffer_mutation" && (name.empty() || !reading_.tracer.varies(value(name))),
                 "{}: keeps a result from one run to the next ({} '{}'); make such state an input and an output of the "
                 "network",
                 writer_of(name).text(), kind, spec->value("buffer_name", spec->value("user_input_name", "")));
    }
  }
  const auto names = output_names(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const auto [kind, name] = variant(*results[i]);
    if (kind != "as_tensor") continue;  // a number
    const at::Tensor tensor = value(name->at("name").get<std::string>()).toTensor();
    reading_.tracer.add_output(names[i], tensor, {});
    reading_.outputs.push_back(tensor);
  }
}

void Program::run(const TorchImportOptions& options) {
  const json& version = archive_.program.at("schema_version");
  const int64_t major = version.is_object() ? version.at("major").get<int64_t>() : version.get<int64_t>();
  user_check(major == kSchemaMajor, "has version {} of the archive's schema, espq reads {} (torch 2.7 to 2.13)", major,
             kSchemaMajor);
  graph_ = &module().at("graph");
  add_inputs(options);
  check_targets(*graph_);
  reading_.tracer.check_refusals();
  for (const json& node : graph_->at("nodes")) run_node(node);
  add_outputs();
}

}  // namespace

void read_exported_program(std::string bytes, const TorchImportOptions& options, Reading& reading) {
  try {
    Archive archive = read_archive(bytes);
    std::string().swap(bytes);
    Program(std::move(archive), reading).run(options);
    reading.tracer.release();
  } catch (const json::exception& error) {
    user_error("its graph has another form than espq knows (torch 2.7 to 2.13): {}", error.what());
  }
}

}  // namespace espq::torch_frontend
