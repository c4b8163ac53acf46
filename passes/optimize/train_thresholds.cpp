#include "passes/optimize/train_thresholds.h"

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>

#include <cmath>

#include "core/exec/side_by_side.h"
#include "core/ops/operator.h"
#include "passes/optimize/block_trainer.h"
#include "passes/optimize/block_walk.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/snapshot.h"

namespace espq {

namespace {

void check(const TrainThresholdsOptions& options) {
  require_at_least(static_cast<double>(options.block_size), 1, "train_thresholds.block_size");
  require_at_least(static_cast<double>(options.steps), 0, "train_thresholds.steps");
  require_at_least(static_cast<double>(options.batch), 1, "train_thresholds.batch");
  require_at_least(options.rate, 0, "train_thresholds.rate");
  require_at_least(options.exponent_rate, 0, "train_thresholds.exponent_rate");
  require_at_least(static_cast<double>(options.fine_tune_steps), 0, "train_thresholds.fine_tune_steps");
  require_at_least(options.fine_tune_rate, 0, "train_thresholds.fine_tune_rate");
  require_share(options.warm_up, "train_thresholds.warm_up");
  require_share(options.gradual, "train_thresholds.gradual");
  user_check(options.steps + options.fine_tune_steps > 0,
             "train_thresholds: no steps are asked for; null switches the pass off");
}

/// The tensor that a slot rounds is a constant.
bool is_constant(const SlotPlace& place) {
  const Variable* operand = place.is_output ? nullptr : place.operation.input(place.slot);
  return operand && operand->is_parameter();
}

/// What one block, or the whole network, may change.
struct Learning {
  std::vector<Learner> parameters, all;  ///< without exponents, and with them
  std::unordered_set<ScaleId> exponents;
};

class ThresholdTrainer {
 public:
  ThresholdTrainer(TrainableGraph& network, const TrainThresholdsOptions& options, size_t threads, PassReport& report)
      : network_(network), options_(options), threads_(threads), report_(report) {}

  void train_blocks(BlockWalk& walk) {
    walk.run(options_.blocks, options_.block_size, [&](const Block& block, const BlockSamples& samples, size_t number) {
      train(block, samples, options_.steps, 1, options_.gradual, number);
      if (options_.blocks == BlockCuts::Narrow) remember(block);
    });
  }

  void fine_tune(BlockWalk& walk) {
    trained_.clear();
    settled_.clear();
    walk.run_whole([&](const Block& block, const BlockSamples& samples, size_t) {
      train(block, samples, options_.fine_tune_steps, options_.fine_tune_rate, 0, 999);
    });
  }

 private:
  // ---------------------------------------------------------------------------------------------- what learns
  /// Later blocks leave alone what this one computes with.
  void remember(const Block& block) {
    for (const Operation* operation : block.operations) {
      for (const Variable* input : operation->inputs())
        if (input && input->is_parameter()) trained_.insert(input);
      for (const auto* slots : {&operation->input_quant(), &operation->output_quant()})
        for (const SlotQuant& slot : *slots)
          if (slot.scale != kNoScale) settled_.insert(network_.view().scales().root(slot.scale));
    }
  }

  at::Tensor rate_of(const Operation& operation, size_t slot, double rate) const {
    const bool absolute = options_.rate_unit == RateUnit::Absolute;
    return (absolute ? at::ones({}) : grid_step(network_.view(), operation, slot)) * (rate * options_.rate);
  }

  Learning learning_of(const Block& block, double rate) {
    Learning result;
    std::unordered_set<const Variable*> seen;
    std::unordered_set<ScaleId> groups;
    std::vector<Learner> exponents;
    for (const Operation* operation : block.operations) {
      for (size_t slot = 0; slot < operation->inputs().size(); ++slot) {
        const Variable* input = operation->input(slot);
        if (!input || !input->is_parameter() || !input->value().requires_grad() || trained_.count(input)) continue;
        if (seen.insert(input).second) result.parameters.emplace_back(input->value(), rate_of(*operation, slot, rate));
      }
      for (const auto* slots : {&operation->input_quant(), &operation->output_quant()})
        for (const SlotQuant& slot : *slots) {
          const at::Tensor leaf = network_.exponent_of(slot);
          if (!leaf.defined()) continue;
          const ScaleId root = network_.view().scales().root(slot.scale);
          if (settled_.count(root) || !groups.insert(root).second) continue;
          exponents.emplace_back(leaf, at::full({}, rate * options_.exponent_rate));
        }
    }
    result.all = result.parameters;
    if (options_.exponent_rate == 0) return result;
    result.all.insert(result.all.end(), exponents.begin(), exponents.end());
    result.exponents = std::move(groups);
    return result;
  }

  // ---------------------------------------------------------------------------------------------- one block
  Piece part(const Block& block, RoundingChoice rounding = nullptr) {
    return network_.part(block.operations, block.inputs, block.outputs, std::move(rounding));
  }

  void train(const Block& block, const BlockSamples& samples, int64_t steps, double rate, double gradual,
             uint64_t number) {
    Learning learning = learning_of(block, rate);
    if (learning.all.empty()) return;
    const bool held_out = options_.judge == Judge::HeldOut;
    BlockTrainer trainer(samples,
                         {.steps = steps,
                          .batch = options_.batch,
                          .warm_up = options_.warm_up,
                          .schedule = options_.schedule,
                          .order = options_.order,
                          .relative = options_.rate_unit == RateUnit::Grid,
                          .seed = options_.seed * 1000 + number,
                          .threads = threads_},
                         BlockWalk::elements(block));
    const auto hard = [&] { return part(block, [](const SlotPlace&, const GridRounding&) { return nullptr; }); };
    network_.refresh();
    const NamedTensors before = network_.state();
    const double error = trainer.error(hard, held_out);
    run_steps(block, trainer, learning, steps, gradual);
    network_.refresh();
    const double trained = trainer.error(hard, held_out);
    const std::string& where = block.operations.front()->name();
    spdlog::debug("training from '{}' on: error {:.6g} before, {:.6g} after", where, error, trained);
    if (trained < error) return report_.count("block trained", where);
    network_.load_state(before);
    network_.refresh();
    report_.note("block left as it was, training did not help");
  }

  /// Two stretches: exponents learn while activations come to be rounded, then weights alone.
  void run_steps(const Block& block, BlockTrainer& trainer, Learning& learning, int64_t steps, double gradual) {
    const auto middle = gradual > 0 ? static_cast<int64_t>(std::lround(gradual * static_cast<double>(steps))) : steps;
    const auto refresh = [&](int64_t) { network_.refresh(); };
    BlockTrainer::Steps first{.begin = 0, .end = middle, .piece = {}, .before = refresh};
    first.piece = [&](const std::shared_ptr<const RoundedShare>& share) {
      return part(block, choice(learning, gradual > 0 ? share : nullptr));
    };
    if (gradual > 0)
      first.share = [middle](int64_t step) { return static_cast<double>(step + 1) / static_cast<double>(middle); };
    trainer.train(learning.all, first);
    if (middle == steps) return;
    network_.refresh();
    std::vector<Learner> rest(learning.all.begin(),
                              learning.all.begin() + static_cast<std::ptrdiff_t>(learning.parameters.size()));
    BlockTrainer::Steps second{.begin = middle, .end = steps, .piece = {}, .before = refresh};
    second.piece = [&](const std::shared_ptr<const RoundedShare>&) {
      return part(block, [](const SlotPlace&, const GridRounding&) { return nullptr; });
    };
    trainer.train(rest, second);
  }

  /// How slots round: exponents of the block learn, activations are rounded to a share where there is one.
  RoundingChoice choice(const Learning& learning, const std::shared_ptr<const RoundedShare>& share) {
    return [this, &learning, share, slot = uint64_t{0}](
               const SlotPlace& place, const GridRounding& plain) mutable -> std::shared_ptr<const SlotRounding> {
      const bool learns = learning.exponents.count(network_.view().scales().root(place.quant().scale)) != 0;
      const at::Tensor leaf = learns ? network_.exponent_of(place.quant()) : at::Tensor();
      if (share && !is_constant(place)) return std::make_shared<GradualRounding>(plain, leaf, share, ++slot);
      return learns ? std::make_shared<TrainedThreshold>(plain, leaf) : nullptr;
    };
  }

  TrainableGraph& network_;
  const TrainThresholdsOptions& options_;
  size_t threads_;
  PassReport& report_;
  std::unordered_set<const Variable*> trained_;  ///< constants of blocks that are done
  std::unordered_set<ScaleId> settled_;          ///< scale groups that they round to
};

}  // namespace

PassReport train_thresholds(Graph& quantized, const Graph& teacher, const Dataset& data,
                            const TrainThresholdsOptions& options, const Quirks& quirks) {
  check(options);
  PassReport report{"train_thresholds"};
  const auto operations = quantized.operations();
  if (std::none_of(operations.begin(), operations.end(),
                   [](const Operation* one) { return definition_of(*one).has_weights(); }))
    return report;
  const OneThreadEach single;  // samples run side by side instead
  DividedData parts = hold_out(data);
  Reference reference(teacher, parts.held_out);
  warn_of_single_sample(parts, report);
  if (options.judge == Judge::Training) parts = {data, Dataset()};
  TrainableGraph network(quantized,
                         {.learn_activation_exponents = true, .learn_weight_exponents = true, .quirks = quirks});
  BlockWalk walk(network, teacher, parts, single.threads());
  ThresholdTrainer trainer(network, options, single.threads(), report);
  if (options.steps > 0) trainer.train_blocks(walk);
  if (options.fine_tune_steps > 0) trainer.fine_tune(walk);
  const Graph trained = network.graph();
  if (options.judge == Judge::HeldOut) {
    keep_if_better(quantized, trained, reference, report);
  } else if (report.changed()) {
    Snapshot(trained).restore(quantized);
  }
  return report;
}

}  // namespace espq
