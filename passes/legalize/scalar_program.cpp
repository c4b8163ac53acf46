#include "passes/legalize/scalar_program.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/ops/scalar_function.h"

namespace espq {
namespace {

/// A step and, where they are not the operation's own operands, numbers behind them.
struct Call {
  std::string step;
  std::vector<double> numbers;
};

constexpr int64_t kOnnxFloat = 1, kOnnxBool = 9;

/// The step that computes what the operation does; nullopt when none does.
std::optional<Call> call_of(const Operation& operation) {
  const std::string& type = operation.type();
  if (type == "Cast") {
    const int64_t to = operation.int_attribute("to");
    if (to != kOnnxFloat && to != kOnnxBool) return std::nullopt;
    return Call{to == kOnnxFloat ? "ToFloat" : "ToBool", {}};
  }
  if (type == "LeakyRelu") return Call{type, {operation.float_attribute("alpha")}};
  if (type == "HardSigmoid") return Call{type, {operation.float_attribute("alpha"), operation.float_attribute("beta")}};
  if (type == "Swish") return Call{type, {operation.float_attribute("alpha")}};
  if (type == "Clip") {
    // Bounds that are left out are infinite.
    Call call{type, {}};
    for (size_t slot : {1, 2})
      if (!operation.input(slot)) return std::nullopt;
    return call;
  }
  const size_t operands = scalar_step_operands(type);
  return operands != 0 && operands == operation.inputs().size() ? std::optional(Call{type, {}}) : std::nullopt;
}

bool is_number(const Variable* operand) { return operand && operand->is_parameter() && operand->value().numel() == 1; }

/// Every element of the result depends on the elements at its own place alone, and nothing else varies.
bool is_per_element(const Operation& operation, const Shape& shape) {
  if (operation.outputs().size() != 1 || operation.output()->shape() != shape || !call_of(operation)) return false;
  return std::all_of(operation.inputs().begin(), operation.inputs().end(), [&](const Variable* operand) {
    if (is_number(operand)) return std::isfinite(operand->value().item<double>());
    return operand && !operand->is_parameter() && operand->shape() == shape;
  });
}

/// Operations from `value` back to one tensor, in the order in which they run; empty when several remain.
class Search {
 public:
  explicit Search(Variable& value) : shape_(*value.shape()) {
    int64_t number = 0;
    for (const Operation* operation : operations_in_order(value)) order_[operation] = number++;
    open_.insert(&value);
    while (open_.size() > 1 || !is_start(**open_.begin()) || *open_.begin() == &value) {
      Variable* last = *std::max_element(open_.begin(), open_.end(),
                                         [&](Variable* a, Variable* b) { return place(*a) < place(*b); });
      Operation* producer = last->producer();
      if (!producer || !order_.count(producer)) return;
      open_.erase(last);
      path_.push_back(producer);
      for (Variable* operand : producer->inputs())
        if (!is_number(operand)) open_.insert(operand);
      if (open_.empty()) return;
    }
    x_ = *open_.begin();
    std::reverse(path_.begin(), path_.end());
  }
  Variable* x() const { return x_; }
  const std::vector<Operation*>& path() const { return path_; }

 private:
  Shape shape_;
  std::map<const Operation*, int64_t> order_;
  std::set<Variable*> open_;
  std::vector<Operation*> path_;
  Variable* x_ = nullptr;

  static bool is_start(const Variable& variable) { return at::isFloatingType(variable.dtype()); }
  int64_t place(const Variable& variable) const {
    const auto found = order_.find(variable.producer());
    return found == order_.end() ? -1 : found->second;
  }
  /// Operations per element behind `value`, producers first.
  std::vector<const Operation*> operations_in_order(Variable& value) const {
    std::vector<const Operation*> order;
    std::set<const Operation*> seen;
    const auto visit = [&](const auto& self, const Variable* variable) -> void {
      const Operation* producer = variable ? variable->producer() : nullptr;
      if (!producer || seen.count(producer) || !is_per_element(*producer, shape_)) return;
      seen.insert(producer);
      for (const Variable* operand : producer->inputs()) self(self, operand);
      order.push_back(producer);
    };
    visit(visit, &value);
    return order;
  }
};

}  // namespace

std::optional<ScalarProgram> scalar_program(Variable& value) {
  if (!value.shape() || !value.producer()) return std::nullopt;
  const Search search(value);
  if (!search.x()) return std::nullopt;
  return scalar_program(*search.x(), search.path());
}

ScalarProgram scalar_program(Variable& x, const std::vector<Operation*>& path) {
  std::map<const Variable*, std::string> words{{&x, "x"}};
  ScalarProgram program{&x, {}, path};
  for (Operation* operation : path) {
    const Call call = *call_of(*operation);
    std::string text = call.step;
    for (const Variable* operand : operation->inputs())
      text += " " + (is_number(operand) ? scalar_step_number(operand->value().item<double>()) : words.at(operand));
    for (const double number : call.numbers) text += " " + scalar_step_number(number);
    words[operation->output()] = fmt::format("#{}", program.steps.size());
    program.steps.push_back(std::move(text));
  }
  return program;
}

}  // namespace espq
