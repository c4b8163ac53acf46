#include "passes/legalize/rewrite_choices.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"
#include "passes/legalize/scalar_program.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

bool is_comparison(const std::string& type) {
  return type == "Greater" || type == "GreaterOrEqual" || type == "Less" || type == "LessOrEqual" || type == "Equal";
}

bool is_float(const Variable* variable) { return variable && at::isFloatingType(variable->dtype()); }

/// Conditions as numbers: 1 where they hold, 0 elsewhere.
class Conditions {
 public:
  explicit Conditions(Rewriter& rewriter) : rewriter_(rewriter) {}

  /// True when numbers() can do it.
  static bool known(Variable& condition) {
    if (condition.is_parameter() || scalar_program(condition)) return true;
    Operation* producer = condition.producer();
    if (!producer) return false;
    const std::string& type = producer->type();
    if (is_comparison(type)) return is_float(producer->input(0)) && is_float(producer->input(1));
    if (type != "And" && type != "Or" && type != "Xor" && type != "Not") return false;
    return std::all_of(producer->inputs().begin(), producer->inputs().end(),
                       [](Variable* operand) { return known(*operand); });
  }

  Variable& numbers(Variable& condition) {
    const std::string part = fmt::format("condition{}", count_++);
    if (condition.is_parameter()) return rewriter_.constant(part, condition.value().to(at::kBool).to(at::kFloat));
    if (auto program = scalar_program(condition)) {
      program->steps.push_back(fmt::format("ToFloat #{}", program->steps.size() - 1));
      return rewriter_.add("ScalarFunction", part, {program->x}, {{"steps", program->steps}});
    }
    Operation& producer = *condition.producer();
    const std::string& type = producer.type();
    if (is_comparison(type)) {
      Variable& difference = rewriter_.add("Sub", part + "_difference", {producer.input(0), producer.input(1)});
      const std::vector<std::string> steps{type + " x 0", "ToFloat #0"};
      return rewriter_.add("ScalarFunction", part, {&difference}, {{"steps", steps}});
    }
    if (type == "Not") return opposite(numbers(*producer.input(0)), part);
    Variable &a = numbers(*producer.input(0)), &b = numbers(*producer.input(1));
    if (type == "And") return rewriter_.add("Mul", part, {&a, &b});
    if (type == "Xor") return rewriter_.add("Abs", part, {&rewriter_.add("Sub", part + "_difference", {&a, &b})});
    Variable& sum = rewriter_.add("Add", part + "_sum", {&a, &b});
    return rewriter_.add("Clip", part,
                         {&sum, &rewriter_.number(part + "_zero", 0), &rewriter_.number(part + "_one", 1)});
  }

  Variable& opposite(Variable& numbers, const std::string& part) {
    return rewriter_.add("Sub", part, {&rewriter_.number(part + "_one", 1), &numbers});
  }

 private:
  Rewriter& rewriter_;
  int count_ = 0;
};

bool has_infinity(const Variable& value) {
  return value.is_parameter() && !at::isfinite(value.value()).all().item<bool>();
}

bool is_zero(const Variable& value) { return value.is_parameter() && value.value().eq(0).all().item<bool>(); }

/// The operation gives on what it is given: it goes where nothing needs its name.
void pass_on(Graph& graph, Rewriter& rewriter, Operation& operation, Variable& value) {
  rewriter.become("Identity", {&value});
  if (can_bypass(graph, operation)) graph.bypass(operation);
}

// ------------------------------------------------------------------------------------------------ one tensor
std::string as_scalar_function(Graph& graph, Operation& operation, Origins* origins) {
  const auto program = scalar_program(*operation.output());
  if (!program) return {};
  const std::string type = operation.type();
  Rewriter(graph, operation, origins).become("ScalarFunction", {program->x}, {{"steps", program->steps}});
  return program->path.size() == 1 ? type + " became ScalarFunction"
                                   : fmt::format("{} and what it chooses became ScalarFunction", type);
}

// ------------------------------------------------------------------------------------------------ Where
/// The elements that a constant condition leaves: all of one operand, or a sum with a constant.
std::string where_constant(Graph& graph, Operation& where, Origins* origins) {
  const at::Tensor condition = where.input(0)->value().to(at::kBool);
  Variable *x = where.input(1), *y = where.input(2);
  Rewriter rewriter(graph, where, origins);
  const bool always = condition.all().item<bool>(), never = condition.logical_not().all().item<bool>();
  if (always || never) {
    Variable* left = always ? x : y;
    if (left->shape() != where.output()->shape()) return {};
    pass_on(graph, rewriter, where, *left);
    return "Where of one operand taken away";
  }
  if (x->is_parameter() && y->is_parameter()) return {};  // fold_constants knows how
  for (bool chosen : {true, false}) {
    Variable *value = chosen ? x : y, *rest = chosen ? y : x;
    if (!is_zero(*rest) || value->shape() != where.output()->shape()) continue;
    const at::Tensor holds = chosen ? condition : condition.logical_not();
    rewriter.become("Mul", {value, &rewriter.constant("mask", holds.to(at::kFloat))});
    return "Where with a constant condition became Mul";
  }
  const auto term = [&](Variable* value, const at::Tensor& holds, const std::string& part) -> Variable* {
    if (value->is_parameter())
      return &rewriter.constant(part, at::where(holds, value->value(), at::zeros({}, value->value().options())));
    Variable& mask = rewriter.constant(part + "_mask", holds.to(at::kFloat));
    return &rewriter.add("Mul", part, {value, &mask});
  };
  Variable *first = term(x, condition, "chosen"), *second = term(y, condition.logical_not(), "other");
  rewriter.become("Add", {first, second});
  return "Where with a constant condition became Mul and Add";
}

std::string where_computed(Graph& graph, Operation& where, Origins* origins) {
  Variable *condition = where.input(0), *x = where.input(1), *y = where.input(2);
  if (!Conditions::known(*condition) || has_infinity(*x) || has_infinity(*y)) return {};
  Rewriter rewriter(graph, where, origins);
  Conditions conditions(rewriter);
  Variable& holds = conditions.numbers(*condition);
  const bool with_x = !is_zero(*x), with_y = !is_zero(*y);
  Variable &opposite = conditions.opposite(holds, "other_condition"), *factor = with_x ? &holds : &opposite;
  Variable* value = with_x ? x : y;
  if ((!with_x || !with_y) && value->shape() == where.output()->shape()) {
    rewriter.become("Mul", {value, factor});
    return "Where became Mul with its condition";
  }
  Variable& first = rewriter.add("Mul", "chosen", {x, &holds});
  Variable& second = rewriter.add("Mul", "other", {y, &opposite});
  rewriter.become("Add", {&first, &second});
  return "Where became Mul with its condition and Add";
}

std::string cast_condition(Graph& graph, Operation& cast, Origins* origins) {
  Variable* condition = cast.input(0);
  if (condition->dtype() != at::kBool || condition->is_parameter() || !Conditions::known(*condition)) return {};
  Rewriter rewriter(graph, cast, origins);
  Variable& numbers = Conditions(rewriter).numbers(*condition);
  pass_on(graph, rewriter, cast, numbers);
  return "Cast of a condition became arithmetic";
}

std::string rewrite(Graph& graph, Operation& operation, Origins* origins, int bits) {
  const std::string& type = operation.type();
  const bool where = type == "Where", cast = type == "Cast", table_is_exact = bits == 8;
  // Of 16 bits a table has every 32nd value alone: what Max and Min become without one is nearer.
  if (!where && !cast && !(table_is_exact && (type == "Max" || type == "Min"))) return {};
  if (!is_float(operation.output()) || !operation.output()->shape()) return {};
  if (cast && is_float(operation.input(0))) return {};
  if (where && operation.input(0)->is_parameter())
    if (std::string change = where_constant(graph, operation, origins); !change.empty()) return change;
  if (std::string change = as_scalar_function(graph, operation, origins); !change.empty()) return change;
  if (cast) return cast_condition(graph, operation, origins);
  return where && !operation.input(0)->is_parameter() ? where_computed(graph, operation, origins) : std::string();
}

}  // namespace

PassReport rewrite_choices(Graph& graph, Origins* origins, int bits) {
  PassReport report{"rewrite_choices"};
  // The last choice first: it may take those in front of it along.
  std::vector<Operation*> order = graph.topological_order();
  std::reverse(order.begin(), order.end());
  for (Operation* operation : order) {
    if (is_dead(graph, *operation)) continue;
    const std::string name = operation->name();
    if (std::string change = rewrite(graph, *operation, origins, bits); !change.empty())
      report.count(std::move(change), name);
  }
  return report;
}

}  // namespace espq
