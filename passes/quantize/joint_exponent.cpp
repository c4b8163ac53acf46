#include "passes/quantize/joint_exponent.h"

#include <ATen/ATen.h>

#include "core/analysis/float_run.h"
#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/quant/fake_quantize.h"
#include "core/support/progress.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

bool on_a_grid(const Graph& graph, const SlotQuant& slot) { return !slot.is_float() && has_exponents(graph, slot); }

/// One operation with what it takes to compute it again from float values.
class Trial {
 public:
  Trial(const Graph& graph, const Operation& operation, const std::function<bool(const Operation&, size_t)>& keeps_grid)
      : graph_(graph), operation_(operation), activation_(tied_activation()) {
    finest_ = coarsest_ = slot_exponents(graph, operation.output_quant()[0])[0];
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
      const SlotQuant& operand = operation.input_quant()[slot];
      own_grids_.emplace_back();
      if (!on_a_grid(graph, operand)) continue;
      const int exponent = slot_exponents(graph, operand)[0];
      coarsest_ = std::max(coarsest_, exponent);
      if (keeps_grid(operation, slot)) own_grids_.back() = {operand.bits, {exponent}};
    }
  }

  bool open() const { return finest_ < coarsest_; }

  void want(WantedVariables& wanted) {
    for (const Variable* input : operation_.inputs())
      places_.push_back(input && !input->is_parameter() ? wanted.place_of(*input) : 0);
    expected_ = wanted.place_of(activation_ ? *activation_->output() : *operation_.output());
  }

  void add(const Tensors& values, ErrorByExponent& errors) const {
    Tensors operands;
    for (size_t slot = 0; slot < places_.size(); ++slot) {
      const Variable* input = operation_.input(slot);
      at::Tensor value = !input ? at::Tensor() : input->is_parameter() ? input->value() : values[places_[slot]];
      const Grid& own = own_grids_[slot];
      operands.push_back(own.quantized() ? round(value, own.exponents, own.bits) : value);
    }
    for (int exponent = finest_; exponent <= coarsest_; ++exponent) {
      const at::Tensor difference = result_at(exponent, operands) - values[expected_];
      // Masks hold infinities, which no grid does.
      errors[exponent] += difference.to(at::kDouble).square().nan_to_num(0, 0, 0).sum().item<double>();
    }
  }

 private:
  /// The Relu or Clip that the result goes through unseen.
  const Operation* tied_activation() const {
    const Variable& result = *operation_.output();
    const Operation* reader = result.uses().size() == 1 ? result.uses().front().operation : nullptr;
    if (!reader || !reader->quantized() || !definition_of(*reader).quantization.fused_activation) return nullptr;
    const SlotQuant &own = operation_.output_quant()[0], &behind = reader->output_quant()[0];
    return graph_.scales().root(own.scale) == graph_.scales().root(behind.scale) ? reader : nullptr;
  }

  at::Tensor round(const at::Tensor& value, const std::vector<int>& exponents, int bits) const {
    return fake_quantize(value.to(at::kFloat), exponents, -1, bits, graph_.target()->rounding);
  }

  at::Tensor run(const Operation& operation, const Tensors& inputs) const {
    return definition_of(operation).forward({.operation = operation, .chip = true}, inputs)[0];
  }

  at::Tensor result_at(int exponent, Tensors operands) const {
    for (size_t slot = 0; slot < operands.size(); ++slot) {
      const SlotQuant& quant = operation_.input_quant()[slot];
      if (on_a_grid(graph_, quant)) operands[slot] = round(operands[slot], {exponent}, quant.bits);
    }
    at::Tensor result = round(run(operation_, operands), {exponent}, operation_.output_quant()[0].bits);
    if (!activation_) return result;
    Tensors inputs = {result};
    for (size_t slot = 1; slot < activation_->inputs().size(); ++slot)
      inputs.push_back(activation_->input(slot) ? activation_->input(slot)->value() : at::Tensor());
    return run(*activation_, inputs);
  }

  const Graph& graph_;
  const Operation& operation_;
  const Operation* activation_;
  int finest_ = 0, coarsest_ = 0;  ///< exponents to try: that of the result, the coarsest of the operands
  std::vector<Grid> own_grids_;    ///< per operand; not quantized where the common exponent is its first
  std::vector<size_t> places_;     ///< of the operands among the wanted values
  size_t expected_ = 0;
};

}  // namespace

std::map<const Operation*, ErrorByExponent> joint_errors(
    const Graph& graph, const std::vector<const Operation*>& operations, const Dataset& data, int64_t batches,
    const std::function<bool(const Operation&, size_t)>& keeps_grid) {
  std::map<const Operation*, ErrorByExponent> errors;
  std::vector<std::pair<const Operation*, Trial>> trials;
  WantedVariables wanted;
  for (const Operation* operation : operations) {
    Trial trial(graph, *operation, keeps_grid);
    if (!trial.open()) continue;
    trial.want(wanted);
    trials.emplace_back(operation, std::move(trial));
  }
  if (trials.empty()) return errors;
  Executor executor = float_executor(graph);
  const auto steps = std::min(batches, static_cast<int64_t>(data.size()));
  for (int64_t step = 0; step < steps; ++step) {
    const Tensors values = executor.run(data.inputs(graph, static_cast<size_t>(step)), wanted.list());
    for (const auto& [operation, trial] : trials) trial.add(values, errors[operation]);
    report_progress("alignment", static_cast<size_t>(step + 1), static_cast<size_t>(steps));
  }
  return errors;
}

}  // namespace espq
