#include "torch_frontend/tracer.h"

#include "torch_frontend/call.h"

namespace espq::torch_frontend {
namespace {

/// Operators that read what a tensor is, not what it holds.
bool is_metadata(const std::string& name) {
  static const std::unordered_set<std::string_view> names = {"aten::size",
                                                             "aten::dim",
                                                             "aten::numel",
                                                             "aten::len",
                                                             "aten::stride",
                                                             "aten::is_floating_point",
                                                             "aten::is_complex",
                                                             "aten::is_contiguous",
                                                             "aten::__is__",
                                                             "aten::__isnot__",
                                                             "aten::storage_offset",
                                                             "aten::sym_size",
                                                             "aten::sym_numel",
                                                             "aten::sym_stride",
                                                             "aten::sym_storage_offset",
                                                             "aten::is_same_size",
                                                             "aten::is_signed",
                                                             "aten::get_device",
                                                             "aten::element_size",
                                                             "aten::ndimension",
                                                             "aten::result_type",
                                                             "aten::_assert_tensor_metadata",
                                                             "aten::requires_grad",
                                                             "aten::is_inference",
                                                             "aten::is_nonzero_shape",
                                                             "prim::shape",
                                                             "prim::dtype",
                                                             "prim::device",
                                                             "prim::layout",
                                                             "prim::is_cuda",
                                                             "prim::is_quantized",
                                                             "prim::requires_grad",
                                                             "prim::is_sparse",
                                                             "prim::is_mkldnn",
                                                             "prim::is_meta",
                                                             "prim::is_cpu",
                                                             "prim::is_xla",
                                                             "prim::is_mps",
                                                             "prim::is_vulkan",
                                                             "prim::is_nested",
                                                             "prim::itemsize",
                                                             "prim::grad",
                                                             "prim::is_leaf",
                                                             "aten::is_conj",
                                                             "aten::is_neg"};
  return names.count(name) != 0;
}

/// Operators whose result depends only on the shape and type of their operand.
bool is_constant_maker(const std::string& name) {
  static const std::unordered_set<std::string_view> names = {
      "aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::empty_like",      "aten::new_zeros",
      "aten::new_ones",   "aten::new_full",  "aten::new_empty", "aten::_shape_as_tensor"};
  return names.count(name) != 0;
}

/// Nothing of a file may reach the disk, the network or foreign code.
bool is_forbidden(const std::string& name) {
  static const std::unordered_set<std::string_view> names = {"aten::from_file", "aten::save",      "aten::set_data",
                                                             "prim::PythonOp",  "prim::rpc_async", "prim::rpc_sync",
                                                             "prim::rpc_remote"};
  return names.count(name) != 0;
}

/// A constant would be another network than the user's.
bool is_random(const std::string& name) {
  static const std::unordered_set<std::string_view> names = {
      "aten::rand",      "aten::randn",       "aten::randint",      "aten::rand_like",   "aten::randn_like",
      "aten::bernoulli", "aten::bernoulli_",  "aten::normal",       "aten::normal_",     "aten::uniform_",
      "aten::randperm",  "aten::multinomial", "aten::randint_like", "aten::exponential_"};
  return names.count(name) != 0;
}

bool holds_tensors(const c10::Type& type) {
  if (type.kind() == c10::TypeKind::TensorType) return true;
  for (const auto& contained : type.containedTypes())
    if (contained && holds_tensors(*contained)) return true;
  return false;
}

void collect_tensors(const c10::IValue& value, std::vector<at::Tensor>& tensors) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) tensors.push_back(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) collect_tensors(element, tensors);
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) collect_tensors(element, tensors);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) collect_tensors(entry.value(), tensors);
  }
}

/// Operands that the operator changes.
std::vector<at::Tensor> written_tensors(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments) {
  std::vector<at::Tensor> written;
  for (size_t i = 0; i < arguments.size() && i < schema.arguments().size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    if (alias && alias->isWrite()) collect_tensors(arguments[i], written);
  }
  return written;
}

void check_plain(const at::Tensor& value) {
  user_check(!value.is_sparse() && !value.is_quantized() && !value.is_complex(),
             "a constant is sparse, quantized or complex; espq takes plain tensors");
}

const c10::TensorImpl* address(const at::Tensor& tensor) { return tensor.unsafeGetTensorImpl(); }

}  // namespace

at::ScalarType graph_dtype(at::ScalarType dtype) { return at::isFloatingType(dtype) ? at::kFloat : dtype; }

std::vector<at::Tensor> tensors_in(const c10::IValue& value) {
  std::vector<at::Tensor> tensors;
  collect_tensors(value, tensors);
  return tensors;
}

// ------------------------------------------------------------------------------------------------------ variables
void Tracer::add_input(const std::string& name, const at::Tensor& example) {
  Variable& variable = draft.graph.add_variable(name);
  draft.graph.add_input(variable);
  bind(example, &variable);
}

void Tracer::name_constant(const at::Tensor& constant, const std::string& name, Origin origin) {
  if (!constant.defined()) return;
  constants_.try_emplace(address(constant), Constant{constant, name});
  if (origin == Origin::File && constant.has_storage())
    kept_.try_emplace(constant.storage().unsafeGetStorageImpl(), Kept{constant, name});
}

void Tracer::bind(const at::Tensor& tensor, Variable* variable) {
  Cell& cell = cells_[address(tensor)];
  cell.tensor = tensor;
  cell.variable = variable;
  if (tensor.has_storage()) {
    const auto memory = memories_.find(tensor.storage().unsafeGetStorageImpl());
    cell.version = memory == memories_.end() ? 0 : memory->second.version;
  }
  record_value(variable, tensor);
}

void Tracer::record_value(Variable* variable, const at::Tensor& tensor) {
  if (!variable || variable->is_parameter()) return;
  variable->set_shape(tensor.sizes().vec());
  variable->set_dtype(graph_dtype(tensor.scalar_type()));
  if (record_) values_[variable] = tensor.to(variable->dtype()).clone(at::MemoryFormat::Contiguous);
}

bool Tracer::find_cell(const at::Tensor& tensor) const {
  if (cells_.count(address(tensor))) return true;
  return tensor.has_storage() && memories_.count(tensor.storage().unsafeGetStorageImpl()) != 0;
}

Variable* Tracer::parameter(const Place& place, const std::string& suffix, const at::Tensor& value) {
  check_plain(value);
  return &draft.graph.add_parameter(
      draft.parameter_name(place.module_path, suffix),
      value.detach().to(at::kCPU, graph_dtype(value.scalar_type())).clone(at::MemoryFormat::Contiguous));
}

/// A constant's value for one parameter of the graph: the memory that the file was read to where nobody else has it,
/// so that large networks are held once.
at::Tensor Tracer::constant_value(const at::Tensor& constant) {
  const auto kept = constant.has_storage() ? kept_.find(constant.storage().unsafeGetStorageImpl()) : kept_.end();
  const bool whole = kept != kept_.end() && !kept->second.shared && constant.is_contiguous() &&
                     constant.scalar_type() == graph_dtype(constant.scalar_type()) && constant.is_cpu() &&
                     static_cast<size_t>(constant.numel()) * constant.element_size() == constant.storage().nbytes();
  if (!whole)
    return constant.detach().to(at::kCPU, graph_dtype(constant.scalar_type())).clone(at::MemoryFormat::Contiguous);
  kept->second.shared = true;
  return constant.detach();
}

Variable* Tracer::variable(const at::Tensor& tensor, const Place& place) {
  const auto memory = tensor.has_storage() ? memories_.find(tensor.storage().unsafeGetStorageImpl()) : memories_.end();
  const auto cell = cells_.find(address(tensor));
  if (memory != memories_.end() && (cell == cells_.end() || cell->second.version < memory->second.version))
    return read_through(tensor, memory->second, place);
  if (cell != cells_.end()) {
    const auto unsupported = unsupported_.find(cell->second.variable);
    if (unsupported != unsupported_.end()) user_error("{}", unsupported->second);
    return cell->second.variable;
  }
  Constant& constant = constants_.try_emplace(address(tensor), Constant{tensor, {}}).first->second;
  if (!constant.variable) {
    check_plain(tensor);
    constant.variable =
        &draft.graph.add_parameter(draft.parameter_name(place.module_path, "constant"), constant_value(tensor));
    if (!constant.name.empty() && !draft.graph.find_variable(constant.name))
      draft.graph.rename(*constant.variable, constant.name);
  }
  return constant.variable;
}

void Tracer::add_output(const std::string& name, const at::Tensor& value, const Place& place) {
  Variable* result = variable(value, place);
  Graph& graph = draft.graph;
  if (!result->producer() || graph.is_output(result)) {
    result = emit(place, "Identity", {result}, {})[0];
    record_value(result, value);
  }
  std::string unique = name;
  for (int i = 2; graph.find_variable(unique); ++i) unique = fmt::format("{}_{}", name, i);
  graph.rename(*result, unique);
  graph.add_output(*result);
}

void Tracer::release() {
  cells_.clear();
  memories_.clear();
  constants_.clear();
  kept_.clear();
}

bool Tracer::varies(const c10::IValue& value) const {
  const auto tensors = tensors_in(value);
  return std::any_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) { return find_cell(tensor); });
}

// ------------------------------------------------------------------------------------------------------ refusals
void Tracer::refuse(const Place& place, const std::string& target, const std::string& reason) {
  for (Refusal& known : refusals_)
    if (known.target == target && known.reason == reason) return known.places.push_back(place);
  refusals_.push_back({target, reason, {place}});
}

void Tracer::check_refusals() const {
  if (refusals_.empty()) return;
  std::string list;
  for (const Refusal& refusal : refusals_) {
    constexpr size_t kShown = 5;
    std::vector<std::string> places;
    for (size_t i = 0; i < refusal.places.size() && i < kShown; ++i) places.push_back(refusal.places[i].text());
    if (refusal.places.size() > kShown) places.push_back(fmt::format("{} more", refusal.places.size() - kShown));
    list += fmt::format("{}{}{} (in {})", list.empty() ? "" : "; ", refusal.target,
                        refusal.reason.empty() ? "" : ": " + refusal.reason, fmt::join(places, "; "));
  }
  user_error("espq cannot take {} of its operators: {}", refusals_.size(), list);
}

// ------------------------------------------------------------------------------------------------------ calls
/// Operators of lists, tuples and dictionaries move tensors without looking at them.
bool Tracer::is_tensor_operator(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments) const {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!varies(arguments[i])) continue;
    if (i >= schema.arguments().size() || holds_tensors(*schema.arguments()[i].type())) return true;
  }
  return false;
}

/// What a module holds when forward() begins must be the same in every run.
void Tracer::check_written(const at::Tensor& written, const std::string& name, const Place& place) const {
  // These write down what a tensor is, not what it holds; batch normalization writes in training only, which is refused
  // with what to do about it.
  for (const char* harmless : {"aten::detach_", "aten::requires_grad_", "batch_norm"})
    if (name.find(harmless) != std::string::npos) return;
  const auto kept = written.has_storage() ? kept_.find(written.storage().unsafeGetStorageImpl()) : kept_.end();
  user_check(kept == kept_.end(),
             "{}: {} writes to '{}' of the module, which keeps the result from one run to the next; "
             "make such state an input and an output of the network",
             place.text(), name, kept == kept_.end() ? "" : kept->second.name);
}

void Tracer::forget_constants(const at::Tensor& written) {
  for (auto& [unused, constant] : constants_)
    if (constant.variable && constant.tensor.is_alias_of(written)) constant.variable = nullptr;
}

void Tracer::fail(const Place& place, const std::string& name, const std::string& reason) const {
  check_refusals();
  user_error("{}: {} fails on the example inputs (are their shapes right?): {}", place.text(), name,
             reason.substr(0, reason.find('\n')));
}

void Tracer::call(const c10::FunctionSchema& schema, size_t count,
                  const std::function<void(torch::jit::Stack&)>& kernel, torch::jit::Stack& stack, const Place& place) {
  const std::string& name = schema.name();
  user_check(!is_forbidden(name), "{}: {} is refused: a network has no business with it", place.text(), name);
  user_check(!is_random(name), "{}: {} makes random numbers, which a chip does not have", place.text(), name);
  std::vector<c10::IValue> arguments(stack.end() - static_cast<std::ptrdiff_t>(count), stack.end());
  const std::vector<at::Tensor> written = written_tensors(schema, arguments);
  for (const at::Tensor& tensor : written) check_written(tensor, name, place);
  try {
    if (is_tensor_operator(schema, arguments))
      return trace(schema, std::move(arguments), written, kernel, stack, place);
    for (const at::Tensor& tensor : written) forget_constants(tensor);
    kernel(stack);
  } catch (const UserError&) {
    throw;
  } catch (const c10::Error& error) {
    fail(place, name, error.what_without_backtrace());
  } catch (const std::exception& error) {
    fail(place, name, error.what());
  }
}

void Tracer::trace(const c10::FunctionSchema& schema, std::vector<c10::IValue> arguments,
                   const std::vector<at::Tensor>& written, const std::function<void(torch::jit::Stack&)>& kernel,
                   torch::jit::Stack& stack, const Place& place) {
  const std::string& name = schema.name();
  for (const at::Tensor& tensor : written) prepare_write(tensor, place);
  const size_t below = stack.size() - arguments.size();
  kernel(stack);
  if (is_constant_maker(name)) return;
  std::vector<at::Tensor> outputs;
  for (size_t i = below; i < stack.size(); ++i) collect_tensors(stack[i], outputs);
  if (is_metadata(name)) return;
  if (outputs.empty() && written.empty()) {
    check_refusals();
    user_check(stack.size() == below,
               "{}: {} makes a number of values that depend on the inputs; "
               "espq needs networks whose course does not depend on values",
               place.text(), name);
    return;
  }
  const bool aten = name.rfind("aten::", 0) == 0;
  const TableEntry* entry = aten ? find_mapping(std::string_view(name).substr(6)) : nullptr;
  Call call(*this, schema, std::move(arguments), outputs, place);
  bool refused = !entry;
  try {
    if (entry)
      entry->map(call);
    else
      refuse(place, name, "");
  } catch (const UserError& error) {
    refuse(place, name, error.what());
    call.results.clear();
    refused = true;
  }
  CallRecord record{name, place, draft.take_emitted(), {}};
  call.results.resize(outputs.size(), nullptr);
  for (size_t i = 0; i < outputs.size(); ++i) {
    // What comes of a refused operator has a variable, so that tracing goes on and finds the others.
    if (!call.results[i]) {
      call.results[i] = &draft.graph.add_variable();
      if (!refused)
        unsupported_[call.results[i]] =
            fmt::format("reads result {} of {} ({}), which espq does not have", i, name, place.text());
    }
    const bool in_place = std::any_of(written.begin(), written.end(),
                                      [&](const at::Tensor& tensor) { return tensor.is_same(outputs[i]); });
    if (in_place)
      write(outputs[i], call.results[i], place);
    else
      bind(outputs[i], call.results[i]);
    record.results.push_back(call.results[i]);
  }
  draft.take_emitted();
  if (record_) records_.push_back(std::move(record));
}

}  // namespace espq::torch_frontend
