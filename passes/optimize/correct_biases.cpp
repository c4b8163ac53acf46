#include "passes/optimize/correct_biases.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "core/analysis/float_run.h"
#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/quant/fake_quantize.h"
#include "passes/optimize/blocks.h"
#include "passes/optimize/depth_blocks.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/layer_walk.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/own_bias.h"
#include "passes/optimize/reference.h"
#include "passes/optimize/snapshot.h"

namespace espq {

const std::vector<std::pair<CorrectionMethod, std::string_view>> EnumNames<CorrectionMethod>::values = {
    {CorrectionMethod::Layers, "layers"}, {CorrectionMethod::Blocks, "blocks"}};

namespace {

/// Mean per channel, of one mean per batch, less what chance explains. (Positions of one picture are alike: every batch
/// counts as one value.)
at::Tensor certain_mean(const std::vector<at::Tensor>& of_batches) {
  const at::Tensor means = at::stack(of_batches, 1);
  at::Tensor mean = means.mean(1);
  if (means.size(1) < 2) return mean;
  const at::Tensor chance = means.var(1) / means.size(1);
  const at::Tensor square = mean.square();
  return mean * square / (square + chance).clamp_min(1e-30);
}

/// `value` as the slot rounds it, if it does.
at::Tensor rounded(const Graph& graph, const SlotQuant& slot, const at::Tensor& value) {
  if (!slot.quantizes()) return value;
  return fake_quantize(value, slot_exponents(graph, slot), slot.channel_axis, slot.bits, graph.target()->rounding);
}

void correct(LayerWalk& walk, Graph& graph, const Operation& operation, PassReport& report) {
  if (!operation.quantized()) return;
  const auto linear = linear_operation(operation);
  if (!linear || !has_own_bias(*linear)) return;
  const at::Tensor shift = certain_mean(walk.each_batch(
      [&](const at::Tensor& raw, const at::Tensor& exact) { return channel_mean(*linear, exact - raw); }));
  if (shift.abs().max().item<double>() == 0) return;
  const SlotQuant& bias_slot = operation.input_quant()[*linear->bias_slot()];
  const auto bias = [&] { return rounded(graph, bias_slot, linear->bias_variable()->value()).flatten(); };
  const at::Tensor before = bias();
  linear->set_bias(graph, *linear->bias() + shift);
  const at::Tensor moved = bias() - before;
  walk.becomes([&](const at::Tensor& raw) {
    return rounded(graph, operation.output_quant()[0], raw + along_channels(*linear, moved, raw.dim()));
  });
  report.count("bias corrected", operation.name());
}

/// A block with the values that reach it.
class BlockCorrection {
 public:
  BlockCorrection(Graph& quantized, const Graph& teacher, const Block& block, const Dataset& data)
      : quantized_(quantized), block_(block), same_(same_block(block, teacher)) {
    for (const Operation* operation : block.operations)
      if (const auto linear = linear_operation(*operation); linear && has_own_bias(*linear)) layers_.push_back(*linear);
    Executor computes(quantized, Precision::Simulated), teaches = float_executor(teacher);
    std::vector<const Variable*> results, same_results;
    for (const LinearOperation& layer : layers_) {
      results.push_back(layer.operation().output());
      same_results.push_back(teacher.find_operation(layer.operation().name())->output());
    }
    exact_.emplace(teaches.compile(same_.operations, same_.inputs, same_results));
    results.insert(results.end(), block.outputs.begin(), block.outputs.end());
    rounded_.emplace(computes.compile(block.operations, block.inputs, results));
    for (size_t batch = 0; batch < data.size(); ++batch) {
      feeds_.push_back(computes.run(data.inputs(quantized, batch), block.inputs));
      targets_.push_back(teaches.run(data.inputs(teacher, batch), same_.outputs));
    }
  }

  /// Whether that made the error of the block smaller; otherwise everything is as it was.
  bool run() {
    if (layers_.empty()) return false;
    const Snapshot before(quantized_);
    const auto [error, shifts] = measure();
    for (size_t i = 0; i < layers_.size(); ++i) layers_[i].set_bias(quantized_, *layers_[i].bias() + shifts[i]);
    if (measure().first <= error) return true;
    before.restore(quantized_);
    return false;
  }

 private:
  /// Mean squared error of the outputs, and the mean of what each layer is off by per channel, with the same feeds.
  std::pair<double, std::vector<at::Tensor>> measure() {
    double error = 0;
    std::vector<at::Tensor> shifts(layers_.size());
    const auto batches = static_cast<double>(feeds_.size());
    for (size_t batch = 0; batch < feeds_.size(); ++batch) {
      const Tensors exact = exact_->run(feeds_[batch]), rounded = rounded_->run(feeds_[batch]);
      for (size_t i = 0; i < layers_.size(); ++i) {
        const at::Tensor shift = (channel_mean(layers_[i], exact[i]) - channel_mean(layers_[i], rounded[i])) / batches;
        shifts[i] = shifts[i].defined() ? shifts[i] + shift : shift;
      }
      for (size_t i = 0; i < block_.outputs.size(); ++i)
        error += at::mse_loss(rounded[layers_.size() + i], targets_[batch][i]).item<double>() / batches;
    }
    return {error, shifts};
  }

  Graph& quantized_;
  const Block block_, same_;
  std::vector<LinearOperation> layers_;
  std::optional<Piece> exact_, rounded_;
  std::vector<Tensors> feeds_, targets_;
};

PassReport correct_by_blocks(Graph& quantized, const Graph& teacher, const Dataset& data, int64_t size) {
  PassReport report{"correct_biases"};
  for (const Block& block : depth_blocks(quantized, size)) {
    const std::string& where = block.operations.front()->name();
    if (BlockCorrection(quantized, teacher, block, data).run())
      report.count("biases of a block corrected", where);
    else
      report.note("block left as it was");
  }
  return report;
}

}  // namespace

PassReport correct_biases(Graph& quantized, const Graph& teacher, const Dataset& data,
                          const CorrectBiasesOptions& options) {
  require_at_least(static_cast<double>(options.batches), 1, "correct_biases.batches");
  require_at_least(static_cast<double>(options.sweeps), 1, "correct_biases.sweeps");
  require_at_least(static_cast<double>(options.block_size), 1, "correct_biases.block_size");
  if (options.method == CorrectionMethod::Blocks)
    return correct_by_blocks(quantized, teacher, data, options.block_size);
  PassReport report{"correct_biases"};
  const OneThreadEach one_thread_each;  // errors are to be the same for any number of them
  const DividedData divided = hold_out(data);
  const Dataset training = first_batches(divided.training, options.batches);
  Reference reference(teacher, divided.held_out);
  double error = reference.simulated_error(quantized);
  for (int64_t sweep = 0; sweep < options.sweeps; ++sweep) {
    const Snapshot before(quantized);
    PassReport changes{"correct_biases"};
    {
      LayerWalk walk(teacher, quantized, training);
      walk.run([&](const Operation& operation) { correct(walk, quantized, operation, changes); });
    }
    const double now = reference.simulated_error(quantized);
    const bool better = now < error;
    report.note(fmt::format("sweep {}: noise on held-out data {:.2f} dB, was {:.2f} dB{}", sweep + 1,
                            10 * std::log10(now), 10 * std::log10(error), better ? "" : ", undone"));
    if (!better) {
      before.restore(quantized);
      break;
    }
    error = now;
    for (const ReportEntry& change : changes.changes) report.count(change.what, change.where, change.count);
  }
  return report;
}

}  // namespace espq
