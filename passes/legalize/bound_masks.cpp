#include "passes/legalize/bound_masks.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>

#include <cmath>
#include <limits>

#include "core/exec/executor.h"
#include "core/graph/edit.h"
#include "core/graph/match.h"

namespace espq {
namespace {

/// A constant of an Add in front of a Softmax, and what the data say about it.
struct Mask {
  Operation* add;
  const Operation* softmax;
  size_t slot;  ///< of the constant
  /// How much larger a score that is left out was than the largest that is seen.
  double excess = -std::numeric_limits<double>::infinity();
  bool empty_rows = false;

  const at::Tensor& value() const { return add->input(slot)->value(); }
  const Variable* scores() const { return add->input(1 - slot); }
  const Variable* seen() const { return softmax->input(0); }
  int64_t row_length() const {
    const Shape& shape = *seen()->shape();
    const int64_t axis = softmax->int_attribute("axis", -1);
    return shape.at(axis < 0 ? axis + shape.size() : axis);
  }
};

bool only_changes_shape(const Operation& operation) {
  static const std::vector<std::string_view> types = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"};
  return std::find(types.begin(), types.end(), operation.type()) != types.end();
}

/// The Softmax that alone reads the operation.
const Operation* softmax_behind(const Graph& graph, const Operation& operation) {
  const Operation* reader = sole_consumer(graph, *operation.output());
  while (reader && only_changes_shape(*reader)) reader = sole_consumer(graph, *reader->output());
  return reader && reader->type() == "Softmax" ? reader : nullptr;
}

std::vector<Mask> masks_of(Graph& graph) {
  std::vector<Mask> masks;
  for (Operation* operation : graph.topological_order()) {
    if (operation->type() != "Add") continue;
    const auto slot = constant_operand(*operation);
    const Operation* softmax = slot ? softmax_behind(graph, *operation) : nullptr;
    if (!softmax || !softmax->input(0)->shape()) continue;
    const at::Tensor& value = operation->input(*slot)->value();
    if (at::isFloatingType(value.scalar_type()) && value.lt(0).any().item<bool>())
      masks.push_back({operation, softmax, *slot});
  }
  return masks;
}

/// The lower of two elements of a mask leaves out more; anything below 0 may leave out.
void observe(Mask& mask, const at::Tensor& scores, const at::Tensor& seen) {
  const at::Tensor rows = seen.amax({mask.softmax->int_attribute("axis", -1)}, /*keepdim=*/true);
  mask.empty_rows |= rows.isinf().any().item<bool>();
  // What lies between changes the shape alone, so the rows' maxima can be brought to the scores' shape.
  const Shape shape = at::infer_size(scores.sizes(), mask.value().sizes());
  const at::Tensor highest = rows.expand_as(seen).reshape(shape);
  const at::Tensor left_out = mask.value().lt(0).expand(shape);
  const at::Tensor excess = (scores.expand(shape) - highest).masked_select(left_out);
  if (excess.numel() > 0) mask.excess = std::max(mask.excess, excess.max().item<double>());
}

/// The lowest number that the mask needs.
double bound(const Mask& mask) {
  const auto width = mask.softmax->width();
  constexpr int kFloatBits = 24;
  const int bits = !width || width->is_float() ? kFloatBits : width->activations;
  // n elements of exp(-distance) each sum up to 2^-(bits + 2), a quarter of a step of numbers up to 1.
  const double distance = std::log(static_cast<double>(mask.row_length())) + (bits + 2) * std::log(2.0);
  return -(distance + mask.excess);
}

}  // namespace

PassReport bound_masks(Graph& graph, const Dataset& data, int64_t batches) {
  PassReport report{"bound_masks"};
  std::vector<Mask> masks = masks_of(graph);
  report.note("constant in front of Softmax", static_cast<int64_t>(masks.size()));
  if (masks.empty()) return report;
  std::vector<const Variable*> wanted;
  for (const Mask& mask : masks) wanted.insert(wanted.end(), {mask.scores(), mask.seen()});
  Executor executor(graph, Precision::Float);
  const auto count = std::min<int64_t>(batches, static_cast<int64_t>(data.size()));
  for (int64_t batch = 0; batch < count; ++batch) {
    const Tensors values = executor.run(data.inputs(graph, static_cast<size_t>(batch)), wanted);
    for (size_t i = 0; i < masks.size(); ++i) observe(masks[i], values[2 * i], values[2 * i + 1]);
  }
  for (const Mask& mask : masks) {
    const double lowest = bound(mask);
    if (mask.empty_rows || !std::isfinite(lowest) || mask.value().min().item<double>() >= lowest) continue;
    const at::Tensor raised = mask.value().clamp_min(lowest);
    set_constant(graph, *mask.add, mask.slot, raised, mask.add->name() + "_mask");
    report.count("mask of Softmax bounded", mask.add->name());
  }
  return report;
}

}  // namespace espq
