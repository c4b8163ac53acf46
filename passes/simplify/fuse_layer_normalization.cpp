#include "passes/simplify/fuse_layer_normalization.h"

#include "core/graph/match.h"
#include "passes/simplify/normalization_pattern.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

struct Match {
  Variable* value = nullptr;
  int64_t axis = 0;
  double epsilon = 0;
};

/// True when exactly these operations read the value and it is no graph output.
bool read_only_by(const Graph& graph, Variable& value, const std::vector<const Operation*>& readers) {
  if (graph.is_output(&value)) return false;
  return std::all_of(value.uses().begin(), value.uses().end(), [&](const Use& use) {
    return std::find(readers.begin(), readers.end(), use.operation) != readers.end();
  });
}

/// division = (x - mean) / sqrt(mean((x - mean)^2) + epsilon)
std::optional<Match> match(const Graph& graph, Operation& division) {
  if (division.type() != "Div" || division.inputs().size() != 2) return std::nullopt;
  Operation* root = private_producer_of(graph, division, 1, "Sqrt");
  Operation* sum = root ? private_producer_of(graph, *root, 0, "Add") : nullptr;
  const auto slot = sum ? constant_operand(*sum) : std::nullopt;
  const auto epsilon = slot ? scalar_constant(sum->input(*slot)) : std::nullopt;
  if (!epsilon) return std::nullopt;
  Operation* variance = private_producer_of(graph, *sum, 1 - *slot, "ReduceMean");
  Operation* square = variance ? variance->input(0)->producer() : nullptr;
  if (!square || sole_consumer(graph, *variance->input(0)) != variance) return std::nullopt;
  Variable* difference = squared_value(*square);
  Operation* subtraction = producer_of(difference, "Sub");
  if (!subtraction || difference != division.input(0)) return std::nullopt;
  if (!read_only_by(graph, *difference, {square, &division})) return std::nullopt;
  Operation* mean = private_producer_of(graph, *subtraction, 1, "ReduceMean");
  if (!mean || mean->input(0) != subtraction->input(0)) return std::nullopt;
  const auto axis = trailing_axis(*mean), other = trailing_axis(*variance);
  if (!axis || axis != other) return std::nullopt;
  return Match{subtraction->input(0), *axis, *epsilon};
}

/// The constant that the sole reader (of the given type) of `value` applies, in normalized shape; moves `value` on.
std::optional<at::Tensor> follow(const Graph& graph, Operation*& last, const char* type, const Match& found) {
  Operation* next = sole_consumer(graph, *last->output());
  const auto slot = next && next->type() == type ? constant_operand(*next) : std::nullopt;
  if (!slot) return std::nullopt;
  auto parameter = normalized_parameter(*next->input(*slot), *found.value, found.axis);
  if (parameter) last = next;
  return parameter;
}

// ------------------------------------------------------------------------------------------- Keras
/// The operation that makes `value` of means over its last axes. tf2onnx writes pools.
Operation* mean_producer(Variable* value) {
  Operation* reduction = producer_of(value, "ReduceMean");
  return reduction ? reduction : producer_of(value, "GlobalAveragePool");
}

/// The gain and epsilon of gain / sqrt(mean((x - mean)^2) + epsilon).
struct InverseDeviation {
  const Variable* gain = nullptr;
  double epsilon = 0;
};

std::optional<InverseDeviation> inverse_deviation(Variable& factor, const Variable& value, const Variable& mean,
                                                  int64_t axis) {
  InverseDeviation found;
  Operation* inverse = factor.producer();
  if (inverse && inverse->type() == "Mul") {
    const auto slot = constant_operand(*inverse);
    if (!slot) return std::nullopt;
    found.gain = inverse->input(*slot);
    inverse = inverse->input(1 - *slot)->producer();
  }
  Operation* root = inverse && inverse->type() == "Reciprocal" ? producer_of(inverse->input(0), "Sqrt") : nullptr;
  Operation* sum = root ? producer_of(root->input(0), "Add") : nullptr;
  const auto slot = sum ? constant_operand(*sum) : std::nullopt;
  const auto epsilon = slot ? scalar_constant(sum->input(*slot)) : std::nullopt;
  Operation* variance = epsilon ? mean_producer(sum->input(1 - *slot)) : nullptr;
  Operation* square = variance && trailing_axis(*variance) == axis ? variance->input(0)->producer() : nullptr;
  Operation* difference = square ? producer_of(squared_value(*square), "Sub") : nullptr;
  if (!difference || difference->input(0) != &value || difference->input(1) != &mean) return std::nullopt;
  found.epsilon = *epsilon;
  return found;
}

/// sum = x * factor + (offset - mean * factor), where factor = gain / sqrt(variance + epsilon): what Keras writes.
bool fuse_folded(Graph& graph, Operation& sum) {
  if (sum.type() != "Add" || sum.inputs().size() != 2) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    Operation *scaled = producer_of(sum.input(slot), "Mul"), *shift = sum.input(1 - slot)->producer();
    const auto constant = shift && scaled ? constant_operand(*shift) : std::nullopt;
    const bool subtracts = constant && shift->type() == "Sub" && *constant == 0;
    if (!constant || (shift->type() != "Add" && !subtracts)) continue;
    Operation* product = producer_of(shift->input(1 - *constant), "Mul");
    for (size_t place = 0; product && place < 2; ++place) {
      Variable *value = scaled->input(place), *factor = scaled->input(1 - place);
      Variable* centre = other_operand(*product, factor);
      if (centre && !subtracts) {
        Operation* negation = producer_of(centre, "Neg");
        centre = negation ? negation->input(0) : nullptr;
      }
      Operation* mean = mean_producer(centre);
      const auto axis = mean && mean->input(0) == value && value->shape() ? trailing_axis(*mean) : std::nullopt;
      const auto deviation = axis ? inverse_deviation(*factor, *value, *centre, *axis) : std::nullopt;
      if (!deviation) continue;
      const auto offset = normalized_parameter(*shift->input(*constant), *value, *axis);
      const Shape normalized(value->shape()->begin() + *axis, value->shape()->end());
      const auto gain = deviation->gain ? normalized_parameter(*deviation->gain, *value, *axis) : at::ones(normalized);
      if (!offset || !gain) continue;
      const auto parameter = [&](const char* suffix, const at::Tensor& content) {
        return &graph.add_parameter(free_variable_name(graph, sum.name() + suffix), content);
      };
      become(graph, sum, "LayerNormalization", {value, parameter("_scale", *gain), parameter("_bias", *offset)},
             {{"axis", *axis - static_cast<int64_t>(value->shape()->size())},
              {"epsilon", static_cast<float>(deviation->epsilon)}});
      return true;
    }
  }
  return false;
}

bool fuse(Graph& graph, Operation& division) {
  const auto found = match(graph, division);
  if (!found || !found->value->shape()) return false;
  Operation* last = &division;
  auto gain = follow(graph, last, "Mul", *found);
  const auto offset = follow(graph, last, "Add", *found);
  if (!gain) {
    const Shape normalized(found->value->shape()->begin() + found->axis, found->value->shape()->end());
    gain = at::ones(normalized);
  }
  std::vector<Variable*> inputs{found->value,
                                &graph.add_parameter(free_variable_name(graph, last->name() + "_scale"), *gain)};
  if (offset) inputs.push_back(&graph.add_parameter(free_variable_name(graph, last->name() + "_bias"), *offset));
  become(graph, *last, "LayerNormalization", inputs,
         {{"axis", found->axis - static_cast<int64_t>(found->value->shape()->size())},
          {"epsilon", static_cast<float>(found->epsilon)}});
  return true;
}

}  // namespace

PassReport fuse_layer_normalization(Graph& graph) {
  PassReport report{"fuse_layer_normalization"};
  for (Operation* operation : graph.operations())
    if (!is_dead(graph, *operation) && (fuse(graph, *operation) || fuse_folded(graph, *operation)))
      report.count("arithmetic became LayerNormalization", operation->name());
  return report;
}

}  // namespace espq
