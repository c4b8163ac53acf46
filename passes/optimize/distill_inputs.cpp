#include "passes/optimize/distill_inputs.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <spdlog/spdlog.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/support/error.h"
#include "core/support/progress.h"
#include "passes/optimize/block_trainer.h"
#include "passes/optimize/learner.h"
#include "passes/optimize/option_checks.h"
#include "passes/simplify/fold_batch_normalization.h"

namespace espq {
namespace {

/// Mean and mean square of every channel of one operand, [2, channels].
at::Tensor moments_of(const at::Tensor& value) {
  const at::Tensor rows = value.movedim(1, 0).reshape({value.size(1), -1});
  return at::stack({rows.mean(1), rows.square().mean(1)});
}

/// What a BatchNormalization holds of the values that it normalizes.
struct Statistics {
  const Variable* operand;
  at::Tensor mean, deviation;  ///< float32 [channels]

  at::Tensor distance(const at::Tensor& moments) const {
    const at::Tensor variance = (moments[1] - moments[0].square()).clamp_min(0);
    // The square root has no slope at 0.
    const at::Tensor found = (variance + 1e-6 * deviation.square()).sqrt();
    return (((moments[0] - mean) / deviation).square() + (found / deviation - 1).square()).mean();
  }
};

std::vector<Statistics> statistics_of(const Graph& network) {
  std::vector<Statistics> result;
  for (const Operation* operation : network.topological_order()) {
    const auto found = normalization_of(network, *operation);
    if (!found || operation->input(0)->is_parameter()) continue;
    const Normalization numbers = found->to(at::kFloat);
    result.push_back({operation->input(0), numbers.mean, (numbers.variance + numbers.epsilon).sqrt()});
  }
  user_check(!result.empty(),
             "the network has no BatchNormalization, whose statistics would say what its inputs are like: it was "
             "exported with them folded into its weights; give calibration data, or draw inputs");
  return result;
}

class Distillation {
 public:
  Distillation(const Graph& network, const Dataset& drawn, const DistillInputsOptions& options)
      : network_(network), options_(options), statistics_(statistics_of(network)) {
    user_check(drawn.size() > 0, "there are no inputs to begin with");
    for (const Statistics& one : statistics_) operands_.push_back(one.operand);
    for (size_t i = 0; i < drawn.size(); ++i) {
      inputs_.push_back({});
      for (const at::Tensor& tensor : drawn.inputs(network, i)) inputs_.back().push_back(tensor.clone());
    }
    for (size_t thread = 0; thread < side_by_side_.threads(); ++thread) {
      executors_.emplace_back(network, Precision::Float);
      executors_.back().set_training(true);
    }
    moments_.resize(inputs_.size());
  }

  /// With all inputs where they are now.
  double distance() {
    run([&](size_t sample, Executor& executor) {
      const c10::NoGradGuard no_gradients;  // other threads have a mode of their own
      moments_[sample] = moments(sample, executor);
    });
    const c10::NoGradGuard no_gradients;
    return distance(total_moments()).item<double>();
  }

  /// Behind distance(), which sees where the inputs begin.
  void learn() {
    std::vector<std::vector<Learner>> learners(inputs_.size());
    for (size_t sample = 0; sample < inputs_.size(); ++sample)
      for (at::Tensor& input : inputs_[sample]) {
        const double spread = options_.range ? options_.range->second - options_.range->first : 1;
        input.requires_grad_(true);
        learners[sample].emplace_back(input, at::full({}, options_.rate * spread));
      }
    const TrainingLoop schedule{.steps = options_.steps, .warm_up = 0};
    for (int64_t step = 0; step < options_.steps; ++step) {
      const double factor = schedule.rate(step);
      const std::vector<at::Tensor> slopes = slopes_of_moments();
      run([&](size_t sample, Executor& executor) { move(sample, executor, slopes, learners[sample], factor); });
      report_progress("distilling inputs", static_cast<size_t>(step) + 1, static_cast<size_t>(options_.steps));
    }
  }

  Dataset data() const {
    std::vector<Dataset::Batch> batches;
    for (const Tensors& sample : inputs_) {
      batches.emplace_back();
      for (size_t i = 0; i < sample.size(); ++i) batches.back()[network_.inputs()[i]->name()] = sample[i].detach();
    }
    return Dataset(std::move(batches));
  }

 private:
  void run(const std::function<void(size_t sample, Executor& executor)>& work) {
    share_out(inputs_.size(), executors_.size(),
              [&](size_t sample, size_t thread) { work(sample, executors_[thread]); });
  }

  std::vector<at::Tensor> moments(size_t sample, Executor& executor) const {
    const Tensors values = executor.run(inputs_[sample], operands_);
    std::vector<at::Tensor> result;
    result.reserve(values.size());
    for (const at::Tensor& value : values) result.push_back(moments_of(value));
    return result;
  }

  std::vector<at::Tensor> total_moments() const {
    std::vector<at::Tensor> sums;
    for (size_t i = 0; i < statistics_.size(); ++i) {
      at::Tensor sum = moments_[0][i];
      for (size_t sample = 1; sample < moments_.size(); ++sample) sum = sum + moments_[sample][i];
      sums.push_back(sum / static_cast<double>(moments_.size()));
    }
    return sums;
  }

  at::Tensor distance(const std::vector<at::Tensor>& moments) const {
    at::Tensor sum = statistics_[0].distance(moments[0]);
    for (size_t i = 1; i < statistics_.size(); ++i) sum = sum + statistics_[i].distance(moments[i]);
    return sum / static_cast<double>(statistics_.size());
  }

  /// Of the distance, with all inputs where they are now.
  std::vector<at::Tensor> slopes_of_moments() const {
    const c10::AutoGradMode with_gradients(true);
    std::vector<at::Tensor> totals = total_moments();
    for (at::Tensor& total : totals) total.requires_grad_(true);
    return torch::autograd::grad({distance(totals)}, totals);
  }

  void move(size_t sample, Executor& executor, const std::vector<at::Tensor>& slopes, std::vector<Learner>& learners,
            double factor) {
    const c10::AutoGradMode with_gradients(true);
    const std::vector<at::Tensor> own = moments(sample, executor);
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad(own, inputs_[sample], slopes, std::nullopt, false, /*allow_unused=*/true);
    const c10::NoGradGuard no_gradients;
    for (size_t i = 0; i < learners.size(); ++i) {
      if (!gradients[i].defined()) continue;
      learners[i].step(gradients[i], factor);
      if (options_.range) inputs_[sample][i].clamp_(options_.range->first, options_.range->second);
    }
    for (size_t i = 0; i < own.size(); ++i) moments_[sample][i] = own[i].detach();
  }

  const Graph& network_;
  const DistillInputsOptions options_;
  const OneThreadEach side_by_side_;
  std::vector<Statistics> statistics_;
  std::vector<const Variable*> operands_;
  std::vector<Executor> executors_;               ///< one per thread
  std::vector<Tensors> inputs_;                   ///< per sample, in the order of the graph's
  std::vector<std::vector<at::Tensor>> moments_;  ///< per sample and BatchNormalization, when it was run last
};

}  // namespace

Dataset distill_inputs(const Graph& network, const Dataset& drawn, const DistillInputsOptions& options) {
  require_at_least(static_cast<double>(options.steps), 1, "distill_inputs.steps");
  require_at_least(options.rate, 0, "distill_inputs.rate");
  Distillation distillation(network, drawn, options);
  const double before = distillation.distance();
  distillation.learn();
  spdlog::info("distilled inputs: distance to the statistics of the network's BatchNormalizations {:.3f}, {:.3f} drawn",
               distillation.distance(), before);
  return distillation.data();
}

double distance_to_statistics(const Graph& network, const Dataset& data) {
  return Distillation(network, data, {}).distance();
}

}  // namespace espq
