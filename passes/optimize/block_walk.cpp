#include "passes/optimize/block_walk.h"

#include <ATen/ATen.h>

#include "core/analysis/float_run.h"
#include "core/ops/limits.h"
#include "core/support/error.h"
#include "core/support/progress.h"
#include "passes/optimize/depth_blocks.h"
#include "passes/optimize/snapshot.h"
#include "passes/optimize/training_front.h"

namespace espq {

namespace {

Block whole_network(const Graph& graph) {
  Block result;
  result.operations = graph.topological_order();
  result.inputs.assign(graph.inputs().begin(), graph.inputs().end());
  for (const Variable* output : graph.outputs())
    if (output->producer()) result.outputs.push_back(output);
  return result;
}

void without_integers(std::vector<Tensors>& samples) {
  for (Tensors& sample : samples)
    for (at::Tensor& tensor : sample)
      if (!tensor.is_floating_point()) tensor.reset();
}

}  // namespace

BlockWalk::BlockWalk(TrainableGraph& network, const Graph& teacher, const DividedData& data, size_t threads)
    : network_(network),
      teacher_(teacher),
      whole_(whole_network(network.view())),
      samples_(training_samples(network.view(), data, whole_.outputs)),
      threads_(threads) {}

void BlockWalk::run(BlockCuts cuts, int64_t size, const Train& train) {
  const bool narrow = cuts == BlockCuts::Narrow;
  const std::vector<Block> pieces = narrow ? blocks(network_.view(), size) : depth_blocks(network_.view(), size);
  TrainingFront front(network_, teacher_, pieces, samples_, threads_);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (!pieces[i].outputs.empty()) train(pieces[i], front.samples(), i);
    network_.refresh();
    front.advance();
    report_progress("training", i + 1, pieces.size());
  }
}

void BlockWalk::run_whole(const Train& train) {
  const Block same = same_block(whole_, teacher_);
  const Executor teaches = float_executor(teacher_);
  BlockSamples samples{samples_.inputs, {}, samples_.training, samples_.joinable};
  samples.targets = run_samples([&] { return teaches.compile(same.operations, same.inputs, same.outputs); },
                                samples_.inputs, threads_);
  without_integers(samples.targets);
  train(whole_, samples, 0);
}

int64_t BlockWalk::elements(const Block& block) {
  int64_t sum = 0;
  for (const Operation* operation : block.operations)
    for (const Variable* output : operation->outputs()) sum += element_count(output).value_or(0);
  return sum;
}

bool has_layers(const Graph& graph) {
  const auto operations = graph.operations();
  return std::any_of(operations.begin(), operations.end(),
                     [](const Operation* one) { return definition_of(*one).has_weights(); });
}

void warn_of_single_sample(const DividedData& data, PassReport& report) {
  if (!data.same) return;
  report.warnings.push_back(
      fmt::format("{}: there is a single sample, on which the gain is measured, too; give more data", report.pass));
}

bool keep_if_better(Graph& quantized, const Graph& trained, Judges& judges, size_t threads, PassReport& report) {
  if (!report.changed()) return false;
  const std::vector<JudgedNoise> noise = judges.noise({&quantized, &trained}, threads);
  const JudgedNoise &before = noise[0], &after = noise[1];
  report.note(fmt::format(
      "noise of the outputs {:.3f} % before, {:.3f} % after, on held-out data {:.3f} % before, {:.3f} % after",
      before.training * 100, after.training * 100, before.held_out * 100, after.held_out * 100));
  if (after.falls_below(before)) {
    Snapshot(trained).restore(quantized);
    return true;
  }
  report.note("everything undone: the outputs got no better");
  report.changes.clear();
  return false;
}

}  // namespace espq
