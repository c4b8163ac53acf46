#include "passes/optimize/train_thresholds.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <limits>
#include <optional>

#include "core/exec/side_by_side.h"
#include "core/ops/operator.h"
#include "core/quant/fake_quantize.h"
#include "passes/optimize/block_trainer.h"
#include "passes/optimize/block_walk.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/rounding_learner.h"
#include "passes/optimize/snapshot.h"

namespace espq {

namespace {

constexpr uint64_t kWholeNetwork = 999;  ///< in the place of a block's number
constexpr int64_t kLooks = 3;            ///< at the error, per stretch of a training
constexpr int64_t kProbeSteps = 10;      ///< for a learning rate to show what it is good for
constexpr double kBearable = 1.25;       ///< growth of the error on the way to a better place
constexpr double kLeastRate = 1e-3;      ///< share of the rate that is tried

void check(const TrainThresholdsOptions& options) {
  require_at_least(static_cast<double>(options.block_size), 1, "train_thresholds.block_size");
  require_at_least(static_cast<double>(options.steps), 0, "train_thresholds.steps");
  require_at_least(static_cast<double>(options.batch), 1, "train_thresholds.batch");
  require_at_least(options.rate, 0, "train_thresholds.rate");
  require_at_least(options.exponent_rate, 0, "train_thresholds.exponent_rate");
  require_at_least(static_cast<double>(options.fine_tune_steps), 0, "train_thresholds.fine_tune_steps");
  require_at_least(options.fine_tune_rate, 0, "train_thresholds.fine_tune_rate");
  require_share(options.warm_up, "train_thresholds.warm_up");
  require_share(options.exponents, "train_thresholds.exponents");
  require_share(options.gradual, "train_thresholds.gradual");
  user_check(options.gradual <= options.exponents,
             "train_thresholds.gradual: {} is more than `exponents`, {}: exponents learn while activations come to be "
             "rounded",
             options.gradual, options.exponents);
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

/// How far a training got.
struct Best {
  JudgedNoise before, error;  ///< what any better state has to fall below, and that of the best one
  NamedTensors state = {};

  bool found() const { return !state.empty(); }
};

std::shared_ptr<const SlotRounding> straight_through(const SlotPlace&, const GridRounding&) { return nullptr; }

class ThresholdTrainer {
 public:
  ThresholdTrainer(TrainableGraph& network, const TrainThresholdsOptions& options, size_t threads, PassReport& report)
      : network_(network), options_(options), threads_(threads), report_(report) {}

  /// `rounding`: of every block, once it is trained.
  void train_blocks(BlockWalk& walk, const std::optional<LearnRoundingOptions>& rounding) {
    std::optional<RoundingLearner> rounds;
    if (rounding) rounds.emplace(network_, *rounding, threads_, report_);
    walk.run(options_.blocks, options_.block_size, [&](const Block& block, const BlockSamples& samples, size_t number) {
      train(block, samples, options_.steps, 1, options_.gradual, number);
      if (rounds) rounds->train(block, samples, number);
      if (options_.blocks == BlockCuts::Narrow) remember(block);
    });
  }

  void fine_tune(BlockWalk& walk) {
    round_weights();
    walk.run_whole([&](const Block& block, const BlockSamples& samples, size_t) {
      const double rate = best_rate(block, samples);
      train(block, samples, options_.fine_tune_steps, rate, 0, kWholeNetwork);
    });
  }

 private:
  /// Weights that learned gather in the middle between two steps of their grid, where next to nothing turns them over.
  /// In the middle of a step they are as good and hold still.
  void round_weights() {
    network_.refresh();
    const c10::NoGradGuard no_gradients;
    const Graph& graph = network_.view();
    for (const Operation* operation : graph.operations())
      for (size_t slot = 0; slot < operation->inputs().size() && operation->quantized(); ++slot) {
        const Variable* input = operation->input(slot);
        const SlotQuant& quant = operation->input_quant()[slot];
        if (!input || !input->is_parameter() || !input->value().requires_grad() || !quant.quantizes()) continue;
        const at::Tensor leaf = input->value();
        leaf.copy_(fake_quantize(leaf.detach(), slot_exponents(graph, quant), quant.channel_axis, quant.bits,
                                 graph.target()->rounding));
      }
  }

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
  TrainingLoop loop(int64_t steps, uint64_t number) const {
    return {.steps = steps,
            .batch = options_.batch,
            .warm_up = options_.warm_up,
            .schedule = options_.schedule,
            .order = options_.order,
            .relative = options_.rate_unit == RateUnit::Grid,
            .seed = options_.seed * 1000 + number,
            .threads = threads_};
  }

  /// As the chip rounds.
  JudgedNoise error_of(const Block& block, const BlockTrainer& trainer) {
    network_.refresh();
    return trainer.error([&] { return part(block, straight_through); });
  }

  /// The largest of some rates that does not throw the network back in a few steps: millions of weights take a smaller
  /// one than those of a block.
  double best_rate(const Block& block, const BlockSamples& samples) {
    network_.refresh();
    const NamedTensors before = network_.state();
    TrainingLoop few = loop(kProbeSteps, kWholeNetwork);
    few.warm_up = 0;
    BlockTrainer trainer(samples, few, BlockWalk::elements(block));
    const double error = error_of(block, trainer).mean();
    double rate = options_.fine_tune_rate;
    for (; rate > kLeastRate * options_.fine_tune_rate; rate /= 4) {
      Learning learning = learning_of(block, rate);
      constexpr double kAny = std::numeric_limits<double>::infinity();
      Best reached{{kAny, kAny}, {kAny, kAny}};
      run_steps(block, trainer, learning, kProbeSteps, 0, reached);
      spdlog::debug("fine-tuning with {} times the rate: error {:.6g}, {:.6g} before", rate, reached.error.mean(),
                    error);
      network_.load_state(before);
      if (reached.error.mean() < kBearable * error) break;
    }
    return rate;
  }

  Piece part(const Block& block, RoundingChoice rounding = nullptr) {
    return network_.part(block.operations, block.inputs, block.outputs, std::move(rounding));
  }

  void train(const Block& block, const BlockSamples& samples, int64_t steps, double rate, double gradual,
             uint64_t number) {
    Learning learning = learning_of(block, rate);
    if (learning.all.empty()) return;
    BlockTrainer trainer(samples, loop(steps, number), BlockWalk::elements(block));
    network_.refresh();
    const NamedTensors before = network_.state();
    const JudgedNoise error = error_of(block, trainer);
    Best best{error, error};
    run_steps(block, trainer, learning, steps, gradual, best);
    const std::string& where = block.operations.front()->name();
    spdlog::debug("training from '{}' on: error {:.6g} before, {:.6g} at best", where, error.mean(), best.error.mean());
    network_.load_state(best.found() ? best.state : before);
    settle_exponents(learning);
    network_.refresh();
    if (best.found()) return report_.count("block trained", where);
    report_.note("block left as it was, training did not help");
  }

  /// Two stretches: exponents learn, too, while activations come to be rounded; then weights alone. On the way the
  /// error is measured now and then, and the best state kept.
  void run_steps(const Block& block, BlockTrainer& trainer, Learning& learning, int64_t steps, double gradual,
                 Best& best) {
    try {
      run_both_stretches(block, trainer, learning, steps, gradual, best);
    } catch (const UserError& diverged) {  // a parameter is no number any more: what was reached before counts
      report_.note(fmt::format("training given up ({})", diverged.what()));
    }
  }

  void run_both_stretches(const Block& block, BlockTrainer& trainer, Learning& learning, int64_t steps, double gradual,
                          Best& best) {
    const auto count = static_cast<double>(steps);
    const auto middle = static_cast<int64_t>(std::lround(options_.exponents * count));
    BlockTrainer::Steps stretch{.piece = {}, .before = [&](int64_t) { network_.refresh(); }};
    stretch.piece = [&](const std::shared_ptr<const RoundedShare>& share) {
      return part(block, choice(learning, gradual > 0 ? share : nullptr));
    };
    if (gradual > 0)
      stretch.share = [until = gradual * count](int64_t step) {
        return std::min(1.0, static_cast<double>(step + 1) / until);
      };
    run_stretch(block, trainer, learning.all, stretch, {0, middle}, best);
    settle_exponents(learning);
    std::vector<Learner> rest(learning.all.begin(),
                              learning.all.begin() + static_cast<std::ptrdiff_t>(learning.parameters.size()));
    stretch.share = nullptr;
    stretch.piece = [&](const std::shared_ptr<const RoundedShare>&) { return part(block, straight_through); };
    run_stretch(block, trainer, rest, stretch, {middle, steps}, best);
  }

  void run_stretch(const Block& block, BlockTrainer& trainer, std::vector<Learner>& learners,
                   BlockTrainer::Steps stretch, std::pair<int64_t, int64_t> range, Best& best) {
    const int64_t length = range.second - range.first, looks = options_.judge == Judge::HeldOut ? kLooks : 1;
    for (int64_t look = 0; look < looks && length > 0; ++look) {
      stretch.begin = range.first + length * look / looks;
      stretch.end = range.first + length * (look + 1) / looks;
      if (stretch.begin == stretch.end) continue;
      trainer.train(learners, stretch);
      const JudgedNoise error = error_of(block, trainer);
      if (error.falls_below(best.before) && error.mean() < best.error.mean())
        best = {best.before, error, network_.state()};
    }
  }

  /// An exponent that learned stands anywhere between two integers, often where the next step would turn it over: from
  /// here on it is the one that it rounds to.
  void settle_exponents(const Learning& learning) {
    network_.refresh();
    const c10::NoGradGuard no_gradients;
    for (size_t i = learning.parameters.size(); i < learning.all.size(); ++i)
      learning.all[i].leaf().copy_(learning.all[i].leaf().round());
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
                            const TrainThresholdsOptions& options, const Quirks& quirks,
                            const std::optional<LearnRoundingOptions>& rounding) {
  check(options);
  PassReport report{"train_thresholds"};
  if (!has_layers(quantized)) return report;
  const OneThreadEach single;  // samples run side by side instead
  DividedData parts = hold_out(data);
  Judges judges(teacher, parts);
  warn_of_single_sample(parts, report);
  if (options.judge == Judge::Training) parts = {data, Dataset()};
  TrainableGraph network(quantized,
                         {.learn_activation_exponents = true, .learn_weight_exponents = true, .quirks = quirks});
  BlockWalk walk(network, teacher, parts, single.threads());
  const auto run = [&](const auto& train) {
    PassReport changes{"train_thresholds"};
    const NamedTensors before = network.state();
    ThresholdTrainer trainer(network, options, single.threads(), changes);
    train(trainer);
    if (options.judge == Judge::Training) {
      if (changes.changed()) Snapshot(network.graph()).restore(quantized);
    } else if (!keep_if_better(quantized, network.graph(), judges, single.threads(), changes)) {
      network.load_state(before);
    }
    report.merge(changes);
  };
  if (options.steps > 0) run([&](ThresholdTrainer& trainer) { trainer.train_blocks(walk, rounding); });
  if (options.fine_tune_steps > 0) run([&](ThresholdTrainer& trainer) { trainer.fine_tune(walk); });
  return report;
}

}  // namespace espq
