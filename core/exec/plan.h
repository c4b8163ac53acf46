#pragma once
#include <unordered_map>
#include <vector>

#include "core/exec/executor.h"

namespace espq {

/// Order of the dimensions in which a plan holds a value of a chip graph: the file's own, or channels first (a view)
/// between kernels that want it so, because turning a view back and forth costs as much as a small kernel.
enum class Layout : char { OfFile, ChannelsFirst };

/// One operation of a compiled plan. Values live in a flat array; indices below point into it.
struct Step {
  const Operation* operation = nullptr;
  ForwardFunction forward = nullptr;  ///< float and simulated kernels
  BoardKernel board;                  ///< set instead of `forward` for exact kernels
  /// Simulated: set instead of `forward` for a 16-bit function that the chip reads from a table.
  std::function<at::Tensor(const at::Tensor&)> table;
  std::vector<int> inputs, outputs;                   ///< value indices; -1 = omitted or unused
  std::vector<char> quantize_input, quantize_output;  ///< Simulated: slots that put their tensor on the grid
  Tensors constants;                                ///< per input slot: the cached parameter, undefined for activations
  std::vector<Layout> input_layout, output_layout;  ///< what the kernel wants and gives
  std::vector<int> release;                         ///< values that nobody reads after this step
  bool relu = false;                                ///< fused activation of a chip graph, for float kernels
  TrainingNode node = TrainingNode::None;           ///< of a graph that can be trained
  Grid convolution_input;                           ///< of its input, where the plan knows one
  /// Training: the Relu behind the operation, which runs in the same pass as the rounding of its output.
  const Operation* fused_relu = nullptr;
};

/// What the executor does for one set of requested variables.
struct Plan {
  std::vector<Step> steps;
  std::unordered_map<const Variable*, int> index;
  std::vector<const Variable*> requested;
  std::vector<Layout> layout;  ///< per value
};

/// Everything a compile needs to know.
struct PlanRequest {
  const Graph& graph;
  Precision precision;
  std::vector<const Operation*> order;     ///< operations to run, in order
  std::vector<const Variable*> requested;  ///< values to keep
  bool cache_parameters = true;
  bool fuse_relu = false;  ///< for plans whose inner values nobody watches
  const std::function<bool(const Operation&)>& dequantized;
};

/// Throws UserError naming the operation when it has no kernel for the precision.
Plan compile_plan(const PlanRequest& request);

/// Grid of a chip graph's variable; bits = 0 when it is not a quantized tensor (wide integers are one only as a bias).
Grid variable_grid(const Variable* variable, bool bias = false);
/// Grid of operand `slot` as the chip sees it, from the variable's storage; bits = 0 when it is not a quantized tensor.
Grid input_grid(const Operation& operation, size_t slot);
Grid output_grid(const Operation& operation, size_t slot);

}  // namespace espq
