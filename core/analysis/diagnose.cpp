#include "core/analysis/diagnose.h"

#include <fmt/ranges.h>

#include <unordered_map>
#include <unordered_set>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

constexpr double kMainPart = 0.5;

using Errors = std::unordered_map<std::string, const TensorError*>;

const TensorError* find_error(const Errors& errors, const Variable* variable) {
  const auto found = variable ? errors.find(variable->name()) : errors.end();
  return found == errors.end() ? nullptr : found->second;
}

/// The nearest compared tensors before `variable`: what its producer reads, behind tensors that were not compared.
std::vector<const TensorError*> errors_before(const Errors& errors, const Variable& variable) {
  std::vector<const TensorError*> result;
  std::vector<const Variable*> pending = {&variable};
  std::unordered_set<const Variable*> seen;
  while (!pending.empty()) {
    const Operation* producer = pending.back()->producer();
    pending.pop_back();
    if (!producer) continue;
    for (const Variable* input : producer->inputs()) {
      if (!input || input->is_parameter() || !seen.insert(input).second) continue;
      if (const TensorError* error = find_error(errors, input))
        result.push_back(error);
      else
        pending.push_back(input);
    }
  }
  return result;
}

/// A tensor that an operation in need of equal exponents ties to this one, and that needs the common exponent.
const TensorError* alignment_partner(const Errors& errors, const Variable& variable, const GridError& grid) {
  std::vector<const Operation*> ties;
  if (variable.producer()) ties.push_back(variable.producer());
  for (const ConstUse& use : variable.uses()) ties.push_back(use.operation);
  for (const Operation* operation : ties) {
    if (definition_of(*operation).quantization.alignment == AlignmentClass::None) continue;
    for (const auto list : {operation->inputs(), operation->outputs()})
      for (const Variable* other : list) {
        const TensorError* error = other == &variable ? nullptr : find_error(errors, other);
        if (error && error->grid && error->grid->exponent == grid.exponent &&
            error->grid->needed_exponent > grid.needed_exponent)
          return error;
      }
  }
  return nullptr;
}

double percent(double share) { return share * 100; }

void set(TensorError& error, Cause cause, std::string explanation, const std::vector<std::string>& remedies) {
  error.cause = cause;
  error.explanation = std::move(explanation);
  error.advice = fmt::format("{}", fmt::join(remedies, ", or "));
}

/// Whether the layer computes with 8 bits and the chip library could compute it with 16.
bool may_widen(const TensorError& error, const Variable& variable) {
  const Operation* producer = variable.producer();
  if (!producer || (error.grid && error.grid->bits > 8)) return false;
  const auto is_wide = [](const Variable* input) {
    return input && !input->is_parameter() && input->storage() && input->storage()->dtype == at::kShort;
  };
  if (std::any_of(producer->inputs().begin(), producer->inputs().end(), is_wide)) return false;
  return has_kernel(definition_of(*producer), RuntimeLevel::V3_3_9, Width::Int16);
}

/// `remedies`, behind them what 16 bits would do where they can be had.
std::vector<std::string> with_width(std::vector<std::string> remedies, const TensorError& error,
                                    const Variable& variable, std::string width = "16 bits for this layer") {
  if (may_widen(error, variable)) remedies.push_back(std::move(width));
  return remedies;
}

void explain_rounding(TensorError& error, const Variable& variable, const TensorError* partner) {
  const GridError& grid = *error.grid;
  const int finer = grid.exponent - grid.needed_exponent;
  const std::string rounding = fmt::format("rounding to steps of 2^{} makes {:.0f} % of the noise", grid.exponent,
                                           std::min(100.0, percent(error.own->rounding)));
  if (partner && finer > 0)
    return set(error, Cause::Alignment,
               fmt::format("{}; the values would fit 2^{}, but '{}' with the same exponent needs coarser steps",
                           rounding, grid.needed_exponent, partner->name),
               with_width({"another alignment for the operator that joins them",
                           "a network that brings both to similar ranges"},
                          error, variable, "16 bits for that operator and this layer"));
  if (finer > 0)
    return set(
        error, Cause::Resolution, fmt::format("{}; the values would fit steps of 2^{}", rounding, grid.needed_exponent),
        with_width({"calibration with data like this (the calibration data had larger values)"}, error, variable));
  set(error, Cause::Resolution, rounding,
      with_width({"equalization, if channels differ in size (recipe fast)",
                  "percentile or kl calibration, if a few outliers stretch the range"},
                 error, variable, "16 bits for this layer and the one behind it"));
}

/// The grid on which the layer reads an operand clips it.
void explain_operand(TensorError& error, const Variable& variable, const ClippedOperand& operand) {
  const std::string what = fmt::format(
      "{} '{}' is clipped where the layer reads it: {:.3g} % of its values lie beyond the "
      "range of {} bits at 2^{}; 2^{} would hold them",
      operand.constant ? "the constant" : "the operand", operand.name, percent(operand.clipped), operand.bits,
      operand.exponent, operand.needed_exponent);
  const Operation* producer = variable.producer();
  const AlignmentClass alignment = producer ? definition_of(*producer).quantization.alignment : AlignmentClass::None;
  const bool joins = alignment == AlignmentClass::Elementwise || alignment == AlignmentClass::Concat,
             aligned = joins || alignment == AlignmentClass::Resize;
  std::vector<std::string> remedies;
  if (aligned)
    remedies.push_back(
        fmt::format("another alignment for this operator ({} holds its operands)", joins ? "large" : "input"));
  if (!operand.constant) remedies.emplace_back("more or other calibration data, minmax calibration for this layer");
  if (operand.constant && !aligned) remedies.emplace_back("minmax as parameter_observer for this layer");
  set(error, Cause::Operands, what, with_width(std::move(remedies), error, variable));
}

void explain_parameters(TensorError& error, const Variable& variable) {
  if (error.own->operand) return explain_operand(error, variable, *error.own->operand);
  const Operation* producer = variable.producer();
  const auto per_channel = [](const Variable* input) {
    return input && input->storage() && input->storage()->exponents.size() > 1;
  };
  if (!producer || !definition_of(*producer).has_weights())
    return set(
        error, Cause::Parameters,
        "with exact operands, no clipping and little rounding of the result there is still this noise: the rounded "
        "operands and the integer arithmetic of the operator make it",
        with_width({}, error, variable));
  const bool channels = std::any_of(producer->inputs().begin(), producer->inputs().end(), per_channel);
  std::vector<std::string> remedies = {"equalization and bias correction (recipe fast)",
                                       "training of the quantized weights (recipe accurate)"};
  if (!channels && definition_of(*producer).linear && definition_of(*producer).linear->row_exponents)
    remedies.emplace_back("a chip with one exponent per output channel");
  set(error, Cause::Parameters,
      "with exact operands, no clipping and little rounding of the result there is still this noise: the rounded "
      "operands and weights make it",
      with_width(std::move(remedies), error, variable));
}

void diagnose_one(const Graph& b, const Errors& errors, TensorError& error) {
  const Variable& variable = *b.find_variable(error.name);
  if (error.different == 0 || !error.own) return;
  const OwnNoise& own = *error.own;
  const bool moves = variable.producer() && definition_of(*variable.producer()).quantization.passive;
  if (moves || own.noise_to_signal < kMainPart * error.noise_to_signal) {
    const TensorError* before = nullptr;
    for (const TensorError* candidate : errors_before(errors, variable))
      if (!before || candidate->noise_to_signal > before->noise_to_signal) before = candidate;
    error.carried_from = before ? before->name : "the input";
  }
  // What only moves values makes no noise: of its own there is the rounding of what it reads.
  if (moves) return;
  if (!error.grid) return explain_parameters(error, variable);
  if (own.clipped >= kMainPart)
    return set(
        error, Cause::Clipping,
        fmt::format("{:.3g} % of the float values lie beyond the range of {} bits at 2^{} and make {:.0f} % of the "
                    "noise; 2^{} would hold them",
                    percent(error.grid->clipped), error.grid->bits, error.grid->exponent, percent(own.clipped),
                    error.grid->needed_exponent),
        with_width({"more or other calibration data", "minmax calibration for this layer"}, error, variable));
  if (own.saturated >= kMainPart)
    return set(
        error, Cause::Saturation,
        fmt::format("results at the ends of the range, where the float values are not, make {:.0f} % of the noise",
                    percent(own.saturated)),
        with_width({"the recipe's option accumulators, which makes room for the sums"}, error, variable));
  if (own.rounding >= kMainPart)
    return explain_rounding(error, variable, alignment_partner(errors, variable, *error.grid));
  explain_parameters(error, variable);
}

}  // namespace

std::string_view cause_name(Cause cause) {
  switch (cause) {
    case Cause::None:
      return "none";
    case Cause::Clipping:
      return "clipping";
    case Cause::Saturation:
      return "saturation";
    case Cause::Alignment:
      return "alignment";
    case Cause::Resolution:
      return "resolution";
    case Cause::Operands:
      return "operands";
    case Cause::Parameters:
      return "parameters";
  }
  internal_check(false, "unknown cause");
  return {};
}

void diagnose(const Graph& b, Comparison& comparison) {
  Errors errors;
  for (const TensorError& error : comparison.layers) errors.emplace(error.name, &error);
  for (TensorError& error : comparison.layers) diagnose_one(b, errors, error);
  for (TensorError& output : comparison.outputs)
    if (const TensorError* layer = find_error(errors, b.find_variable(output.name))) output = *layer;
}

}  // namespace espq
