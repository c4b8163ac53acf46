// How far a network of these widths may be from the float network, measured on the float network alone: every tensor is
// moved by as much as rounding it to a grid of its width and range moves it, at random, and the outputs are compared.
// That counts what happens to an error on its way (a division, an exponential, a difference of large numbers), and it
// asks nothing of the quantizer, the lowering or the kernels that are under test.
#include <ATen/ATen.h>

#include <map>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "tests/random_networks/random.h"
#include "tests/random_networks/trial.h"

namespace espq::random_networks {
namespace {

constexpr int kDraws = 8;

using Slot = std::tuple<const Operation*, int, bool>;

Slot slot_of(const SlotEvent& event) { return {&event.operation, event.slot, event.is_output}; }

class Noise {
 public:
  Noise(const Graph& network, const Recipe& recipe) : network_(network), recipe_(recipe) {}

  void observe(const SlotEvent& event) {
    if (!event.value.is_floating_point() || event.value.numel() == 0) return;
    double& largest = largest_[slot_of(event)];
    largest = std::max(largest, event.value.abs().max().item<double>());
  }

  /// Adds what rounding may, or (`on_grid`) rounds what was moved by as much: results of functions that jump depend on
  /// whether values meet the grid. Constants are rounded, as they are.
  void disturb(SlotEvent& event, Random& random, bool on_grid) const {
    const auto found = largest_.find(slot_of(event));
    if (found == largest_.end() || !is_rounded(event)) return;
    const double step = step_of(event, found->second);
    if (step == 0) return;
    const bool constant = !event.is_output && event.operation.input(static_cast<size_t>(event.slot))->is_parameter();
    const at::Tensor moved =
        constant ? event.value / step : event.value / step + random.uniform(event.value.sizes().vec(), -0.5, 0.5);
    event.value = (constant || on_grid ? at::round(moved) : moved) * step;
  }

 private:
  const Graph& network_;
  const Recipe& recipe_;
  std::map<Slot, double> largest_;

  /// Operands are compared on one grid.
  static bool compares(const Operation& operation) {
    return definition_of(operation).quantization.alignment == AlignmentClass::Comparison;
  }

  /// A 16-bit function is read from a table that has every 32nd code: its operand is rounded as coarsely.
  bool reads_table(const Operation& operation) const {
    const OperatorDefinition& definition = definition_of(operation);
    return bits_of(operation) == 16 && (definition.quantization.table_int16 || definition.only_as_table());
  }

  /// Every result, and the operands that no operation made, or one of more bits.
  bool is_rounded(const SlotEvent& event) const {
    if (event.is_output) return true;
    const Variable* operand = event.operation.input(static_cast<size_t>(event.slot));
    if (network_.is_input(operand) || reads_table(event.operation) || compares(event.operation)) return true;
    if (const Operation* producer = operand->producer(); producer && bits_of(*producer) > bits_of(event.operation))
      return true;
    const OperandRole role = definition_of(event.operation).input_spec(static_cast<size_t>(event.slot)).role;
    return operand->is_parameter() && role != OperandRole::Index && role != OperandRole::Statistics;
  }

  /// Operations that are quantized have the names of those of the network. What a ConvTranspose or a Where becomes has
  /// parts besides, with names and widths of their own.
  int bits_of(const Operation& operation) const {
    const auto bits_of_width = [](const Width& width) { return std::min(width.activations, width.weights); };
    int bits = recipe_.widths.bits;
    const bool has_parts = operation.type() == "ConvTranspose" || operation.type() == "Where";
    for (const auto& [name, options] : recipe_.layers) {
      if (!options.width || options.width->is_float()) continue;
      if (name == operation.name() && !has_parts) return bits_of_width(*options.width);
      if (name == operation.name() || name.starts_with(operation.name() + "/"))
        bits = std::min(bits, bits_of_width(*options.width));
    }
    // Operators with 8-bit kernels alone compute with 8 bits.
    const OperatorDefinition& definition = definition_of(operation);
    return definition.chip.kernels.int8 && !definition.chip.kernels.int16 ? 8 : bits;
  }

  /// The step of the smallest grid of powers of two that holds everything.
  double step_of(const SlotEvent& event, double largest) const {
    if (compares(event.operation))
      for (int slot = 0; slot < 2; ++slot)
        if (const auto other = largest_.find({&event.operation, slot, false}); other != largest_.end())
          largest = std::max(largest, other->second);
    // Bounds of a Clip are on its operand's grid.
    if (!event.is_output &&
        definition_of(event.operation).input_spec(static_cast<size_t>(event.slot)).role == OperandRole::Follows)
      if (const auto operand = largest_.find({&event.operation, 0, false}); operand != largest_.end())
        largest = std::max(largest, operand->second);
    const OperatorDefinition& definition = definition_of(event.operation);
    // What only moves elements leaves them on the grid of all of them.
    if (event.is_output && definition.quantization.passive)
      if (const auto operand = largest_.find({&event.operation, 0, false}); operand != largest_.end())
        largest = std::max(largest, operand->second);
    if (largest == 0) return 0;
    const int bits = bits_of(event.operation);
    double step = std::exp2(std::ceil(std::log2(largest / quant_max(bits))));
    const double coarser = recipe_.tables.value_or(TableOptions()).step;
    if (reads_table(event.operation) && !event.is_output) step *= coarser;
    // Written down step by step, with a table in every step.
    if (event.operation.type() == "RNN" && event.is_output && bits == 16) step *= coarser;
    // Gates and state of the recurrent cells are on one grid, whatever the width.
    if (definition.quantization.alignment == AlignmentClass::Recurrent)
      step = std::max(step, std::exp2(kGateExponent) * 4);
    return step;
  }
};

}  // namespace

std::vector<double> expected_noise(const Graph& network, const Dataset& calibration, const Recipe& recipe,
                                   const Tensors& inputs) {
  Noise noise(network, recipe);
  Executor executor(network, Precision::Float);
  executor.set_hook([&](SlotEvent& event) { noise.observe(event); });
  for (size_t batch = 0; batch < calibration.size(); ++batch) executor.run(calibration.inputs(network, batch));
  executor.set_hook(nullptr);
  const Tensors exact = executor.run(inputs);
  std::vector<double> largest(exact.size());
  Random random(1);
  for (int draw = 0; draw < kDraws; ++draw) {
    executor.set_hook([&](SlotEvent& event) { noise.disturb(event, random, draw % 2 == 1); });
    const Tensors disturbed = executor.run(inputs);
    for (size_t i = 0; i < exact.size(); ++i) {
      const double noise =
          std::sqrt((disturbed[i].to(at::kDouble) - exact[i].to(at::kDouble)).square().mean().item<double>());
      // Where rounding can lead out of what a function is defined for, any result is as good as another.
      largest[i] = std::isnan(noise) ? INFINITY : std::max(largest[i], noise);
    }
  }
  return largest;
}

}  // namespace espq::random_networks
