#pragma once
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// A tensor of graph B beside the tensor of graph A that stands for the same values.
struct TensorMatch {
  const Variable* a = nullptr;
  const Variable* b = nullptr;
  bool by_name = false;  ///< otherwise by its place in the network
  /// Orders of dimensions that fit both shapes: b = a.permute(order), the likeliest first. Several when dimensions are
  /// of one size; only the values can tell then.
  std::vector<std::vector<int64_t>> orders;
};

struct GraphMatch {
  std::vector<TensorMatch> inputs;   ///< in the order of B's inputs
  std::vector<TensorMatch> outputs;  ///< every graph output of B that A has, in order
  std::vector<TensorMatch> layers;   ///< computed tensors of B, in execution order
  /// Computed tensors of B without counterpart, in execution order; values that the chip only converts (exponent,
  /// width or layout) are not counted.
  std::vector<const Variable*> unmatched;
};

/// Finds the tensors of `a` again in `b`. Equal names match when the shapes do; what is left is matched by place: an
/// operation of the same type (and number of results) that reads matched tensors, with an activation that the chip
/// fuses taken as one layer. Graph inputs and outputs match by name, else by position. Shapes must be known. Throws
/// UserError when the inputs are not the same in number and, in some order, in shape.
GraphMatch match_graphs(const Graph& a, const Graph& b);

/// True when the tensor of a chip graph has its channels last: an operator that wants them there reads or makes it,
/// perhaps behind operators that keep the order.
bool has_channels_last(const Variable& variable);

/// Gives graph inputs and outputs of a chip graph from a file that does not tell it the permutation that they most
/// likely have: channels moved last where has_channels_last().
void assume_permutations(Graph& chip);

/// Permutations `order` with shape_b[i] = shape_a[order[i]], the likeliest first: the same order, channels moved last
/// (first, when `channels_last`), channels moved first, then any other. Orders that differ only in where dimensions of
/// size 1 go are one. Empty when the shapes do not fit.
std::vector<std::vector<int64_t>> fitting_orders(const Shape& shape_a, const Shape& shape_b, bool channels_last);

}  // namespace espq
