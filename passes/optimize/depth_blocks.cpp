#include "passes/optimize/depth_blocks.h"

#include <algorithm>
#include <unordered_map>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Operations = std::unordered_set<const Operation*>;

class DepthBlocks {
 public:
  DepthBlocks(const Graph& graph, int64_t size) : graph_(graph), size_(size), order_(graph.topological_order()) {
    for (const Operation* operation : order_) {
      int64_t depth = 0;
      for (const Operation* before : graph.upstream(*operation)) depth = std::max(depth, depth_.at(before) + 1);
      depth_[operation] = depth;
    }
  }

  std::vector<Block> run() const {
    std::vector<Block> result;
    Operations inside;
    for (const Operation* operation : graph_.operations()) {
      if (!operation->quantized() || !definition_of(*operation).has_weights() || inside.count(operation)) continue;
      result.push_back(block(*operation, *last_of(*operation)));
      inside.insert(result.back().operations.begin(), result.back().operations.end());
    }
    return result;
  }

 private:
  const Operation* last_of(const Operation& first) const {
    const Operation* last = &first;
    while (const Operation* next = behind(*last)) {
      if (depth_.at(next) - depth_.at(&first) > size_) break;
      last = next;
    }
    return last;
  }

  const Operation* behind(const Operation& operation) const {
    const auto readers = graph_.downstream(operation);
    if (readers.empty()) return nullptr;
    if (readers.size() > 1) return meeting_point(operation);
    const Operation* reader = readers.front();
    int64_t computed = 0;
    for (const Variable* input : reader->inputs()) computed += input && !input->is_parameter();
    return computed == 1 && graph_.upstream(*reader).size() == 1 ? reader : nullptr;
  }

  /// Where all branches from the operation have come together.
  const Operation* meeting_point(const Operation& fork) const {
    Operations seen{&fork};
    std::vector<const Operation*> frontier;
    const auto reach = [&](const Operation& from) {
      for (const Operation* reader : graph_.downstream(from))
        if (std::find(frontier.begin(), frontier.end(), reader) == frontier.end() && !seen.count(reader))
          frontier.push_back(reader);
    };
    reach(fork);
    while (!frontier.empty()) {
      const auto nearest = std::min_element(frontier.begin(), frontier.end(),
                                            [&](const auto* a, const auto* b) { return depth_.at(a) < depth_.at(b); });
      const Operation* operation = *nearest;
      frontier.erase(nearest);
      const auto sources = graph_.upstream(*operation);
      const bool closed =
          std::all_of(sources.begin(), sources.end(), [&](const Operation* source) { return seen.count(source) != 0; });
      if (frontier.empty() && sources.size() > 1 && closed) return operation;
      seen.insert(operation);
      reach(*operation);
    }
    return nullptr;
  }

  /// Everything on the ways from the first operation to the last.
  Block block(const Operation& first, const Operation& last) const {
    Operations reached{&first}, reaching{&last};
    for (const Operation* operation : order_)
      for (const Operation* source : graph_.upstream(*operation))
        if (reached.count(source)) reached.insert(operation);
    for (auto operation = order_.rbegin(); operation != order_.rend(); ++operation)
      for (const Operation* reader : graph_.downstream(**operation))
        if (reaching.count(reader)) reaching.insert(*operation);
    Block result;
    for (const Operation* operation : order_)
      if (reached.count(operation) && reaching.count(operation)) result.operations.push_back(operation);
    std::unordered_set<const Variable*> known;
    for (const Operation* operation : result.operations) {
      for (const Variable* input : operation->inputs())
        if (input && !input->is_parameter() && known.insert(input).second) result.inputs.push_back(input);
      known.insert(operation->outputs().begin(), operation->outputs().end());
    }
    for (const Variable* output : last.outputs())
      if (output) result.outputs.push_back(output);
    return result;
  }

  const Graph& graph_;
  int64_t size_;
  std::vector<const Operation*> order_;
  std::unordered_map<const Operation*, int64_t> depth_;
};

}  // namespace

std::vector<Block> depth_blocks(const Graph& graph, int64_t size) {
  user_check(size >= 1, "blocks of depth {} cannot be made; give 1 or more", size);
  return DepthBlocks(graph, size).run();
}

}  // namespace espq
