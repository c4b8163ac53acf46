#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"

namespace espq {

enum class Precision {
  Float,      ///< no quantization
  Simulated,  ///< fake-quantized float, differentiable: what training uses
  Board,      ///< the integers of the chip library; needs a lowered graph
};

/// A value passing a slot of an operation.
struct SlotEvent {
  const Operation& operation;
  int slot;
  bool is_output;
  const at::Tensor& raw;  ///< before the slot quantized it (equal to `value` where nothing is quantized)
  at::Tensor value;       ///< what flows on; a hook may replace it
};
/// Called for every defined input before the kernel and every output after it.
using Hook = std::function<void(SlotEvent&)>;

using NamedTensors = std::map<std::string, at::Tensor>;

/// How gradients pass through rounding in training.
struct GradientOptions {
  /// Per channel, too, no gradient where the value was clipped. false: esp-ppq 1.3.12, which masks per tensor only.
  bool mask_per_channel = false;
  /// Learnable exponents by the root of their group in the ScaleForest: leaf tensors, one element per exponent, whose
  /// rounded values are the graph's exponents (see quantize_gradient.h).
  std::map<ScaleId, at::Tensor> log2_scales = {};
  /// What becomes of an operation's first result before it is rounded, for those named here.
  std::map<const Operation*, std::function<at::Tensor(const at::Tensor& result)>> results = {};
};

/// Runs a graph. Plans are compiled once per set of requested outputs: topological order, last uses, kernels, quantized
/// parameters. Tensors: NCHW for graphs as imported; the file's own layout for lowered graphs. They are on the device
/// that the graph's parameters are on (see device.h); Board precision is the processor's.
/// Board precision: inputs are integers of the file's dtype or floats (rounded to the input's grid as the chip does),
/// outputs come in the file's dtype.
/// Throws UserError naming the input on missing inputs, wrong shape or dtype; on operators without a kernel for the
/// precision.
class Executor {
 public:
  Executor(const Graph& graph, Precision precision);
  ~Executor();
  Executor(Executor&&) noexcept;

  /// One tensor per graph input, in order; returns one per graph output.
  Tensors run(const Tensors& inputs);
  /// Inputs by name; returns the named variables (any variable of the graph).
  NamedTensors run(const NamedTensors& inputs, const std::vector<std::string>& outputs);
  /// Runs only the given operations in the given order on the fed variables and returns `outputs`.
  Tensors run_operations(const std::vector<const Operation*>& operations, const NamedTensors& feed,
                         const std::vector<std::string>& outputs);

  /// Replaces the hook (nullptr = none).
  void set_hook(Hook hook);
  /// Operations to run without quantization in Simulated precision although their slots are set.
  void set_dequantized(std::function<bool(const Operation&)> predicate);
  /// Forget cached parameters after parameter values or exponents changed.
  void invalidate();
  /// Record gradients through parameters and rounding (parameters are not cached then).
  void set_training(bool training, GradientOptions options = {});

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

/// Runs the float graph on the sample and records shape and dtype of every variable. Inputs in graph order.
void infer_shapes(Graph& graph, const Tensors& sample);
/// A sample of zeros in the declared shapes of the graph inputs. Throws UserError when a shape is unknown.
Tensors zero_inputs(const Graph& graph);

}  // namespace espq
