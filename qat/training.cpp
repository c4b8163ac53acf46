#include "qat/training.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <atomic>

#include "core/support/error.h"

namespace espq {

// ------------------------------------------------------------------------------------------------ data order
BatchOrder::BatchOrder(int64_t rows, int64_t batch_size, uint64_t seed)
    : rows_(rows), batch_size_(batch_size), seed_(seed) {
  user_check(batch_size > 0 && rows >= batch_size, "{} rows do not fill one batch of {}", rows, batch_size);
}

at::Tensor BatchOrder::batch(int64_t step) {
  const int64_t epoch = step / batches_per_epoch(), batch = step % batches_per_epoch();
  if (epoch != epoch_) {
    // Neighbouring seeds are fine for the generator (a Mersenne twister seeds by mixing).
    at::Generator generator = at::detail::createCPUGenerator(seed_ * 1000003 + static_cast<uint64_t>(epoch));
    order_ = at::randperm(rows_, generator, at::TensorOptions().dtype(at::kLong));
    epoch_ = epoch;
  }
  return order_.slice(0, batch * batch_size_, (batch + 1) * batch_size_);
}

// ------------------------------------------------------------------------------------------------ freezing
void FreezeSchedule::add(int64_t step, std::function<bool(const std::string& name)> predicate) {
  entries_.emplace_back(step, std::move(predicate));
}

void FreezeSchedule::apply(TrainableGraph& graph, int64_t step) const {
  if (normalizations_) graph.freeze_batch_normalizations(step >= *normalizations_);
  for (const auto& [from, predicate] : entries_) {
    if (step < from) continue;
    for (const auto& [name, parameter] : graph.named_parameters()) {
      if (!predicate(name)) continue;
      parameter.requires_grad_(false);
      parameter.mutable_grad().reset();
    }
  }
}

bool is_exponent_name(const std::string& name) {
  const size_t dot = name.rfind(".exponent");
  return dot != std::string::npos && name.find_first_not_of(".0123456789", dot + 9) == std::string::npos;
}

// ------------------------------------------------------------------------------------------------ average
MovingAverage::MovingAverage(TrainableGraph& graph, double decay)
    : parameters_(graph.named_parameters()), decay_(decay) {
  user_check(decay >= 0 && decay < 1, "the decay of a moving average lies between 0 and 1, not {}", decay);
  for (auto& buffer : graph.named_buffers()) parameters_.push_back(std::move(buffer));
  for (const auto& [name, parameter] : parameters_) averages_.push_back(parameter.detach().clone());
}

void MovingAverage::update() {
  c10::AutoGradMode no_gradients(false);
  const double step = static_cast<double>(++updates_), decay = std::min(decay_, (1 + step) / (10 + step));
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].lerp_(parameters_[i].second, 1 - decay);
}

void MovingAverage::exchange() {
  c10::AutoGradMode no_gradients(false);
  for (size_t i = 0; i < averages_.size(); ++i) {
    const at::Tensor value = parameters_[i].second.clone();
    parameters_[i].second.copy_(averages_[i]);
    averages_[i].copy_(value);
  }
}

NamedTensors MovingAverage::state() const {
  NamedTensors result{{"updates", at::tensor({updates_}, at::kLong)}};
  for (size_t i = 0; i < averages_.size(); ++i)
    result.emplace("/" + parameters_[i].first, averages_[i].to(at::kCPU, false, true));
  return result;
}

void MovingAverage::load_state(const NamedTensors& state) {
  user_check(state.size() == averages_.size() + 1 && state.count("updates"),
             "the saved moving average belongs to another network");
  for (size_t i = 0; i < averages_.size(); ++i) {
    const auto found = state.find("/" + parameters_[i].first);
    user_check(found != state.end() && found->second.sizes() == averages_[i].sizes(),
               "the saved moving average does not fit parameter '{}'", parameters_[i].first);
  }
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].copy_(state.at("/" + parameters_[i].first));
  updates_ = state.at("updates").item<int64_t>();
}

// ------------------------------------------------------------------------------------------------ signals
namespace {

std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

void remember(int signal) {
  if (stop_signal.exchange(signal) == 0) return;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

StopSignal::StopSignal() {
  stop_signal = 0;
  interrupt_ = std::signal(SIGINT, remember);
  terminate_ = std::signal(SIGTERM, remember);
}

StopSignal::~StopSignal() {
  std::signal(SIGINT, interrupt_);
  std::signal(SIGTERM, terminate_);
}

int StopSignal::received() { return stop_signal; }

}  // namespace espq
