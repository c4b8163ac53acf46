#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "core/exec/executor.h"
#include "core/exec/plan.h"

namespace espq {

/// What an executor was told beside its graph.
struct ExecutionSettings {
  std::function<bool(const Operation&)> dequantized = nullptr;
  bool training = false;
  GradientOptions gradients = {};
  bool watched = false;  ///< a hook wants to see every value
};

/// Turns a graph into steps: everything that is particular to a precision. One source file per subclass.
class StepCompiler {
 public:
  StepCompiler(const Graph& graph, const ExecutionSettings& settings) : graph_(graph), settings_(settings) {}
  virtual ~StepCompiler() = default;

  /// Steps of the operations, in their order; `requested` values are kept. Throws UserError when the graph cannot run
  /// in the precision, naming the operation that has no kernel for it.
  virtual std::vector<Step> steps(const std::vector<const Operation*>& order,
                                  const std::vector<const Variable*>& requested) = 0;
  /// A graph input as it flows through the steps. Throws UserError naming the input when shape or dtype do not fit.
  virtual at::Tensor enter(const Variable& input, const at::Tensor& value) const = 0;
  /// A value as the caller gets it.
  virtual at::Tensor leave(const Variable& /*output*/, const at::Tensor& value) const { return value; }

 protected:
  const Graph& graph_;
  const ExecutionSettings& settings_;
};

std::unique_ptr<StepCompiler> float_compiler(const Graph& graph, const ExecutionSettings& settings);
std::unique_ptr<StepCompiler> simulated_compiler(const Graph& graph, const ExecutionSettings& settings);
std::unique_ptr<StepCompiler> board_compiler(const Graph& graph, const ExecutionSettings& settings);

}  // namespace espq
