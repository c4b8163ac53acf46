#include "passes/optimize/block_trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "core/exec/side_by_side.h"

namespace espq {

namespace {

constexpr int64_t kElements = 1 << 15;  ///< results that are worth a thread

/// The tensors of several samples as those of one.
Tensors joined(const std::vector<Tensors>& samples, const std::vector<size_t>& places) {
  if (places.size() == 1) return samples[places[0]];
  Tensors result;
  for (size_t i = 0; i < samples[places[0]].size(); ++i) {
    std::vector<at::Tensor> rows;
    rows.reserve(places.size());
    for (const size_t place : places) rows.push_back(samples[place][i]);
    result.push_back(rows[0].defined() ? at::cat(rows) : at::Tensor());
  }
  return result;
}

/// Mean of the squares of each output over the samples; 1 where all are 0.
std::vector<double> powers(const std::vector<Tensors>& targets, size_t count) {
  std::vector<double> sums(targets[0].size(), 0.0), elements(targets[0].size(), 0.0);
  for (size_t sample = 0; sample < count; ++sample)
    for (size_t i = 0; i < sums.size(); ++i) {
      if (!targets[sample][i].defined()) continue;
      sums[i] += targets[sample][i].to(at::kDouble).square().sum().item<double>();
      elements[i] += static_cast<double>(targets[sample][i].numel());
    }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = sums[i] > 0 ? sums[i] / elements[i] : 1;
  return sums;
}

size_t floating(const Tensors& targets) {
  return static_cast<size_t>(std::count_if(targets.begin(), targets.end(), [](const auto& t) { return t.defined(); }));
}

}  // namespace

double TrainingLoop::rate(int64_t step) const {
  const double warm = warm_up * static_cast<double>(steps), at = static_cast<double>(step);
  if (at < warm) return (at + 1) / (warm + 1);
  if (schedule == RateSchedule::Constant) return 1;
  return 0.5 * (1 + std::cos(std::numbers::pi * (at - warm) / std::max(1.0, static_cast<double>(steps) - warm)));
}

BlockTrainer::BlockTrainer(const BlockSamples& samples, const TrainingLoop& loop, int64_t elements)
    : samples_(samples), loop_(loop), batch_(std::min(static_cast<size_t>(loop.batch), samples.training)) {
  together_ =
      samples.joinable ? static_cast<size_t>(std::max<int64_t>(kElements / std::max<int64_t>(elements, 1), 1)) : 1;
  weights_ = powers(samples.targets, samples.training);
  for (double& weight : weights_) weight = loop.relative ? 1 / weight : 1;
  order_ =
      std::make_unique<BatchOrder>(static_cast<int64_t>(samples.training), static_cast<int64_t>(batch_), loop.seed);
}

JudgedNoise BlockTrainer::error(const std::function<Piece()>& piece) const {
  const std::vector<Tensors> results = run_samples(piece, samples_.feeds, loop_.threads);
  const double training = error(results, 0, samples_.training);
  if (samples_.training == results.size()) return {training, training};
  return {training, error(results, samples_.training, results.size())};
}

double BlockTrainer::error(const std::vector<Tensors>& results, size_t begin, size_t end) const {
  std::vector<double> sums(weights_.size(), 0.0), elements(weights_.size(), 0.0);
  for (size_t sample = begin; sample < end; ++sample)
    for (size_t i = 0; i < sums.size(); ++i) {
      const at::Tensor& target = samples_.targets[sample][i];
      if (!target.defined()) continue;
      sums[i] += (results[sample][i].to(at::kDouble) - target.to(at::kDouble)).square().sum().item<double>();
      elements[i] += static_cast<double>(target.numel());
    }
  double error = 0;
  for (size_t i = 0; i < sums.size(); ++i)
    if (elements[i] > 0) error += weights_[i] * sums[i] / elements[i];
  return error / static_cast<double>(std::max<size_t>(floating(samples_.targets[0]), 1));
}

BlockTrainer::Places BlockTrainer::batch(int64_t step) {
  Places places(batch_);
  if (loop_.order == SampleOrder::InOrder) {
    for (size_t i = 0; i < batch_; ++i) places[i] = (static_cast<size_t>(step) * batch_ + i) % samples_.training;
    return places;
  }
  const at::Tensor drawn = order_->batch(step);
  for (size_t i = 0; i < batch_; ++i) places[i] = static_cast<size_t>(drawn.const_data_ptr<int64_t>()[i]);
  return places;
}

at::Tensor BlockTrainer::loss(const Tensors& results, const Tensors& targets, int64_t samples) const {
  at::Tensor sum;
  for (size_t i = 0; i < results.size(); ++i) {
    if (!targets[i].defined()) continue;
    const at::Tensor error = at::mse_loss(results[i], targets[i]) *
                             (weights_[i] * static_cast<double>(samples) / static_cast<double>(batch_));
    sum = sum.defined() ? sum + error : error;
  }
  return sum;
}

void BlockTrainer::train(std::vector<Learner>& learners, const Steps& steps) {
  std::vector<at::Tensor> leaves;
  leaves.reserve(learners.size());
  for (const Learner& learner : learners) leaves.push_back(learner.leaf());
  const size_t parts = (batch_ + together_ - 1) / together_;
  std::vector<std::shared_ptr<RoundedShare>> shares;
  std::vector<Piece> pieces;
  for (size_t part = 0; part < parts; ++part) {
    shares.push_back(std::make_shared<RoundedShare>());
    pieces.push_back(steps.piece(shares.back()));
  }
  for (int64_t step = steps.begin; step < steps.end; ++step) {
    if (steps.before) steps.before(step);
    const Places drawn = batch(step);
    std::vector<std::vector<at::Tensor>> gradients(parts);
    share_out(parts, loop_.threads, [&](size_t part) {
      const c10::AutoGradMode with_gradients(true);
      *shares[part] = {steps.share ? steps.share(step) : 1.0,
                       (loop_.seed << 40) + static_cast<uint64_t>(step) * parts + part};
      const Places own(drawn.begin() + static_cast<std::ptrdiff_t>(part * together_),
                       drawn.begin() + static_cast<std::ptrdiff_t>(std::min(batch_, (part + 1) * together_)));
      const Tensors results = pieces[part].run(joined(samples_.feeds, own));
      const at::Tensor error = loss(results, joined(samples_.targets, own), static_cast<int64_t>(own.size()));
      gradients[part] = torch::autograd::grad({error}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
    });
    if (steps.penalty) {
      const c10::AutoGradMode with_gradients(true);
      if (const at::Tensor penalty = steps.penalty(step); penalty.defined())
        gradients.push_back(torch::autograd::grad({penalty}, leaves, {}, std::nullopt, false, true));
    }
    for (size_t i = 0; i < learners.size(); ++i) {
      at::Tensor sum;
      for (const auto& part : gradients)
        if (part[i].defined()) sum = sum.defined() ? sum + part[i] : part[i];
      if (sum.defined()) learners[i].step(sum, loop_.rate(step));
    }
  }
}

}  // namespace espq
