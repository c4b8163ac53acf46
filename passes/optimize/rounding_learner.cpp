#include "passes/optimize/rounding_learner.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <spdlog/spdlog.h>

#include <cmath>

#include "core/ops/operator.h"
#include "passes/optimize/block_walk.h"
#include "passes/optimize/option_checks.h"

namespace espq {
namespace {

/// Exponent of the regularizer: at first only what is nearly decided is pushed, at last everything.
constexpr double kFirstPower = 20, kLastPower = 2;

void check(const LearnRoundingOptions& options) {
  require_at_least(static_cast<double>(options.block_size), 1, "learn_rounding.block_size");
  require_at_least(static_cast<double>(options.steps), 1, "learn_rounding.steps");
  require_at_least(static_cast<double>(options.batch), 1, "learn_rounding.batch");
  require_at_least(options.rate, 0, "learn_rounding.rate");
  require_at_least(options.bias_rate, 0, "learn_rounding.bias_rate");
  require_at_least(options.regularization, 0, "learn_rounding.regularization");
  require_share(options.warm_up, "learn_rounding.warm_up");
  require_share(options.gradual, "learn_rounding.gradual");
}

}  // namespace

RoundingLearner::RoundingLearner(TrainableGraph& network, const LearnRoundingOptions& options, size_t threads,
                                 PassReport& report)
    : network_(network), options_(options), threads_(threads), report_(report) {
  check(options);
}

void RoundingLearner::train(const Block& block, const BlockSamples& samples, size_t number) {
  weights_.clear();
  std::vector<Learner> learners = learners_of(block);
  if (weights_.empty()) return;
  BlockTrainer trainer(samples,
                       {.steps = options_.steps,
                        .batch = options_.batch,
                        .warm_up = 0,
                        .schedule = RateSchedule::Constant,
                        .seed = options_.seed * 1000 + number,
                        .threads = threads_},
                       BlockWalk::elements(block));
  const auto hard = [&] { return part(block, nullptr); };
  const NamedTensors before = network_.state();
  const JudgedNoise error = trainer.error(hard);
  trainer.train(learners, steps_of(block, error.held_out));
  const c10::NoGradGuard no_gradients;
  for (const SoftWeight& soft : weights_) soft.leaf.copy_(soft.rounding->hard());
  network_.refresh();
  const JudgedNoise learned = trainer.error(hard);
  const std::string& where = block.operations.front()->name();
  spdlog::debug("rounding from '{}' on: error {:.6g} before, {:.6g} after", where, error.mean(), learned.mean());
  if (learned.falls_below(error)) return report_.count("rounding of a block learned", where);
  network_.load_state(before);
  network_.refresh();
  report_.note("block left as it was, other rounding did not help");
}

std::vector<Learner> RoundingLearner::learners_of(const Block& block) {
  std::vector<Learner> learners;
  for (const Operation* operation : block.operations) {
    for (size_t slot = 0; slot < operation->inputs().size() && operation->quantized(); ++slot) {
      const Variable* input = operation->input(slot);
      const bool learns = input && input->is_parameter() && input->value().requires_grad();
      if (!learns || !seen_.insert(input).second) continue;
      const OperandRole role = definition_of(*operation).input_spec(slot).role;
      if (role == OperandRole::Weight && operation->input_quant()[slot].quantizes()) {
        const auto soft = std::make_shared<SoftRounding>(input->value(), grid_of(*operation, slot));
        weights_.push_back({input, input->value(), soft});
        learners.emplace_back(soft->variable(), at::full({}, options_.rate));
      } else if (role == OperandRole::Bias && options_.bias_rate > 0) {
        learners.emplace_back(input->value(), grid_step(network_.view(), *operation, slot) * options_.bias_rate);
      }
    }
  }
  return learners;
}

GridRounding RoundingLearner::grid_of(const Operation& operation, size_t slot) const {
  const SlotQuant& quant = operation.input_quant()[slot];
  return {slot_grid(network_.view(), quant), quant.channel_axis, network_.view().target()->rounding};
}

BlockTrainer::Steps RoundingLearner::steps_of(const Block& block, double error) {
  const auto count = static_cast<double>(options_.steps);
  BlockTrainer::Steps steps{.begin = 0, .end = options_.steps, .piece = {}};
  steps.piece = [this, &block](const std::shared_ptr<const RoundedShare>& share) { return part(block, share); };
  steps.share = [until = options_.gradual * count](int64_t step) {
    return until > 0 ? std::min(1.0, static_cast<double>(step + 1) / until) : 1.0;
  };
  steps.penalty = [this, error, count](int64_t step) -> at::Tensor {
    const double done = static_cast<double>(step) / count;
    if (done < options_.warm_up) return {};
    const double way = (done - options_.warm_up) / std::max(1e-9, 1 - options_.warm_up);
    return undecided(kFirstPower + (kLastPower - kFirstPower) * way) * (options_.regularization * error);
  };
  return steps;
}

/// Mean over all weights: 1 in the middle between two steps, 0 at one.
at::Tensor RoundingLearner::undecided(double power) const {
  at::Tensor sum;
  int64_t count = 0;
  for (const SoftWeight& soft : weights_) {
    const at::Tensor share = soft.rounding->share();
    const at::Tensor one = (1 - (share * 2 - 1).abs().pow(power)).sum();
    sum = sum.defined() ? sum + one : one;
    count += share.numel();
  }
  return sum / static_cast<double>(count);
}

/// With `share`, weights round softly and activations to that share; without it as on the chip.
Piece RoundingLearner::part(const Block& block, const std::shared_ptr<const RoundedShare>& share) {
  const auto choose = [this, share, slot = uint64_t{0}](
                          const SlotPlace& place,
                          const GridRounding& plain) mutable -> std::shared_ptr<const SlotRounding> {
    if (!share) return nullptr;
    const Variable* operand = place.is_output ? nullptr : place.operation.input(place.slot);
    if (!operand || !operand->is_parameter())
      return std::make_shared<GradualRounding>(plain, at::Tensor(), share, ++slot);
    for (const SoftWeight& soft : weights_)
      if (soft.variable == operand) return soft.rounding;
    return nullptr;
  };
  return network_.part(block.operations, block.inputs, block.outputs, choose);
}

}  // namespace espq
