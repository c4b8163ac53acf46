#include "passes/optimize/virtual_zero_point.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <unordered_set>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/ops/window.h"
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

  /// A layer behind pads: an operation more for the chip.
  bool needs_pads() const {
    return std::any_of(behind.begin(), behind.end(),
                       [](const auto& layer) { return pads_with_zeros(layer.operation()); });
  }
};

/// Whether what a layer pads with may come from a Pad in front of it instead.
bool may_be_padded(const Operation& layer) { return layer.type() == "Conv" && layer.input(0)->shape(); }

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
      if (!linear || !bears_shift(*linear) || reader.type() == "ConvTranspose") return false;
      if (pads_with_zeros(reader) && !may_be_padded(reader)) return false;
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

/// The weights as the chip has them, [rows, channels of a group, kernel ...].
at::Tensor rounded_rows(const Graph& graph, const LinearOperation& linear) {
  const SlotQuant& slot = linear.operation().input_quant()[linear.weight_slot()];
  return linear.rows_first(fake_quantize(linear.weight(), slot_exponents(graph, slot), slot.channel_axis, slot.bits,
                                         graph.target()->rounding));
}

at::Tensor row_sums(const LinearOperation& linear, const at::Tensor& rows) {
  return rows.to(at::kDouble).reshape({linear.rows(), -1}).sum(1);
}

/// What one number per input channel adds to the results of a layer, [rows].
at::Tensor response(const LinearOperation& linear, const at::Tensor& channels) {
  const int64_t groups = linear.groups(), rows = linear.rows();
  const at::Tensor weights =
      linear.rows_first(linear.weight()).to(at::kDouble).reshape({rows, linear.input_channels() / groups, -1}).sum(2);
  return weights.reshape({groups, rows / groups, -1}).matmul(channels.reshape({groups, -1, 1})).reshape({rows});
}

void set_bound(Graph& graph, Operation& clip, size_t slot, double value) {
  const bool is_new = clip.inputs().size() <= slot;
  set_constant(graph, clip, slot, at::scalar_tensor(value, at::kFloat), clip.name() + (slot == 1 ? "_min" : "_max"));
  if (is_new)
    clip.edit_input_quant(slot) = {SlotState::Derived, clip.input_quant()[0].bits, -1, graph.scales().create()};
}

/// Padding of layers, of zeros, becomes a Pad in front of them, of another value: one for all that pad a tensor alike.
class PadsInFront {
 public:
  PadsInFront(Graph& graph, double value) : graph_(graph), value_(value) {}

  void add(Operation& layer) {
    Variable* data = layer.input(0);
    const at::Tensor& weight = layer.input(1)->value();
    const Window window = read_window(layer, *data->shape(), {weight.sizes().begin() + 2, weight.sizes().end()});
    Variable*& padded = padded_[{data, window.pads()}];
    if (!padded) padded = pad(layer, *data, window);
    graph_.set_input(layer, 0, padded);
    layer.set_attribute("pads", Shape(2 * window.rank(), 0));
    layer.remove_attribute("auto_pad");
  }

 private:
  Variable* pad(const Operation& layer, Variable& data, const Window& window) {
    Shape pads, shape = *data.shape();
    for (const auto* amounts : {&window.begin, &window.end}) {
      pads.insert(pads.end(), {0, 0});
      pads.insert(pads.end(), amounts->begin(), amounts->end());
      for (size_t axis = 0; axis < amounts->size(); ++axis) shape[axis + 2] += (*amounts)[axis];
    }
    const std::string name = free_operation_name(graph_, layer.name() + "_pad");
    const auto constant = [&](const std::string& what, const at::Tensor& number) {
      return &graph_.add_parameter(free_variable_name(graph_, name + what), number);
    };
    Variable& result = add_value(graph_, data, shape, name);
    Variable *pads_given = constant("_pads", at::tensor(pads)),
             *value = constant("_value", at::scalar_tensor(value_, at::kFloat));
    Operation& made =
        graph_.add_operation("Pad", name, {&data, pads_given, value}, {&result}, {{"mode", std::string("constant")}});
    made.set_width(layer.width()->without_weights());
    const SlotQuant& grid = layer.input_quant()[0];
    const auto slot = [&](SlotState state) { return SlotQuant{state, grid.bits, -1, graph_.scales().create()}; };
    const auto carries = [&] {
      const SlotQuant carrying = slot(SlotState::Carries);
      graph_.scales().attach(carrying.scale, grid.scale);
      return carrying;
    };
    const SlotQuant data_slot = carries(), result_slot = carries();
    made.set_quant({data_slot, slot(SlotState::Float), slot(SlotState::Derived)}, {result_slot});
    return &result;
  }

  Graph& graph_;
  double value_;
  std::map<std::pair<const Variable*, Shape>, Variable*> padded_;
};

/// Exponent of the finer grid.
int fine_exponent(const Graph& graph, const Place& place) {
  return slot_exponents(graph, place.relu->output_quant()[0])[0] - 1;
}

/// The tensor less 128 * 2^exponent. `exact`: the float function stays as it is, rather than that of the integers.
void shift(Graph& graph, const Place& place, int exponent, bool exact) {
  const double zero = std::ldexp(kHalf, exponent), highest = std::ldexp(kHalf - 1, exponent);
  PadsInFront pads(graph, -zero);
  for (const LinearOperation& linear : place.behind) {
    const at::Tensor rows = exact ? linear.rows_first(linear.weight()) : rounded_rows(graph, linear);
    linear.set_bias(graph, *linear.bias() + row_sums(linear, rows) * zero);
    if (pads_with_zeros(linear.operation())) pads.add(*graph.find_operation(linear.operation().name()));
  }
  place.front.set_bias(graph, *place.front.bias() - zero);
  graph.scales().set_exponents(place.scale, {exponent});
  Operation& relu = *place.relu;
  double bound = std::numeric_limits<double>::infinity();
  if (relu.type() == "Clip") bound = scalar_constant(relu.input(2)).value_or(bound);
  if (relu.type() == "Relu") relu.retype("Clip");
  set_bound(graph, relu, 1, -zero);
  // A bound within a step of the end of the grid is the end of the grid.
  const bool at_end = !exact && bound - zero >= highest - 1.5 * std::ldexp(1, exponent);
  if (std::isfinite(bound)) set_bound(graph, relu, 2, at_end ? highest : bound - zero);
}

/// How much larger each channel is on the mean on the finer grid, by the name of the operation that gives it: biases
/// behind have made up for the mean of what the coarse grid rounds.
using Means = std::map<std::string, at::Tensor>;

Means gained_means(const Graph& quantized, const std::map<std::string, int>& exponents, const Dataset& data) {
  Means sums;
  Executor executor(quantized, Precision::Simulated);
  executor.set_hook([&](SlotEvent& event) {
    const auto found = event.is_output ? exponents.find(event.operation.name()) : exponents.end();
    if (found == exponents.end() || event.value.dim() < 2) return;
    const double step = std::ldexp(1.0, found->second);
    const at::Tensor fine = round_tensor(event.raw / step, quantized.target()->rounding).clamp(0, 2 * kHalf - 1) * step;
    const at::Tensor mean =
        (fine - event.value).to(at::kDouble).transpose(0, 1).flatten(1).mean(1) / static_cast<double>(data.size());
    at::Tensor& sum = sums[event.operation.name()];
    sum = sum.defined() ? sum + mean : mean;
  });
  for (size_t batch = 0; batch < data.size(); ++batch) executor.run(data.inputs(quantized, batch));
  return sums;
}

/// Takes back, in the layers that read the tensor of `relu` itself, what its mean has changed by.
void correct_means(Graph& graph, const Operation& relu, const std::vector<LinearOperation>& behind,
                   const at::Tensor& gained) {
  for (const LinearOperation& linear : behind) {
    const Operation& layer = linear.operation();
    const Operation* producer = layer.input(0)->producer();
    const bool direct = producer == &relu || (producer->type() == "Pad" && producer->input(0)->producer() == &relu);
    if (direct && linear.input_channels() == gained.numel())
      linear.set_bias(graph, *linear.bias() - response(linear, gained));
  }
}

/// The output of the layer in front would be finer than its sums.
bool would_shift_left(const Graph& graph, const Place& place) {
  const Operation& front = place.front.operation();
  const std::vector<int>& weights = slot_exponents(graph, front.input_quant()[place.front.weight_slot()]);
  const int sums = slot_exponents(graph, front.input_quant()[0])[0] + *std::max_element(weights.begin(), weights.end());
  return fine_exponent(graph, place) < sums;
}

}  // namespace

PassReport virtual_zero_point(Graph& quantized, Graph& teacher, const Dataset& data,
                              const VirtualZeroPointOptions& options, const Quirks& quirks) {
  require_at_least(static_cast<double>(options.batches), 1, "virtual_zero_point.batches");
  require_at_least(options.pad_gain, 0, "virtual_zero_point.pad_gain");
  PassReport report{"virtual_zero_point"};
  const OneThreadEach one_thread_each;   // errors are to be the same for any number of them
  std::map<std::string, int> exponents;  // of the finer grids, by operation: those do not outlive a step that is kept
  std::vector<std::string> names;
  for (Operation* operation : quantized.topological_order())
    if (const auto place = Finder(quantized).place(*operation)) {
      if (would_shift_left(quantized, *place)) {
        report.note("tensor whose sums are not finer");
      } else if (options.pads || !place->needs_pads()) {
        names.push_back(operation->name());
        exponents[operation->name()] = fine_exponent(quantized, *place);
      }
    }
  if (names.empty()) return report;
  const DividedData parts = hold_out(data);
  Reference reference(teacher, first_batches(parts.held_out, options.batches));
  const Means gained = gained_means(quantized, exponents, first_batches(parts.training, options.batches));
  double noise = reference.simulated_error(quantized);
  for (const std::string& name : names) {
    Graph trial = quantized.clone();
    const auto place = Finder(trial).place(*trial.find_operation(name));
    internal_check(place.has_value(), "a shifted tensor does not change where others may be");
    const bool padded = place->needs_pads();
    shift(trial, *place, exponents[name], /*exact=*/false);
    if (const auto mean = gained.find(name); mean != gained.end())
      correct_means(trial, *place->relu, place->behind, mean->second);
    settle(trial, quirks);
    const double now = reference.simulated_error(trial), gain = 10 * std::log10(noise / now);
    if (gain <= (padded ? options.pad_gain : 0)) {
      report.note(padded ? "tensor left, not worth a Pad" : "tensor left, no gain");
      continue;
    }
    report.count(fmt::format("tensor uses all codes{} ({:.2f} dB)", padded ? ", by a Pad" : "", gain), name);
    noise = now;
    quantized = std::move(trial);
    quantized.touch();
    const auto same = Finder(teacher).place(*teacher.find_operation(name));
    internal_check(same.has_value(), "the float network has the places of the quantized one");
    shift(teacher, *same, exponents[name], /*exact=*/true);
    teacher.touch();
  }
  return report;
}

}  // namespace espq
