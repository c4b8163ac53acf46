#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "core/quant/slot_rounding.h"

namespace espq {

enum class Precision {
  Float,      ///< no quantization
  Simulated,  ///< fake-quantized float, differentiable: what training uses
  Board,      ///< the integers of the chip library; needs a lowered graph
};

/// One operand or one result of an operation.
struct SlotPlace {
  const Operation& operation;
  int slot;
  bool is_output;
  /// Of a quantized operation.
  const SlotQuant& quant() const { return (is_output ? operation.output_quant() : operation.input_quant()).at(slot); }
};

/// A value that passes a slot while a graph runs: an operand on its way to the kernel, or a result on its way out.
/// Values are what flows between operations: floats, in Board precision codes. Tensors of chip graphs are in the file's
/// order of dimensions.
struct SlotEvent : SlotPlace {
  const at::Tensor& raw;  ///< before the slot quantized it (equal to `value` where nothing is quantized)
  at::Tensor value;       ///< what flows on; a hook may replace it
};
/// Called for every operand that is not omitted before the kernel and every output after it.
using Hook = std::function<void(SlotEvent&)>;

using NamedTensors = std::map<std::string, at::Tensor>;

/// How gradients pass in training, and where values come from that the graph does not hold.
struct GradientOptions {
  /// Per channel, too, no gradient where the value was clipped. false: esp-ppq 1.3.12, which masks per tensor only.
  bool mask_per_channel = true;
  /// How the slots round, asked once for each when steps are compiled; `plain` is what straight-through rounding would
  /// be. Without it, and where it gives nullptr, rounding is straight-through.
  std::function<std::shared_ptr<const SlotRounding>(const SlotPlace&, const GridRounding& plain)> rounding = nullptr;
  /// What becomes of an operation's first result before it is rounded, for those named here.
  std::map<const Operation*, std::function<at::Tensor(const at::Tensor& result)>> results = {};
  /// Constants that the caller computes anew for every run: where it leaves them.
  std::map<const Variable*, const at::Tensor*> parameters = {};
};

/// A part of a graph, compiled to be run often. Compiled anew when the graph has changed since: operations and
/// variables that it names must then still be there. Not to be run by two threads at once; several pieces may.
class Piece {
 public:
  ~Piece();
  Piece(Piece&&) noexcept;
  Piece& operator=(Piece&&) noexcept;

  /// One tensor per feed, in order; returns one per output. They are what flows between operations (see SlotEvent): of
  /// feeds nothing is checked and nothing rounded.
  Tensors run(const Tensors& feeds);

 private:
  friend class Executor;
  struct Implementation;
  explicit Piece(Implementation* implementation);
  std::unique_ptr<Implementation> implementation_;
};

/// Runs a graph. Steps are compiled once per set of requested outputs (topological order, last uses, kernels, quantized
/// parameters) and again when Graph::revision() says that the graph has changed. Whoever writes into a parameter's
/// tensor says so with Graph::touch(); in training parameters are read anew in every run.
/// Tensors: NCHW for graphs as imported; the file's own layout for lowered graphs. They are on the device that the
/// graph's parameters are on (see device.h); Board precision is the processor's.
/// Board precision: inputs are integers of the file's dtype or floats (rounded to the input's grid as the chip does),
/// outputs come in the file's dtype.
/// Throws UserError naming the input on missing inputs, wrong shape or dtype; on operators without a kernel for the
/// precision.
class Executor {
 public:
  /// The graph must outlive the executor and its pieces.
  Executor(const Graph& graph, Precision precision);
  ~Executor();
  Executor(Executor&&) noexcept;

  /// One tensor per graph input, in order; returns one per graph output.
  Tensors run(const Tensors& inputs);
  /// The same for any variables of the graph, one tensor for each.
  Tensors run(const Tensors& inputs, const std::vector<const Variable*>& outputs);
  /// Inputs by name; returns the named variables.
  NamedTensors run(const NamedTensors& inputs, const std::vector<std::string>& outputs);
  /// The given operations, to run in the given order on tensors of `feeds`, with what the executor is set to.
  Piece compile(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
                std::vector<const Variable*> outputs) const;

  /// Replaces the hook (nullptr = none).
  void set_hook(Hook hook);
  /// Operations to run without quantization in Simulated precision although their slots are set.
  void set_dequantized(std::function<bool(const Operation&)> predicate);
  /// Record gradients through parameters and rounding.
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
