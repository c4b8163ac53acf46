#include "passes/optimize/correct_biases.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "passes/optimize/held_out.h"
#include "passes/optimize/layer_walk.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/own_bias.h"
#include "passes/optimize/reference.h"
#include "passes/optimize/snapshot.h"

namespace espq {
namespace {

/// Mean per channel, of one mean per batch, less what chance explains. (Positions of one picture are alike: every batch
/// counts as one value.)
at::Tensor certain_mean(const std::vector<at::Tensor>& of_batches) {
  const at::Tensor means = at::stack(of_batches, 1);
  const at::Tensor mean = means.mean(1);
  if (means.size(1) < 2) return mean;
  const at::Tensor chance = means.var(1) / means.size(1);
  const at::Tensor square = mean.square();
  return mean * square / (square + chance).clamp_min(1e-30);
}

void correct(LayerWalk& walk, Graph& graph, const Operation& operation, PassReport& report) {
  if (!operation.quantized()) return;
  const auto linear = linear_operation(operation);
  if (!linear || !has_own_bias(*linear)) return;
  const at::Tensor shift = certain_mean(walk.each_batch([&](const LayerWalk::Result& result, const at::Tensor& exact) {
    const at::Tensor difference = (exact - result.raw).to(at::kDouble);
    const int64_t axis = linear->rule().channel_axis;
    return difference.movedim(axis < 0 ? difference.dim() + axis : axis, 0).flatten(1).mean(1);
  }));
  if (shift.abs().max().item<double>() == 0) return;
  linear->set_bias(graph, *linear->bias() + shift);
  report.count("bias corrected", operation.name());
}

}  // namespace

PassReport correct_biases(Graph& quantized, const Graph& teacher, const Dataset& data,
                          const CorrectBiasesOptions& options) {
  require_at_least(static_cast<double>(options.batches), 1, "correct_biases.batches");
  require_at_least(static_cast<double>(options.sweeps), 1, "correct_biases.sweeps");
  PassReport report{"correct_biases"};
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
