#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/ops/operator.h"
#include "torch_frontend/tracer.h"

namespace espq::torch_frontend {

/// One call of an aten operator as a mapping sees it: arguments by name with the schema's defaults filled in, example
/// values of operands and results, and the means to write operations.
class Call {
 public:
  using Integers = std::vector<int64_t>;
  using Variables = std::vector<Variable*>;

  Call(Tracer& tracer, const c10::FunctionSchema& schema, std::vector<c10::IValue> arguments,
       std::vector<at::Tensor> outputs, Place place)
      : tracer_(tracer),
        schema_(schema),
        arguments_(std::move(arguments)),
        outputs_(std::move(outputs)),
        place_(std::move(place)) {}

  const std::string& overload() const { return schema_.overload_name(); }
  const Place& place() const { return place_; }

  // --- arguments
  // --------------------------------------------------------------------------------------------------------
  /// The schema has it and it is not None.
  bool has(std::string_view name) const;
  bool is_tensor(std::string_view name) const;
  bool is_list(std::string_view name) const;
  bool is_text(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  int64_t integer(std::string_view name, int64_t fallback) const;
  double number(std::string_view name) const;
  double number(std::string_view name, double fallback) const;
  bool flag(std::string_view name) const;
  bool flag(std::string_view name, bool fallback) const;
  std::string text(std::string_view name, std::string_view fallback = {}) const;
  /// A list of integers, or one integer as a list of one. Empty when None.
  Integers integers(std::string_view name) const;
  /// The same with one entry repeated `count` times.
  Integers integers(std::string_view name, size_t count) const;
  std::vector<double> numbers(std::string_view name) const;
  /// A dimension of `rank`, counted from the front.
  int64_t dim(std::string_view name, int64_t rank) const;
  Integers dims(std::string_view name, int64_t rank) const;

  // --- operands
  // ---------------------------------------------------------------------------------------------------------
  /// LibTorch's tensor with the example values. Undefined when None.
  at::Tensor sample(std::string_view name) const;
  std::vector<at::Tensor> samples(std::string_view name) const;
  Shape shape(std::string_view name) const { return sample(name).sizes().vec(); }
  int64_t rank(std::string_view name) const { return sample(name).dim(); }
  at::ScalarType dtype(std::string_view name) const { return graph_dtype(sample(name).scalar_type()); }
  bool is_constant(std::string_view name) const { return tracer_.is_constant(sample(name)); }
  bool is_constant(const at::Tensor& value) const { return tracer_.is_constant(value); }
  /// A constant operand's value. Throws UserError when it depends on the inputs.
  at::Tensor constant(std::string_view name) const;
  /// nullptr when None.
  Variable* tensor(std::string_view name) const;
  Variable* variable(const at::Tensor& value) const { return tracer_.variable(value, place_); }
  /// An operand in the given element type; a number becomes a parameter.
  Variable* tensor_as(std::string_view name, at::ScalarType dtype) const;
  Variable* as(const at::Tensor& value, at::ScalarType dtype) const;
  /// What every operation with one tensor and a number for the other does.
  Variable* scalar(double value, at::ScalarType dtype = at::kFloat) const;
  Variable* parameter(const std::string& suffix, const at::Tensor& value) const {
    return tracer_.parameter(place_, suffix, value);
  }
  Variable* parameter(const std::string& suffix, const Integers& value) const;

  // --- results
  // ----------------------------------------------------------------------------------------------------------
  const at::Tensor& output(size_t index = 0) const { return outputs_.at(index); }
  size_t output_count() const { return outputs_.size(); }
  Shape output_shape(size_t index = 0) const { return output(index).sizes().vec(); }
  at::ScalarType output_dtype(size_t index = 0) const { return graph_dtype(output(index).scalar_type()); }
  Variables results;  ///< one per output; nullptr = refused when somebody reads it

  void result(Variable* variable) { results = {variable}; }
  void result(const std::string& type, Variables inputs, AttributeMap attributes = {}) {
    result(emit(type, std::move(inputs), std::move(attributes)));
  }

  // --- operations
  // -------------------------------------------------------------------------------------------------------
  Variable* emit(const std::string& type, Variables inputs, AttributeMap attributes = {}) const {
    return emit_many(type, std::move(inputs), std::move(attributes), 1)[0];
  }
  Variables emit_many(const std::string& type, Variables inputs, AttributeMap attributes, size_t outputs) const {
    return tracer_.emit(place_, type, std::move(inputs), std::move(attributes), outputs);
  }
  Variable* reshape(Variable* input, const Shape& shape) const;
  Variable* transpose(Variable* input, const Integers& permutation) const;
  /// Elements start, start + step, ... below end of one axis. step > 0.
  Variable* slice(Variable* input, int64_t axis, int64_t start, int64_t end, int64_t step = 1) const;
  Variable* squeeze(Variable* input, const Integers& axes) const;
  Variable* unsqueeze(Variable* input, const Integers& axes) const;
  Variable* cast(Variable* input, at::ScalarType dtype) const;
  Variable* expand(Variable* input, const Shape& from, const Shape& to) const;
  /// The part `view` of a tensor: `whole` is any contiguous tensor of its shape, `view` shares whole's memory.
  Variable* read_region(const at::Tensor& whole, Variable* source, const at::Tensor& view) const {
    return torch_frontend::read_region(tracer_, place_, whole, source, view);
  }
  /// `target` with `value` written to the part `view`.
  Variable* write_region(const at::Tensor& whole, Variable* target, const at::Tensor& view, Variable* value) const {
    return torch_frontend::write_region(tracer_, place_, whole, target, view, value);
  }

  /// Throws UserError; the place is added by whoever catches it.
  template <typename... Args>
  void check(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    user_check(condition, format, std::forward<Args>(args)...);
  }

 private:
  Tracer& tracer_;
  const c10::FunctionSchema& schema_;
  std::vector<c10::IValue> arguments_;
  std::vector<at::Tensor> outputs_;
  Place place_;
  const c10::IValue* find(std::string_view name) const;
  const c10::IValue& get(std::string_view name) const;
};

/// Number of an element type in ONNX's Cast. Throws UserError for types that ONNX lacks.
int64_t onnx_type(at::ScalarType dtype);

using Mapping = void (*)(Call&);
/// How strictly LibTorch and the graph must agree: what the family computes decides.
enum class Family { Movement, Arithmetic, Transcendental, Product, Recurrent };
double tolerance(Family family);

struct TableEntry {
  Mapping map = nullptr;
  Family family = Family::Arithmetic;
};
/// The entry of "conv2d", or of "relu" for "relu_". nullptr when there is none.
const TableEntry* find_mapping(std::string_view name);

}  // namespace espq::torch_frontend
