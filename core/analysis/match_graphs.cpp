#include "core/analysis/match_graphs.h"

#include <map>
#include <numeric>
#include <set>
#include <unordered_set>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Order = std::vector<int64_t>;

constexpr size_t kLargestSearchedRank = 6;  // 720 orders

bool fits(const Shape& a, const Shape& b, const Order& order) {
  for (size_t i = 0; i < order.size(); ++i)
    if (b[i] != a[order[i]]) return false;
  return true;
}

/// What an order does to the values: it without dimensions of size 1.
Order essence(const Shape& a, const Order& order) {
  Order result;
  for (int64_t axis : order)
    if (a[axis] != 1) result.push_back(axis);
  return result;
}

Order inverse(const Order& order) {
  Order result(order.size());
  for (size_t i = 0; i < order.size(); ++i) result[order[i]] = static_cast<int64_t>(i);
  return result;
}

bool converts_only(const Operation& operation) { return definition_of(operation).quantization.converts; }

bool is_layer(const Variable* variable) { return variable && !variable->is_parameter() && variable->producer(); }

/// An activation that stands alone in one graph and is fused in the other.
const Operation* following_relu(const Variable& variable) {
  if (variable.uses().size() != 1) return nullptr;
  const Operation* reader = variable.uses()[0].operation;
  return definition_of(*reader).quantization.fused_activation ? reader : nullptr;
}

class Matcher {
 public:
  Matcher(const Graph& a, const Graph& b) : a_(a), b_(b) {}

  GraphMatch run() {
    match_interface();
    const std::vector<const Operation*> order = b_.topological_order();
    for (const Operation* operation : order)
      for (const Variable* output : operation->outputs()) match_by_name(output);
    for (const Operation* operation : order) match_by_place(*operation);
    return collect(order);
  }

 private:
  const Graph &a_, &b_;
  std::map<const Variable*, TensorMatch> matches_;  ///< by variable of b
  std::unordered_set<const Variable*> taken_;       ///< variables of a
  std::set<const Variable*> converted_;             ///< variables of b that hold what another matched one holds

  bool add(const Variable* a, const Variable* b, bool by_name) {
    if (!a || !b || !a->shape() || !b->shape() || matches_.count(b)) return false;
    std::vector<Order> orders = orders_between(*a, *b);
    if (orders.empty()) return false;
    matches_[b] = {a, b, by_name, std::move(orders)};
    taken_.insert(a);
    return true;
  }

  std::vector<Order> orders_between(const Variable& a, const Variable& b) const {
    if (a_.is_chip() && !b_.is_chip()) {
      std::vector<Order> orders = fitting_orders(*b.shape(), *a.shape(), has_channels_last(a));
      for (Order& order : orders) order = inverse(order);
      return orders;
    }
    const Order known(b.permutation().begin(),
                      b.permutation().end());  // graphs that were lowered in this process know it
    if (!a_.is_chip() && known.size() == a.shape()->size() && known.size() == b.shape()->size() &&
        fits(*a.shape(), *b.shape(), known))
      return {known};
    return fitting_orders(*a.shape(), *b.shape(), !a_.is_chip() && b_.is_chip() && has_channels_last(b));
  }

  void match_by_name(const Variable* b) {
    if (!is_layer(b)) return;
    const Variable* a = a_.find_variable(b->name());
    if (is_layer(a)) add(a, b, true);
  }

  void match_interface() {
    user_check(a_.inputs().size() == b_.inputs().size(), "the models have {} and {} inputs: they cannot be compared",
               a_.inputs().size(), b_.inputs().size());
    const auto match_list = [&](std::span<const Variable* const> from, std::span<const Variable* const> to) {
      for (size_t i = 0; i < to.size(); ++i) {
        const auto same_name = [&](const Variable* variable) { return variable->name() == to[i]->name(); };
        const auto found = std::find_if(from.begin(), from.end(), same_name);
        if (found != from.end()) add(*found, to[i], true);
      }
      if (from.size() != to.size()) return;
      for (size_t i = 0; i < to.size(); ++i)
        if (!taken_.count(from[i])) add(from[i], to[i], false);
    };
    match_list(a_.inputs(), b_.inputs());
    match_list(a_.outputs(), b_.outputs());
  }

  const Variable* counterpart(const Variable* b) const {
    const auto found = matches_.find(b);
    return found == matches_.end() ? nullptr : found->second.a;
  }

  /// True when `candidate` of a reads the counterparts of everything that `operation` of b reads.
  bool reads_the_same(const Operation& candidate, const Operation& operation) const {
    if (candidate.type() != operation.type() || candidate.outputs().size() != operation.outputs().size()) return false;
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
      const Variable* input = operation.input(slot);
      if (!input || input->is_parameter()) continue;
      if (candidate.input(slot) != counterpart(input)) return false;
    }
    return true;
  }

  void match_by_place(const Operation& operation) {
    const Variable* first = operation.input(0);
    const Variable* source = first && !first->is_parameter() ? counterpart(first) : nullptr;
    if (!source) return;
    if (converts_only(operation) || operation.type() == "Transpose") {
      const bool known = counterpart(operation.output()) != nullptr;
      if (!known && (converts_only(operation) || !find_reader(*source, operation))) {
        if (add(source, operation.output(), false)) converted_.insert(operation.output());
        return;
      }
    }
    const Operation* found = find_reader(*source, operation);
    if (!found) return;
    for (size_t slot = 0; slot < operation.outputs().size(); ++slot) {
      const Variable* output = found->output(slot);
      if (operation.chip().fused_relu.value_or(false))
        if (const Operation* relu = following_relu(*output)) output = relu->output();
      add(output, operation.output(slot), false);
    }
  }

  const Operation* find_reader(const Variable& source, const Operation& operation) const {
    for (const ConstUse& use : source.uses()) {
      const Operation& candidate = *use.operation;
      const bool free = std::none_of(candidate.outputs().begin(), candidate.outputs().end(),
                                     [&](const Variable* output) { return taken_.count(output) != 0; });
      if (free && reads_the_same(candidate, operation)) return &candidate;
    }
    return nullptr;
  }

  GraphMatch collect(const std::vector<const Operation*>& order) const {
    GraphMatch result;
    for (const Variable* input : b_.inputs()) {
      const auto found = matches_.find(input);
      user_check(found != matches_.end(), "input '{}' of the second model has no counterpart in the first",
                 input->name());
      result.inputs.push_back(found->second);
    }
    for (const Variable* output : b_.outputs())
      if (const auto found = matches_.find(output); found != matches_.end()) result.outputs.push_back(found->second);
    for (const Operation* operation : order)
      for (const Variable* output : operation->outputs()) {
        if (!is_layer(output) || converted_.count(output)) continue;
        const auto found = matches_.find(output);
        if (found != matches_.end())
          result.layers.push_back(found->second);
        else if (!converts_only(*operation))
          result.unmatched.push_back(output);
      }
    return result;
  }
};

}  // namespace

GraphMatch match_graphs(const Graph& a, const Graph& b) { return Matcher(a, b).run(); }

bool has_channels_last(const Variable& variable) {
  const auto wants = [](const Operation& operation) {
    const LayoutRule rule = definition_of(operation).layout;
    return rule == LayoutRule::ChannelsLast || rule == LayoutRule::Resize;
  };
  const auto keeps_order = [](const Operation& operation) {
    const LayoutRule rule = definition_of(operation).layout;
    return rule == LayoutRule::Elementwise || rule == LayoutRule::Broadcast || rule == LayoutRule::Concat;
  };
  std::vector<const Variable*> pending = {&variable};
  std::unordered_set<const Variable*> seen = {&variable};
  const auto visit = [&](const Variable* next) {
    if (next && !next->is_parameter() && seen.insert(next).second) pending.push_back(next);
  };
  while (!pending.empty()) {
    const Variable* current = pending.back();
    pending.pop_back();
    if (const Operation* producer = current->producer()) {
      if (wants(*producer)) return true;
      if (keeps_order(*producer)) std::for_each(producer->inputs().begin(), producer->inputs().end(), visit);
    }
    for (const ConstUse& use : current->uses()) {
      if (wants(*use.operation)) return true;
      if (keeps_order(*use.operation))
        std::for_each(use.operation->outputs().begin(), use.operation->outputs().end(), visit);
    }
  }
  return false;
}

void assume_permutations(Graph& chip) {
  const auto assume = [](Variable& value) {
    const size_t rank = value.shape() ? value.shape()->size() : 0;
    if (rank < 3 || !value.permutation().empty() || !has_channels_last(value)) return;
    std::vector<int> last(rank);
    std::iota(last.begin(), last.end(), 0);
    std::rotate(last.begin() + 1, last.begin() + 2, last.end());
    value.set_permutation(std::move(last));
  };
  for (Variable* input : chip.inputs()) assume(*input);
  for (Variable* output : chip.outputs()) assume(*output);
}

std::vector<Order> fitting_orders(const Shape& shape_a, const Shape& shape_b, bool channels_last) {
  if (shape_a.size() != shape_b.size()) return {};
  const size_t rank = shape_a.size();
  Order same(rank), last, first;
  std::iota(same.begin(), same.end(), 0);
  std::vector<Order> candidates = {same};
  if (rank >= 3) {
    last = first = same;
    std::rotate(last.begin() + 1, last.begin() + 2, last.end());
    std::rotate(first.begin() + 1, first.end() - 1, first.end());
    candidates.insert(channels_last ? candidates.begin() : candidates.end(), last);
    candidates.push_back(first);
  }
  std::vector<Order> result;
  std::set<Order> known;
  const auto keep = [&](const Order& order) {
    if (fits(shape_a, shape_b, order) && known.insert(essence(shape_a, order)).second) result.push_back(order);
  };
  std::for_each(candidates.begin(), candidates.end(), keep);
  if (!result.empty() || rank > kLargestSearchedRank) return result;
  Order any = same;
  do keep(any);
  while (std::next_permutation(any.begin(), any.end()));
  return result;
}

}  // namespace espq
