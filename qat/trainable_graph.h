#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/exec/executor.h"
#include "passes/quirks.h"
#include "qat/batch_normalization.h"

namespace espq {

/// How a slot rounds in training, see GradientOptions.
using RoundingChoice = decltype(GradientOptions::rounding);

struct TrainOptions {
  /// Also train constants that the network adds, multiplies, compares or concatenates. false: only what is a weight,
  /// bias, slope or normalization factor of its operator.
  bool arithmetic_constants = false;
  /// Learn exponents by the rule of TQT: the base-2 logarithm of each scale is a parameter, its rounded value is the
  /// exponent, and all slots of one scale group share it. What follows from others (biases) follows.
  bool learn_activation_exponents = false;
  bool learn_weight_exponents = false;
  /// True for parameters (by their name) that keep their value.
  std::function<bool(const std::string& name)> frozen = nullptr;
  /// BatchNormalizations of the float network to keep: gamma and beta are trained, and in training mode the statistics
  /// are those of the batch until freeze_batch_normalizations(). Empty: weights are trained with all of them folded in.
  std::vector<BatchNormalization> batch_normalizations = {};
  /// Share of a batch in the running statistics.
  double batch_normalization_momentum = 0.1;
  /// Where the network trains: parameters live there and inputs have to be there. On CUDA sums are added in another
  /// order than on the processor, so that values in the middle between two steps of a grid may fall either way.
  at::Device device = at::kCPU;
  /// Those of the recipe that the graph was quantized with: biases and shifts follow their exponents in the same way.
  Quirks quirks = {};
};

/// A quantized graph as something to train: float32 parameters as leaf tensors for LibTorch's optimizers, a forward
/// pass with gradients, state to save. It works on a copy; graph() gives the trained graph. Starts in training mode.
/// Not to be used by two threads at a time.
class TrainableGraph {
 public:
  using NamedParameters = std::vector<std::pair<std::string, at::Tensor>>;

  /// Throws UserError when the graph is not quantized or already lowered, or when there is nothing to train.
  explicit TrainableGraph(const Graph& quantized, TrainOptions options = {});
  ~TrainableGraph();
  TrainableGraph(TrainableGraph&&) noexcept;

  /// One tensor per graph input, in order, of any batch size; returns one per graph output. Simulated precision rounds
  /// like the chip and passes gradients straight through; Float does not round. In training mode gradients are
  /// recorded (unless LibTorch's NoGradGuard is active); in evaluation mode quantized parameters are cached.
  Tensors forward(const Tensors& inputs, Precision precision = Precision::Simulated);

  /// The graph that is trained, for handles that part() takes. The value of a parameter that learns is its leaf; other
  /// values and exponents are those of the last refresh() or forward().
  const Graph& view() const;
  /// A part of view() to be run and trained alone, on what flows between operations (see Piece). In Simulated precision
  /// and, whatever the mode, with gradients (unless LibTorch's NoGradGuard is active). `rounding` says how its slots
  /// round; without it exponents learn as in forward(). Not for kept BatchNormalizations.
  Piece part(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
             std::vector<const Variable*> outputs, RoundingChoice rounding = nullptr);
  /// Brings grids in line with learned exponents and with biases, which may have outgrown their room: what graph()
  /// would give. Parts may run side by side afterwards, until a leaf changes.
  void refresh();
  /// The leaf that holds the base-2 logarithm of the scales of a slot of view(); undefined where they do not learn.
  at::Tensor exponent_of(const SlotQuant& slot) const;

  /// Leaf tensors that require gradients, in graph order: weights and biases, then learnable exponents.
  std::vector<at::Tensor> parameters() const;
  NamedParameters named_parameters() const;
  /// The two kinds apart, for optimizers with a learning rate for each: weights() in float32 units, exponents() in
  /// bits.
  std::vector<at::Tensor> weights() const;
  std::vector<at::Tensor> exponents() const;
  /// Running means and variances of kept BatchNormalizations: float32 [channels], changed by forward() in training
  /// mode.
  NamedParameters named_buffers() const;
  std::vector<at::Tensor> buffers() const;
  /// From now on kept BatchNormalizations use their running statistics in training mode, too, as the chip will do: what
  /// is trained is then exactly what is exported. Not part of the state: the loop decides by its step.
  void freeze_batch_normalizations(bool frozen = true);
  /// Gives kept BatchNormalizations the statistics of `batches` (inputs as forward() takes them), means over all of
  /// them, with the weights and the rounding as they are now: running statistics trail behind weights that moved, and
  /// those of the float network know nothing of rounding. Weights are folded anew with the result. Throws UserError
  /// when no BatchNormalization is kept or there are no batches.
  void reestimate_batch_normalizations(const std::vector<Tensors>& batches, Precision precision = Precision::Simulated);
  /// Forgets all gradients.
  void zero_grad();

  void train(bool training = true);
  void eval() { train(false); }
  bool is_training() const;

  /// A copy of the quantized graph with the current values and exponents, on the processor: what lower(), the exporters
  /// and the analyses take. The graph that the constructor was given stays as it is.
  Graph graph();

  /// Everything that training changes, frozen parameters included: copies on the processor, by name.
  NamedTensors state();
  /// Throws UserError naming the tensor when one is missing, unknown or of another shape; then nothing has changed.
  void load_state(const NamedTensors& state);
  /// The same in a file, written whole or not at all.
  void save(const std::filesystem::path& file);
  void load(const std::filesystem::path& file);

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace espq
