#include "core/ops/scalar_function.h"

#include <charconv>
#include <map>

#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Compute = at::Tensor (*)(const Tensors&);

struct Step {
  size_t operands;
  Compute compute;
};

at::Tensor truth(const at::Tensor& value) { return value.to(at::kBool); }

/// The operators of the vocabulary that look at single elements, and the two directions of Cast.
const std::map<std::string_view, Step>& steps() {
  static const std::map<std::string_view, Step> table = {
      {"Add", {2, [](const Tensors& in) { return in[0] + in[1]; }}},
      {"Sub", {2, [](const Tensors& in) { return in[0] - in[1]; }}},
      {"Mul", {2, [](const Tensors& in) { return in[0] * in[1]; }}},
      {"Div", {2, [](const Tensors& in) { return in[0] / in[1]; }}},
      {"Pow", {2, [](const Tensors& in) { return at::pow(in[0], in[1]); }}},
      {"Max", {2, [](const Tensors& in) { return at::maximum(in[0], in[1]); }}},
      {"Min", {2, [](const Tensors& in) { return at::minimum(in[0], in[1]); }}},
      {"Greater", {2, [](const Tensors& in) { return in[0] > in[1]; }}},
      {"GreaterOrEqual", {2, [](const Tensors& in) { return in[0] >= in[1]; }}},
      {"Less", {2, [](const Tensors& in) { return in[0] < in[1]; }}},
      {"LessOrEqual", {2, [](const Tensors& in) { return in[0] <= in[1]; }}},
      {"Equal", {2, [](const Tensors& in) { return in[0] == in[1]; }}},
      {"And", {2, [](const Tensors& in) { return at::logical_and(in[0], in[1]); }}},
      {"Or", {2, [](const Tensors& in) { return at::logical_or(in[0], in[1]); }}},
      {"Xor", {2, [](const Tensors& in) { return at::logical_xor(in[0], in[1]); }}},
      {"Not", {1, [](const Tensors& in) { return at::logical_not(in[0]); }}},
      {"Where", {3, [](const Tensors& in) { return at::where(truth(in[0]), in[1], in[2]); }}},
      {"ToFloat", {1, [](const Tensors& in) { return in[0].to(at::kFloat); }}},
      {"ToBool", {1, [](const Tensors& in) { return truth(in[0]); }}},
      {"Clip", {3, [](const Tensors& in) { return at::minimum(at::maximum(in[0], in[1]), in[2]); }}},
      {"Relu", {1, [](const Tensors& in) { return at::relu(in[0]); }}},
      {"LeakyRelu", {2, [](const Tensors& in) { return at::where(in[0] >= 0, in[0], in[0] * in[1]); }}},
      {"Neg", {1, [](const Tensors& in) { return -in[0]; }}},
      {"Abs", {1, [](const Tensors& in) { return at::abs(in[0]); }}},
      {"Sign", {1, [](const Tensors& in) { return at::sign(in[0]); }}},
      {"Floor", {1, [](const Tensors& in) { return at::floor(in[0]); }}},
      {"Ceil", {1, [](const Tensors& in) { return at::ceil(in[0]); }}},
      {"Round", {1, [](const Tensors& in) { return at::round(in[0]); }}},
      {"Exp", {1, [](const Tensors& in) { return at::exp(in[0]); }}},
      {"Log", {1, [](const Tensors& in) { return at::log(in[0]); }}},
      {"Sqrt", {1, [](const Tensors& in) { return at::sqrt(in[0]); }}},
      {"Reciprocal", {1, [](const Tensors& in) { return at::reciprocal(in[0]); }}},
      {"Sigmoid", {1, [](const Tensors& in) { return at::sigmoid(in[0]); }}},
      {"Tanh", {1, [](const Tensors& in) { return at::tanh(in[0]); }}},
      {"Erf", {1, [](const Tensors& in) { return at::erf(in[0]); }}},
      {"Softplus", {1, [](const Tensors& in) { return at::softplus(in[0]); }}},
      {"HardSigmoid", {3, [](const Tensors& in) { return at::clamp(in[0] * in[1] + in[2], 0, 1); }}},
      {"HardSwish", {1, [](const Tensors& in) { return at::hardswish(in[0]); }}},
      {"Swish", {2, [](const Tensors& in) { return in[0] * at::sigmoid(in[0] * in[1]); }}},
  };
  return table;
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

at::Tensor step_operand(const Operation& operation, std::string_view word, const at::Tensor& x,
                        const Tensors& results) {
  if (word == "x") return x;
  const bool earlier = word.starts_with('#');
  const std::string_view digits = earlier ? word.substr(1) : word;
  float number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  user_check(error == std::errc() && end == digits.data() + digits.size() &&
                 (!earlier || (number >= 0 && static_cast<size_t>(number) < results.size())),
             "operation '{}' (ScalarFunction): '{}' is no operand of its steps", operation.name(), word);
  return earlier ? results[static_cast<size_t>(number)] : at::scalar_tensor(number, x.options());
}

Tensors scalar_function(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  Tensors results;
  for (const std::string& text : std::get<std::vector<std::string>>(operation.attributes().at("steps"))) {
    const std::vector<std::string_view> words = words_of(text);
    user_check(!words.empty() && scalar_step_operands(words[0]) == words.size() - 1,
               "operation '{}' (ScalarFunction): '{}' is no step", operation.name(), text);
    Tensors operands;
    for (size_t i = 1; i < words.size(); ++i) operands.push_back(step_operand(operation, words[i], in[0], results));
    results.push_back(steps().at(words[0]).compute(operands));
  }
  user_check(!results.empty(), "operation '{}' (ScalarFunction): has no steps", operation.name());
  return one(results.back().to(in[0].scalar_type()).expand(in[0].sizes()));
}

}  // namespace

size_t scalar_step_operands(std::string_view name) {
  const auto found = steps().find(name);
  return found == steps().end() ? 0 : found->second.operands;
}

std::string scalar_step_number(double value) { return fmt::format("{:.9g}", value); }

Operators scalar_function_operators() {
  return {{.name = "ScalarFunction",
           .inputs = {{"X"}},
           .outputs = {{"Y"}},
           .attributes = {required(texts("steps"))},
           .forward = scalar_function,
           .quantization = {.table_int8 = true, .table_int16 = true},
           .layout = LayoutRule::Elementwise,
           .chip = {.board = board_on_values}}};
}

}  // namespace espq
