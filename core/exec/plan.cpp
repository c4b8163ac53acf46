#include "core/exec/plan.h"

namespace espq {
namespace {

void mark_last_uses(Plan& plan) {
  std::vector<char> keep(plan.index.size(), false);
  for (const Variable* variable : plan.requested) keep[plan.index.at(variable)] = true;
  for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
    const auto last_use = [&](int index) {
      if (index < 0 || keep[index]) return;
      keep[index] = true;
      step->release.push_back(index);
    };
    for (const StepInput& input : step->inputs) last_use(input.index);
    for (const StepOutput& output : step->outputs) last_use(output.index);
  }
}

}  // namespace

Step::Step(const Operation& given) : operation(&given) {
  for (const Variable* input : given.inputs())
    inputs.push_back({.variable = input, .parameter = input && input->is_parameter() ? &input->value() : nullptr});
  for (const Variable* output : given.outputs()) outputs.push_back({.variable = output});
}

Plan link_steps(std::vector<Step> steps, std::vector<const Variable*> requested) {
  Plan plan{std::move(steps), {}, std::move(requested), {}};
  const auto index_of = [&](const Variable* variable) {
    return variable ? plan.index.try_emplace(variable, static_cast<int>(plan.index.size())).first->second : -1;
  };
  for (Step& step : plan.steps) {
    for (StepInput& input : step.inputs) input.index = index_of(input.variable);
    for (StepOutput& output : step.outputs) output.index = index_of(output.variable);
  }
  for (const Variable* variable : plan.requested) index_of(variable);
  plan.layout.resize(plan.index.size(), Layout::OfGraph);
  for (const Step& step : plan.steps)
    for (const StepOutput& output : step.outputs)
      if (output.index >= 0) plan.layout[output.index] = output.layout;
  mark_last_uses(plan);
  return plan;
}

}  // namespace espq
