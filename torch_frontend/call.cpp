#include "torch_frontend/call.h"

namespace espq::torch_frontend {

const c10::IValue* Call::find(std::string_view name) const {
  const auto& specs = schema_.arguments();
  for (size_t i = 0; i < specs.size() && i < arguments_.size(); ++i)
    if (specs[i].name() == name) return &arguments_[i];
  return nullptr;
}

const c10::IValue& Call::get(std::string_view name) const {
  const c10::IValue* value = find(name);
  internal_check(value != nullptr, fmt::format("{} has no argument '{}'", schema_.name(), name));
  return *value;
}

bool Call::has(std::string_view name) const {
  const c10::IValue* value = find(name);
  return value && !value->isNone();
}

bool Call::is_tensor(std::string_view name) const { return has(name) && get(name).isTensor(); }
bool Call::is_text(std::string_view name) const { return has(name) && get(name).isString(); }
bool Call::is_list(std::string_view name) const { return has(name) && get(name).isList(); }

namespace {

/// A number, also one that hides in a constant tensor without dimensions.
c10::Scalar to_scalar(const c10::IValue& value) {
  return value.isTensor() ? value.toTensor().item() : value.toScalar();
}

}  // namespace

int64_t Call::integer(std::string_view name) const { return to_scalar(get(name)).to<int64_t>(); }
int64_t Call::integer(std::string_view name, int64_t fallback) const { return has(name) ? integer(name) : fallback; }
double Call::number(std::string_view name) const {
  if (is_tensor(name)) return constant(name).item<double>();
  return to_scalar(get(name)).to<double>();
}
double Call::number(std::string_view name, double fallback) const { return has(name) ? number(name) : fallback; }
bool Call::flag(std::string_view name) const { return to_scalar(get(name)).to<bool>(); }
bool Call::flag(std::string_view name, bool fallback) const { return has(name) ? flag(name) : fallback; }

std::string Call::text(std::string_view name, std::string_view fallback) const {
  return has(name) ? get(name).toStringRef() : std::string(fallback);
}

Call::Integers Call::integers(std::string_view name) const {
  if (!has(name)) return {};
  const c10::IValue& value = get(name);
  if (!value.isList()) return {to_scalar(value).to<int64_t>()};
  Integers result;
  for (const c10::IValue& element : value.toListRef()) result.push_back(to_scalar(element).to<int64_t>());
  return result;
}

Call::Integers Call::integers(std::string_view name, size_t count) const {
  Integers result = integers(name);
  if (result.size() == 1) result.resize(count, result[0]);
  check(result.size() == count, "its {} has {} entries, {} are needed", name, result.size(), count);
  return result;
}

std::vector<double> Call::numbers(std::string_view name) const {
  if (!has(name)) return {};
  const c10::IValue& value = get(name);
  if (!value.isList()) return {to_scalar(value).to<double>()};
  std::vector<double> result;
  for (const c10::IValue& element : value.toListRef()) result.push_back(to_scalar(element).to<double>());
  return result;
}

int64_t Call::dim(std::string_view name, int64_t rank) const {
  const int64_t value = integer(name), size = std::max<int64_t>(rank, 1);
  check(value >= -size && value < size, "dimension {} is outside of its operand's {} dimensions", value, rank);
  return value < 0 ? value + size : value;
}

Call::Integers Call::dims(std::string_view name, int64_t rank) const {
  Integers result = integers(name);
  for (int64_t& value : result)
    if (value < 0) value += std::max<int64_t>(rank, 1);
  return result;
}

// ------------------------------------------------------------------------------------------------------ operands
at::Tensor Call::sample(std::string_view name) const { return has(name) ? get(name).toTensor() : at::Tensor(); }

std::vector<at::Tensor> Call::samples(std::string_view name) const {
  std::vector<at::Tensor> result;
  for (const c10::IValue& element : get(name).toListRef()) {
    result.push_back(element.isNone() ? at::Tensor() : element.toTensor());
  }
  return result;
}

at::Tensor Call::constant(std::string_view name) const {
  at::Tensor value = sample(name);
  check(!value.defined() || tracer_.is_constant(value), "its {} depends on the inputs, espq needs a constant", name);
  return value;
}

Variable* Call::tensor(std::string_view name) const {
  const at::Tensor value = sample(name);
  return value.defined() ? variable(value) : nullptr;
}

Variable* Call::as(const at::Tensor& value, at::ScalarType dtype) const {
  if (graph_dtype(value.scalar_type()) == dtype) return variable(value);
  if (tracer_.is_constant(value)) return parameter("constant", value.to(dtype));
  return cast(variable(value), dtype);
}

Variable* Call::tensor_as(std::string_view name, at::ScalarType dtype) const {
  return is_tensor(name) ? as(sample(name), dtype) : scalar(number(name), dtype);
}

Variable* Call::scalar(double value, at::ScalarType dtype) const {
  return parameter("constant", at::scalar_tensor(value, at::kDouble).to(dtype));
}

Variable* Call::parameter(const std::string& suffix, const Integers& value) const {
  return parameter(suffix, at::tensor(value, at::kLong));
}

// ------------------------------------------------------------------------------------------------------ operations
Variable* Call::reshape(Variable* input, const Shape& shape) const {
  return emit("Reshape", {input, parameter("shape", shape)});
}

Variable* Call::transpose(Variable* input, const Integers& permutation) const {
  return emit("Transpose", {input}, {{"perm", permutation}});
}

Variable* Call::slice(Variable* input, int64_t axis, int64_t start, int64_t end, int64_t step) const {
  return emit("Slice", {input, parameter("starts", Integers{start}), parameter("ends", Integers{end}),
                        parameter("axes", Integers{axis}), parameter("steps", Integers{step})});
}

Variable* Call::squeeze(Variable* input, const Integers& axes) const {
  return emit("Squeeze", {input, parameter("axes", axes)});
}

Variable* Call::unsqueeze(Variable* input, const Integers& axes) const {
  return emit("Unsqueeze", {input, parameter("axes", axes)});
}

Variable* Call::cast(Variable* input, at::ScalarType dtype) const {
  return emit("Cast", {input}, {{"to", onnx_type(dtype)}});
}

Variable* Call::expand(Variable* input, const Shape& from, const Shape& to) const {
  return from == to ? input : emit("Expand", {input, parameter("shape", to)});
}

int64_t onnx_type(at::ScalarType dtype) {
  switch (graph_dtype(dtype)) {
    case at::kFloat:
      return 1;
    case at::kByte:
      return 2;
    case at::kChar:
      return 3;
    case at::kShort:
      return 5;
    case at::kInt:
      return 6;
    case at::kLong:
      return 7;
    case at::kBool:
      return 9;
    default:
      user_error("espq does not support the element type {}", c10::toString(dtype));
  }
}

}  // namespace espq::torch_frontend
