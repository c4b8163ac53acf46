#pragma once
#include <functional>
#include <unordered_map>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

/// Order of the dimensions in which a plan holds a value: as the graph has it, or channels first (a view) between
/// kernels of a chip graph that want it so, because turning a view back and forth costs as much as a small kernel.
enum class Layout : char { OfGraph, ChannelsFirst };

/// What a slot does to its tensor, which the caller gives away: nullptr = nothing.
using SlotFunction = std::function<at::Tensor(at::Tensor value)>;

struct StepInput {
  const Variable* variable = nullptr;     ///< nullptr = omitted
  int index = -1;                         ///< of the value in the array
  const at::Tensor* parameter = nullptr;  ///< a constant: where its tensor stands when the step runs
  at::Tensor constant = {};               ///< a constant: what the kernel takes, where that was known when compiling
  SlotFunction round = nullptr;
  Layout layout = Layout::OfGraph;  ///< that the kernel wants
};

struct StepOutput {
  const Variable* variable = nullptr;  ///< nullptr = nobody wants it
  int index = -1;
  SlotFunction round = nullptr;
  Layout layout = Layout::OfGraph;  ///< that the kernel gives
};

/// One operation of a plan: everything that a precision, a chip or training makes of it is in these functions.
struct Step {
  /// Operands and results by variable, parameters as they stand; no kernel.
  explicit Step(const Operation& operation);

  const Operation* operation;
  std::vector<StepInput> inputs;
  std::vector<StepOutput> outputs;
  std::function<Tensors(const Tensors& inputs)> kernel;
  std::vector<int> release = {};  ///< values that nobody reads after this step
};

/// What the executor does to get the requested variables: steps over a flat array of values.
struct Plan {
  std::vector<Step> steps;
  std::unordered_map<const Variable*, int> index;
  std::vector<const Variable*> requested;
  std::vector<Layout> layout;  ///< per value
};

/// Gives every variable its place in the array and finds out where each is read last.
Plan link_steps(std::vector<Step> steps, std::vector<const Variable*> requested);

}  // namespace espq
