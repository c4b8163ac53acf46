#include "passes/optimize/virtual_zero_point.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <unordered_set>

#include "core/exec/side_by_side.h"
#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/quant/fake_quantize.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/own_bias.h"
#include "passes/optimize/reference.h"
#include "passes/quantize/settle.h"

namespace espq {
namespace {

constexpr double kHalf = 128;  // of the codes of 8 bits

/// Where a tensor may be shifted.
struct Place {
  LinearOperation front;
  Operation* relu;                      ///< Relu, or Clip from 0
  std::vector<LinearOperation> behind;  ///< that read the tensor, maybe moved
  ScaleId scale;
};

bool bears_shift(const LinearOperation& linear) {
  return has_own_bias(linear) && linear.operation().width() == Width::Int8;
}

bool is_rectifier(const Operation& operation) {
  return operation.type() == "Relu" || (operation.type() == "Clip" && is_scalar(operation.input(1), 0));
}

class Finder {
 public:
  explicit Finder(Graph& graph) : graph_(graph) {}

  std::optional<Place> place(Operation& relu) {
    if (!relu.quantized() || !is_rectifier(relu) || relu.width() != Width::Int8) return std::nullopt;
    const auto front = linear_producer(graph_, relu, 0);
    if (!front || !bears_shift(*front)) return std::nullopt;
    Place place{*front, &relu, {}, graph_.scales().root(relu.output_quant()[0].scale)};
    members_ = {&front->operation(), &relu};
    if (slot_exponents(graph_, relu.output_quant()[0]).size() != 1) return std::nullopt;
    if (!collect(*relu.output(), place) || !is_alone(place)) return std::nullopt;
    return place;
  }

 private:
  /// The layers that read the value, which all have to bear the shift.
  bool collect(Variable& value, Place& place) {
    if (graph_.is_output(&value) || value.uses().empty()) return false;
    for (const Use& use : value.uses()) {
      Operation& reader = *use.operation;
      if (use.slot != 0 || !reader.quantized() || reader.input_quant()[0].state != SlotState::Carries) return false;
      members_.insert(&reader);
      if (moves_values(reader)) {
        if (!collect(*reader.output(), place)) return false;
        continue;
      }
      const auto linear = linear_operation(reader);
      if (!linear || !bears_shift(*linear) || reader.type() == "ConvTranspose" || pads_with_zeros(reader)) return false;
      place.behind.push_back(*linear);
    }
    return true;
  }

  static bool moves_values(const Operation& operation) {
    const OperatorDefinition& definition = definition_of(operation);
    if (!definition.quantization.passive || operation.outputs().size() != 1) return false;
    // A Pad brings a number of its own.
    for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
      if (operation.input(slot) && definition.input_spec(slot).role != OperandRole::Index) return false;
    return true;
  }

  /// No other operation has a slot on the grid.
  bool is_alone(const Place& place) const {
    for (const Operation* operation : graph_.operations()) {
      if (!operation->quantized() || members_.count(operation)) continue;
      for (const auto* slots : {&operation->input_quant(), &operation->output_quant()})
        for (const SlotQuant& slot : *slots)
          if (slot.scale != kNoScale && graph_.scales().root(slot.scale) == place.scale) return false;
    }
    // Nor do results of the layers behind.
    for (const LinearOperation& linear : place.behind)
      if (graph_.scales().root(linear.operation().output_quant()[0].scale) == place.scale) return false;
    return true;
  }

  Graph& graph_;
  std::unordered_set<const Operation*> members_;
};

/// Sum of every row of the weights as the chip has them.
at::Tensor row_sums(const Graph& graph, const LinearOperation& linear) {
  const SlotQuant& slot = linear.operation().input_quant()[linear.weight_slot()];
  const at::Tensor rounded = fake_quantize(linear.weight(), slot_exponents(graph, slot), slot.channel_axis, slot.bits,
                                           graph.target()->rounding);
  return linear.rows_first(rounded).to(at::kDouble).reshape({linear.rows(), -1}).sum(1);
}

void set_bound(Graph& graph, Operation& clip, size_t slot, double value) {
  const bool is_new = clip.inputs().size() <= slot;
  set_constant(graph, clip, slot, at::scalar_tensor(value, at::kFloat), clip.name() + (slot == 1 ? "_min" : "_max"));
  if (is_new)
    clip.edit_input_quant(slot) = {SlotState::Derived, clip.input_quant()[0].bits, -1, graph.scales().create()};
}

void shift(Graph& graph, const Place& place) {
  const int exponent = slot_exponents(graph, place.relu->output_quant()[0])[0] - 1;
  const double zero = std::ldexp(kHalf, exponent), highest = std::ldexp(kHalf - 1, exponent);
  for (const LinearOperation& linear : place.behind)
    linear.set_bias(graph, *linear.bias() + row_sums(graph, linear) * zero);
  place.front.set_bias(graph, *place.front.bias() - zero);
  graph.scales().set_exponents(place.scale, {exponent});
  Operation& relu = *place.relu;
  double bound = std::numeric_limits<double>::infinity();
  if (relu.type() == "Clip") bound = scalar_constant(relu.input(2)).value_or(bound);
  if (relu.type() == "Relu") relu.retype("Clip");
  set_bound(graph, relu, 1, -zero);
  // A bound within a step of the end of the grid is the end of the grid.
  const bool at_end = bound - zero >= highest - 1.5 * std::ldexp(1, exponent);
  if (std::isfinite(bound)) set_bound(graph, relu, 2, at_end ? highest : bound - zero);
}

/// The output of the layer in front would be finer than its sums.
bool would_shift_left(const Graph& graph, const Place& place) {
  const Operation& front = place.front.operation();
  const std::vector<int>& weights = slot_exponents(graph, front.input_quant()[place.front.weight_slot()]);
  const int sums = slot_exponents(graph, front.input_quant()[0])[0] + *std::max_element(weights.begin(), weights.end());
  return slot_exponents(graph, place.relu->output_quant()[0])[0] - 1 < sums;
}

}  // namespace

PassReport virtual_zero_point(Graph& quantized, const Graph& teacher, const Dataset& data,
                              const VirtualZeroPointOptions& options, const Quirks& quirks) {
  require_at_least(static_cast<double>(options.batches), 1, "virtual_zero_point.batches");
  PassReport report{"virtual_zero_point"};
  const OneThreadEach one_thread_each;  // errors are to be the same for any number of them
  Reference reference(teacher, first_batches(hold_out(data).held_out, options.batches));
  double noise = -1;
  std::vector<std::string> names;  // operations do not outlive a step that is kept
  for (const Operation* operation : quantized.topological_order()) names.push_back(operation->name());
  for (const std::string& name : names) {
    const auto place = Finder(quantized).place(*quantized.find_operation(name));
    if (!place) continue;
    if (would_shift_left(quantized, *place)) {
      report.note("tensor whose sums are not finer");
      continue;
    }
    if (noise < 0) noise = reference.simulated_error(quantized);
    Graph trial = quantized.clone();
    shift(trial, *Finder(trial).place(*trial.find_operation(name)));
    settle(trial, quirks);
    const double now = reference.simulated_error(trial);
    if (!(now < noise)) {
      report.note("tensor left, no gain");
      continue;
    }
    report.count(fmt::format("tensor uses all codes ({:.2f} dB)", 10 * std::log10(noise / now)), name);
    noise = now;
    quantized = std::move(trial);
    quantized.touch();
  }
  return report;
}

}  // namespace espq
