#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/linear.h"

namespace espq {

/// A float network seen channel by channel: which channels of which tensors can be multiplied by a factor together,
/// such that the layers and normalizations in front of them multiply their rows, and the layers behind them divide
/// their columns, and nothing else notices. Channels that have to keep one factor are a class: through Relu, LeakyRelu,
/// PRelu, pools, Resize and whatever else gives c f(x) for f(c x), through Concat, Split, Transpose and Reshape
/// wherever a channel goes, and through Add and Sub, whose operands need the same factor. That an operator lets factors
/// through is seen by running it: powers of two have to come out exactly as they went in.
struct ChannelMap {
  static constexpr int kNone = -1;  ///< a channel that nothing may scale

  /// A layer with constant weights.
  struct Layer {
    LinearOperation linear;
    std::vector<int> rows;     ///< class of every output channel
    std::vector<int> columns;  ///< class of every input channel (of all groups)
  };
  /// A normalization whose last factors give its result's channels their size.
  struct Gain {
    const Operation* operation;
    GainRule rule;
    std::vector<int> rows;  ///< class of every output channel
  };
  /// A tensor that has channels of classes.
  struct Value {
    const Variable* variable;
    int64_t axis;
    std::vector<int> channels;  ///< class of every index along the axis
  };
  /// An operation that keeps its operand within [low, high], low <= 0 <= high: factors come through while the operand
  /// stays within the bounds before and after.
  struct Clamp {
    const Operation* operation;
    double low, high;
    std::vector<int> channels;
  };

  int classes = 0;
  std::vector<Layer> layers;  ///< in topological order
  std::vector<Gain> gains;
  std::vector<Value> values;  ///< in topological order
  std::vector<Clamp> clamps;
};

/// Takes a float graph with shapes (infer_shapes). Channels that reach a graph output, or an operator that lets no
/// factor through, belong to no class; the same for those of graph inputs.
ChannelMap map_channels(const Graph& graph);

}  // namespace espq
