#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <unordered_map>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/permutation.h"
#include "passes/lowering/resize_operands.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// One walk over the graph. A variable is decided once: by the first operation that reads it if it is a graph input,
/// else by the one that writes it; from then on its shape is the exported one.
class ChannelsLastPass {
 public:
  ChannelsLastPass(Graph& graph, const Quirks& quirks) : graph_(graph), quirks_(quirks) {}

  PassReport run() {
    for (Operation* operation : graph_.topological_order()) visit(*operation);
    return report_;
  }

 private:
  void visit(Operation& operation) {
    switch (definition_of(operation).layout) {
      case LayoutRule::ChannelsLast:
        return to_channels_last(operation);
      case LayoutRule::Resize:
        return resize(operation);
      case LayoutRule::Elementwise:
        return follow(operation);
      case LayoutRule::Broadcast:
        return broadcast(operation);
      case LayoutRule::Axis:
        return map_axis(operation);
      case LayoutRule::Reduce:
        return reduce(operation);
      case LayoutRule::Concat:
        return concat(operation);
      case LayoutRule::Slice:
        return slice(operation);
      case LayoutRule::Restores:
        return restore(operation);
    }
  }

  // --- state
  const Permutation* decided(const Variable* variable) const {
    const auto found = layout_.find(variable);
    return found == layout_.end() ? nullptr : &found->second;
  }

  static size_t rank_of(const Variable& variable) {
    user_check(variable.shape().has_value(),
               "tensor '{}': its shape is unknown, which the chip's layouts need; run shape "
               "inference first",
               variable.name());
    return variable.shape()->size();
  }

  void decide(Variable* variable, Permutation permutation) {
    if (!variable || variable->is_parameter()) return;
    const bool same = is_identity(permutation);
    report_.count("tensor reordered", !same);
    if (!same) variable->set_shape(permuted(variable->shape().value(), permutation));
    variable->set_permutation(same ? Permutation{} : permutation);
    layout_.emplace(variable, std::move(permutation));
  }

  /// Layout of a variable that is about to be read, the model's own order unless something decided before.
  const Permutation& layout_or_own(Variable* variable) {
    if (!decided(variable)) decide(variable, identity(rank_of(*variable)));
    return layout_.at(variable);
  }

  void decide_outputs(Operation& operation, const Permutation& permutation) {
    for (Variable* output : operation.outputs()) decide(output, permutation);
  }

  /// The operand reaches the operation in this layout, through a Transpose if need be.
  void bring(Operation& operation, size_t slot, const Permutation& wanted) {
    Variable* source = operation.input(slot);
    if (is_constant(source)) return;
    if (!decided(source)) return decide(source, wanted);
    const Permutation current = layout_.at(source);
    if (current == wanted) return;
    const Permutation step = compose(inverse(current), wanted);
    Operation& transpose = insert_on_grid(graph_, operation, slot, "Transpose", {{"perm", to_attribute(step)}});
    Variable* result = transpose.output();
    report_.count("Transpose inserted", operation.name());
    const bool stale = quirks_.stale_transpose_shapes;
    result->set_shape(permuted(stale ? permuted(*source->shape(), inverse(current)) : *source->shape(), step));
    result->set_permutation(is_identity(wanted) ? Permutation{} : wanted);
    layout_.emplace(result, wanted);
  }

  // --- rules
  void restore(Operation& operation) {
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot)
      if (!is_constant(operation.input(slot)) && !(slot == 0 && reshapes_as_it_lies(operation)))
        bring(operation, slot, identity(rank_of(*operation.input(slot))));
    for (Variable* output : operation.outputs())
      if (output) decide(output, identity(rank_of(*output)));
  }

  /// The elements lie in memory as in the model's order: only axes of size 1 are elsewhere.
  static bool lies_in_order(const Shape& exported, const Permutation& layout) {
    int last = -1;
    for (size_t i = 0; i < layout.size(); ++i) {
      if (exported[i] == 1) continue;
      if (layout[i] < last) return false;
      last = layout[i];
    }
    return true;
  }

  /// An operation that reads elements in the order of memory needs no Transpose that moves none, as behind a global
  /// pool. Axes of a Squeeze are renumbered. The incumbent always adds one, with a shape that does not show it.
  bool reshapes_as_it_lies(Operation& operation) {
    const Permutation* layout = decided(operation.input(0));
    if (quirks_.stale_transpose_shapes || !layout || is_identity(*layout)) return false;
    const Shape& exported = *operation.input(0)->shape();
    if (!lies_in_order(exported, *layout)) return false;
    if (operation.type() == "Reshape") {
      const auto target = constant_indices(operation.input(1));
      return target && std::find(target->begin(), target->end(), 0) == target->end();
    }
    if (operation.type() == "Flatten") {
      const auto split = exported.begin() + wrapped(operation, operation.int_attribute("axis", 1), exported.size() + 1);
      return operation.output()->shape()->at(0) ==
             std::accumulate(exported.begin(), split, int64_t{1}, std::multiplies<int64_t>());
    }
    if (operation.type() != "Squeeze") return false;
    if (operation.inputs().size() < 2 || !operation.input(1)) return true;
    auto axes = constant_indices(operation.input(1));
    if (!axes) return false;
    for (int64_t& axis : *axes) axis = position_of(wrapped(operation, axis, layout->size()), *layout);
    std::sort(axes->begin(), axes->end());
    Shape kept;
    for (size_t axis = 0; axis < exported.size(); ++axis)
      if (!std::binary_search(axes->begin(), axes->end(), static_cast<int64_t>(axis))) kept.push_back(exported[axis]);
    if (kept != *operation.output()->shape()) return false;
    set_indices(*operation.input(1), *axes);
    return true;
  }

  void to_channels_last(Operation& operation) {
    const Permutation wanted = channels_last(rank_of(*operation.input(0)));
    if (wanted.empty()) return restore(operation);
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot) bring(operation, slot, wanted);
    decide_outputs(operation, wanted);
  }

  void follow(Operation& operation) {
    Variable* input = operation.input(0);
    if (is_constant(input)) return restore(operation);
    if (has_channel_constant(operation) && !quirks_.slopes_meet_any_axis) return to_channels_last(operation);
    const Permutation layout = layout_or_own(input);
    if (layout.size() != rank_of(*operation.output())) return restore(operation);
    own_layout_behind_first(operation);
    decide_outputs(operation, layout);
  }

  /// One number per channel (the slopes of a PRelu), which the kernels count along the innermost axis.
  static bool has_channel_constant(const Operation& operation) {
    for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
      if (const Variable* operand = operation.input(slot); operand && operand->is_parameter())
        if (operand->value().numel() > 1) return true;
    return false;
  }

  /// Operands that only tell how (bounds, indices) and were not decided yet keep the model's order.
  void own_layout_behind_first(Operation& operation) {
    for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
      if (!is_constant(operation.input(slot))) layout_or_own(operation.input(slot));
  }

  /// Of two layouts the one that saves transposes later: channels-last, else the one that is not the model's own.
  static Permutation preferred(const Permutation& first, const Permutation& second) {
    const Permutation last = channels_last(first.size());
    if ((first == last) != (second == last)) return first == last ? first : second;
    if (is_identity(first) != is_identity(second)) return is_identity(first) ? second : first;
    return first;
  }

  void broadcast(Operation& operation) {
    Variable* first = operation.input(0);
    Variable* second = operation.input(1);
    if (is_constant(first) && is_constant(second)) return restore(operation);
    if (is_constant(first) || is_constant(second)) return broadcast_constant(operation, is_constant(first) ? 0 : 1);
    const Permutation a = layout_or_own(first), b = layout_or_own(second);
    if (a.size() != b.size()) return restore(operation);
    const Permutation wanted = preferred(a, b);
    bring(operation, 0, wanted);
    bring(operation, 1, wanted);
    decide_outputs(operation, wanted);
  }

  void broadcast_constant(Operation& operation, size_t constant_slot) {
    const Permutation layout = layout_or_own(operation.input(1 - constant_slot));
    if (layout.size() != rank_of(*operation.output())) return restore(operation);
    Variable* constant = operation.input(constant_slot);
    if (constant && !is_identity(layout) && !quirks_.constants_keep_channels_first) permute_constant(*constant, layout);
    decide_outputs(operation, layout);
  }

  static void permute_constant(Variable& constant, const Permutation& layout) {
    if (constant.value().numel() == 1) return;
    Shape full(layout.size() - constant.value().dim(), 1);
    full.insert(full.end(), constant.value().sizes().begin(), constant.value().sizes().end());
    constant.set_value(constant.value().reshape(full).permute(to_attribute(layout)).contiguous());
  }

  /// Attribute `axis` of the operation or its default, counted from the front.
  static int64_t axis_of(const Operation& operation, size_t rank) {
    int64_t axis = 0;
    for (const AttributeSpec& spec : definition_of(operation).attributes)
      if (spec.name == "axis" && spec.fallback) axis = std::get<int64_t>(*spec.fallback);
    return wrapped(operation, operation.int_attribute("axis", axis), rank);
  }

  static int64_t wrapped(const Operation& operation, int64_t axis, size_t rank) {
    const auto size = static_cast<int64_t>(rank);
    user_check(axis >= -size && axis < size, "{} '{}': axis {} does not exist in a tensor of rank {}", operation.type(),
               operation.name(), axis, rank);
    return axis < 0 ? axis + size : axis;
  }

  void map_axis(Operation& operation) {
    if (is_constant(operation.input(0))) return restore(operation);
    const Permutation layout = layout_or_own(operation.input(0));
    if (!is_identity(layout)) operation.set_attribute("axis", position_of(axis_of(operation, layout.size()), layout));
    decide_outputs(operation, layout);
  }

  /// Elements of a constant index operand; nullopt when it is omitted or computed.
  static std::optional<std::vector<int64_t>> constant_indices(const Variable* operand) {
    if (!operand || !operand->is_parameter() || operand->value().numel() == 0) return std::nullopt;
    const at::Tensor indices = operand->value().to(at::kLong).contiguous().flatten();
    return std::vector<int64_t>(indices.const_data_ptr<int64_t>(), indices.const_data_ptr<int64_t>() + indices.numel());
  }

  static void set_indices(Variable& operand, const std::vector<int64_t>& indices) {
    operand.set_value(at::tensor(indices, at::kLong).to(operand.value().scalar_type()));
  }

  void reduce(Operation& operation) {
    Variable* input = operation.input(0);
    Variable* axes_operand = operation.input(1);
    if (is_constant(input) || !is_constant(axes_operand)) return restore(operation);
    const Permutation layout = layout_or_own(input);
    std::vector<int64_t> axes;  // of the exported tensor
    if (const auto given = constant_indices(axes_operand)) {
      for (int64_t axis : *given) axes.push_back(position_of(wrapped(operation, axis, layout.size()), layout));
      std::sort(axes.begin(), axes.end());
      if (!is_identity(layout)) set_indices(*axes_operand, axes);
    } else if (operation.int_attribute("noop_with_empty_axes", 0) == 0) {
      for (size_t i = 0; i < layout.size(); ++i) axes.push_back(static_cast<int64_t>(i));
    }
    const bool keeps = operation.int_attribute("keepdims", 1) != 0;
    decide_outputs(operation, keeps ? layout : without(layout, axes));
  }

  /// The permutation that is left when exported axes disappear.
  static Permutation without(const Permutation& layout, const std::vector<int64_t>& axes) {
    Permutation kept;
    for (size_t i = 0; i < layout.size(); ++i)
      if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) == axes.end()) kept.push_back(layout[i]);
    Permutation renumbered;
    for (int axis : kept)
      renumbered.push_back(static_cast<int>(std::count_if(kept.begin(), kept.end(), [&](int k) { return k < axis; })));
    return renumbered;
  }

  void concat(Operation& operation) {
    const size_t rank = rank_of(*operation.output());
    const int64_t axis = axis_of(operation, rank);
    operation.set_attribute("axis", axis);
    const Permutation* common = decided(operation.input(0));
    for (const Variable* input : operation.inputs()) {
      const Permutation* layout = decided(input);
      if (!layout || *layout != *common) return restore(operation);
    }
    const Permutation layout = *common;
    operation.set_attribute("axis", position_of(axis, layout));
    decide_outputs(operation, layout);
  }

  void slice(Operation& operation) {
    if (is_constant(operation.input(0))) return restore(operation);
    const Permutation layout = layout_or_own(operation.input(0));
    if (!is_identity(layout)) {
      const auto axes = constant_indices(operation.input(3));
      if (!axes) return restore(operation);
      std::vector<int64_t> exported;
      for (int64_t axis : *axes) exported.push_back(position_of(wrapped(operation, axis, layout.size()), layout));
      set_indices(*operation.input(3), exported);
    }
    own_layout_behind_first(operation);
    decide_outputs(operation, layout);
  }

  void resize(Operation& operation) {
    const Permutation wanted = channels_last(rank_of(*operation.input(0)));
    if (wanted.empty()) return restore(operation);
    Shape original = *operation.input(0)->shape();
    if (const Permutation* current = decided(operation.input(0))) original = permuted(original, inverse(*current));
    complete_resize_operands(operation, original);
    bring(operation, 0, wanted);
    decide_outputs(operation, wanted);
  }

  Graph& graph_;
  const Quirks& quirks_;
  std::unordered_map<const Variable*, Permutation> layout_;
  PassReport report_{"to_channels_last"};
};

}  // namespace

PassReport to_channels_last(Graph& graph, const Quirks& quirks) { return ChannelsLastPass(graph, quirks).run(); }

}  // namespace espq::lowering
