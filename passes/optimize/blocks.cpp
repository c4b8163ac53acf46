#include "passes/optimize/blocks.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// An order in which operations can run that finishes a branch before it begins the next one.
class BranchOrder {
 public:
  explicit BranchOrder(const Graph& graph) : graph_(graph) {
    for (const Variable* output : graph.outputs())
      if (output->producer()) finish(output->producer());
    for (const Operation* operation : graph.topological_order()) finish(operation);  // whose result nobody reads
  }
  std::vector<const Operation*> order;

 private:
  /// Everything that the operation depends on, and then it; no recursion, networks may be deep.
  void finish(const Operation* last) {
    std::vector<std::pair<const Operation*, size_t>> open;
    const auto enter = [&](const Operation* operation) {
      if (operation && seen_.insert(operation).second) open.emplace_back(operation, 0);
    };
    enter(last);
    while (!open.empty()) {
      auto& [operation, slot] = open.back();
      if (slot == operation->inputs().size()) {
        order.push_back(operation);
        open.pop_back();
      } else if (const Variable* input = operation->input(slot++)) {
        enter(input->producer());
      }
    }
  }

  const Graph& graph_;
  std::unordered_set<const Operation*> seen_;
};

/// The first operation computes the second one's Relu or Clip: what passes between them is on no grid.
bool is_fused(const Graph& graph, const Variable& between, const Operation& reader) {
  if (!definition_of(reader).quantization.fused_activation || reader.input(0) != &between) return false;
  const Operation& producer = *between.producer();
  if (!producer.quantized() || !reader.quantized()) return true;
  const ScaleId own = producer.output_quant()[between.producer_slot()].scale, behind = reader.output_quant()[0].scale;
  return own != kNoScale && behind != kNoScale && graph.scales().root(own) == graph.scales().root(behind);
}

/// Between two neighbours of the order.
struct Cut {
  int64_t position = 0;  ///< number of operations in front
  int64_t weighted = 0;  ///< so many of them have weights
  int64_t tensors = 0, elements = 0;
};

/// Better is smaller, the first difference counts.
struct Cost {
  int64_t excess = 0, tensors = 0, count = 0, elements = 0;
  auto operator<=>(const Cost&) const = default;  // NOLINT(modernize-use-nullptr): the compiler's own 0
};

class Cutter {
 public:
  Cutter(const Graph& graph, int64_t size) : graph_(graph), size_(size), order_(BranchOrder(graph).order) {
    for (size_t i = 0; i < order_.size(); ++i) places_.emplace(order_[i], i);
  }

  std::vector<Block> run() {
    find_cuts();
    std::vector<Block> result;
    for (const auto& [begin, end] : choose()) result.push_back(block(begin, end));
    return result;
  }

 private:
  static bool has_weights(const Operation& operation) { return definition_of(operation).has_weights(); }

  /// Position of the last reader of what an operation gives; the end for what leaves the network.
  size_t last_reader(const Variable& variable) const {
    if (graph_.is_output(&variable)) return order_.size();
    size_t last = 0;
    for (const ConstUse use : variable.uses()) last = std::max(last, places_.at(use.operation));
    return last;
  }

  void find_cuts() {
    std::vector<int64_t> tensors(order_.size() + 1, 0), elements(order_.size() + 1, 0);
    std::vector<bool> possible(order_.size() + 1, true);
    for (size_t place = 0; place < order_.size(); ++place) {
      for (const Variable* output : order_[place]->outputs()) {
        if (!output || (output->uses().empty() && !graph_.is_output(output))) continue;
        for (const ConstUse use : output->uses())
          if (is_fused(graph_, *output, *use.operation))
            std::fill(possible.begin() + place + 1, possible.begin() + places_.at(use.operation) + 1, false);
        if (graph_.is_output(output) && output->uses().empty()) continue;  // needs no place behind
        int64_t size = 1;
        for (const int64_t length : output->shape().value_or(Shape{})) size *= length;
        for (size_t cut = place + 1; cut <= std::min(last_reader(*output), order_.size() - 1); ++cut) {
          tensors[cut] += 1;
          elements[cut] += size;
        }
      }
    }
    int64_t weighted = 0;
    cuts_ = {Cut{}};
    for (size_t place = 0; place < order_.size(); ++place) {
      const auto position = static_cast<int64_t>(place);
      if (weighted > 0 && has_weights(*order_[place]) && possible[place])
        cuts_.push_back({position, weighted, tensors[place], elements[place]});
      weighted += has_weights(*order_[place]);
    }
    if (!order_.empty()) cuts_.push_back({static_cast<int64_t>(order_.size()), weighted, 0, 0});
  }

  /// The pieces with the smallest sum of costs, by their ends.
  std::vector<std::pair<int64_t, int64_t>> choose() const {
    std::vector<Cost> best(cuts_.size());
    std::vector<size_t> previous(cuts_.size(), 0);
    for (size_t end = 1; end < cuts_.size(); ++end) {
      best[end] = {std::numeric_limits<int64_t>::max(), 0, 0, 0};
      for (size_t begin = 0; begin < end; ++begin) {
        const int64_t excess = std::max<int64_t>(cuts_[end].weighted - cuts_[begin].weighted - size_, 0);
        const Cost cost{best[begin].excess + excess, best[begin].tensors + std::max<int64_t>(cuts_[end].tensors - 1, 0),
                        best[begin].count + 1, best[begin].elements + cuts_[end].elements};
        if (cost < best[end]) {
          best[end] = cost;
          previous[end] = begin;
        }
      }
    }
    std::vector<std::pair<int64_t, int64_t>> pieces;
    for (size_t end = cuts_.size() - 1; end > 0; end = previous[end])
      pieces.emplace_back(cuts_[previous[end]].position, cuts_[end].position);
    std::reverse(pieces.begin(), pieces.end());
    return pieces;
  }

  Block block(int64_t begin, int64_t end) const {
    Block result;
    result.operations.assign(order_.begin() + begin, order_.begin() + end);
    std::unordered_set<const Variable*> known;
    for (const Operation* operation : result.operations) {
      for (const Variable* input : operation->inputs())
        if (input && !input->is_parameter() && known.insert(input).second) result.inputs.push_back(input);
      for (const Variable* output : operation->outputs()) {
        if (!output) continue;
        known.insert(output);
        const bool leaves = graph_.is_output(output) || last_reader(*output) >= static_cast<size_t>(end);
        if (leaves) result.outputs.push_back(output);
      }
    }
    return result;
  }

  const Graph& graph_;
  int64_t size_;
  std::vector<const Operation*> order_;
  std::unordered_map<const Operation*, size_t> places_;
  std::vector<Cut> cuts_;
};

template <typename Handle>
Handle found(Handle handle, const char* what, const std::string& name) {
  user_check(handle, "the other graph has no {} '{}'", what, name);
  return handle;
}

}  // namespace

std::vector<Block> blocks(const Graph& graph, int64_t size) {
  user_check(size >= 1, "blocks of {} operations cannot be made; give 1 or more", size);
  return Cutter(graph, size).run();
}

Block same_block(const Block& block, const Graph& other) {
  Block result;
  for (const Operation* operation : block.operations)
    result.operations.push_back(found(other.find_operation(operation->name()), "operation", operation->name()));
  for (const Variable* input : block.inputs)
    result.inputs.push_back(found(other.find_variable(input->name()), "tensor", input->name()));
  for (const Variable* output : block.outputs)
    result.outputs.push_back(found(other.find_variable(output->name()), "tensor", output->name()));
  return result;
}

}  // namespace espq
