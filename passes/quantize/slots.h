#pragma once
#include <functional>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// All slots of a quantized graph by scale id, with the two ways in which one slot comes to use another's scale.
/// Every slot has a scale node of its own from the moment it is created, so an id names exactly one slot.
/// The table is a view: it is invalid once slots are added or removed.
class SlotTable {
 public:
  explicit SlotTable(Graph& graph);

  SlotQuant& root_of(const SlotQuant& slot) { return *slots_[graph_.scales().root(slot.scale)]; }

  /// The tensor of `slot` is already on the grid of `owner`: the whole group of `slot` joins the group of `owner`, and
  /// neither `slot` nor the former root of its group rounds any more. Nothing happens inside one group.
  void carry(SlotQuant& slot, SlotQuant& owner);
  /// `slot` (with whatever follows it) rounds to the grid of `master` from now on, whatever it did before. False when
  /// it did so already.
  bool follow(SlotQuant& slot, SlotQuant& master);
  /// The group of `slot` rounds to exponents that follow from other slots. False when it did so already.
  bool round_to(SlotQuant& slot, std::vector<int> exponents);

 private:
  Graph& graph_;
  std::vector<SlotQuant*> slots_;
};

/// Calls `visit` for every slot of every quantized operation: inputs, then outputs, operations in insertion order.
/// The variable may be nullptr for omitted operands.
void for_each_slot(Graph& graph,
                   const std::function<void(Operation&, SlotQuant&, Variable*, int slot, bool is_output)>& visit);

/// True when the exponents of the slot's group are known.
inline bool has_exponents(const Graph& graph, const SlotQuant& slot) {
  return slot.scale != kNoScale && !graph.scales().exponents(slot.scale).empty();
}

/// True when the variable holds floats (and so may be quantized).
bool is_floating(const Variable& variable);

/// Operations run by the same arithmetic: only then can a tensor pass between them without requantization.
inline bool same_width(const Operation& a, const Operation& b) {
  return a.width().has_value() == b.width().has_value() &&
         (!a.width() || a.width()->activations == b.width()->activations);
}

}  // namespace espq
