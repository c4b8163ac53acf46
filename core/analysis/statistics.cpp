#include "core/analysis/statistics.h"

#include <ATen/ATen.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/analysis/float_run.h"
#include "core/support/progress.h"

namespace espq {
namespace {

constexpr int64_t kIntervals = 32;
constexpr double kTinySignal = 1e-7;  // as Measure::NoiseToSignal

/// Central moments of a growing set; sets are joined with the formulas of Pebay (2008), which lose no digits when the
/// mean is large.
class Moments {
 public:
  void add(const at::Tensor& values) {
    const auto count = static_cast<double>(values.numel());
    if (count == 0) return;
    const double mean = values.mean().item<double>();
    const at::Tensor centred = values - mean, square = centred.square();
    join(count, mean, square.sum().item<double>(), (square * centred).sum().item<double>(),
         square.square().sum().item<double>());
    lowest_ = std::min(lowest_, values.min().item<double>());
    highest_ = std::max(highest_, values.max().item<double>());
  }

  void add_to_histogram(const at::Tensor& values) {
    if (counts_.empty()) counts_.resize(kIntervals);
    const double range = highest_ - lowest_;
    const double* value = values.const_data_ptr<double>();
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double share = range > 0 ? (value[i] - lowest_) / range : 0.5;
      ++counts_[std::min(static_cast<int64_t>(share * kIntervals), kIntervals - 1)];
    }
  }

  ValueStatistics result() const {
    ValueStatistics result{mean_, 0, 0, 0, lowest_, highest_, counts_};
    if (count_ < 2 || second_ <= 0) return result;
    const double variance = second_ / (count_ - 1);
    result.deviation = std::sqrt(variance);
    result.skewness = third_ / count_ / (variance * result.deviation);
    result.kurtosis = fourth_ / count_ / (variance * variance) - 3;
    return result;
  }

 private:
  double count_ = 0, mean_ = 0, second_ = 0, third_ = 0, fourth_ = 0;
  double lowest_ = INFINITY, highest_ = -INFINITY;
  std::vector<int64_t> counts_;

  void join(double count, double mean, double second, double third, double fourth) {
    const double total = count_ + count, delta = mean - mean_, share = delta / total;
    const double ours = count_, product = ours * count;
    fourth_ += fourth + product * (ours * ours - product + count * count) * delta * share * share * share +
               6 * share * share * (ours * ours * second + count * count * second_) +
               4 * share * (ours * third - count * third_);
    third_ += third + product * (ours - count) * delta * share * share + 3 * share * (ours * second - count * second_);
    second_ += second + product * delta * share;
    mean_ += count * share;
    count_ = total;
  }
};

/// One operand or result with what was seen of it.
struct Slot {
  SlotStatistics names;
  Moments reference, quantized, noise;
  double signal_power = 0, noise_power = 0;
};

using SlotKey = std::tuple<const Operation*, bool, int>;  ///< operation, output, slot

class Collector {
 public:
  explicit Collector(const Graph& graph) {
    for (const Operation* operation : graph.operations()) {
      if (!operation->quantized() || definition_of(*operation).quantization.passive) continue;
      for (const bool output : {false, true}) {
        const auto& list = output ? operation->outputs() : operation->inputs();
        for (size_t slot = 0; slot < list.size(); ++slot) {
          if (!list[slot]) continue;
          index_[{operation, output, static_cast<int>(slot)}] = slots_.size();
          Slot entry;
          entry.names = {operation->name(), operation->type(), list[slot]->name(), list[slot]->is_parameter(), !output};
          slots_.push_back(std::move(entry));
        }
      }
    }
  }

  Hook remember() {
    return [this](SlotEvent& event) {
      if (const size_t* slot = find(event)) kept_[*slot] = event.value;
    };
  }

  /// Called while the quantized graph runs: `use(slot, float values, quantized values)`.
  Hook compare(bool first_batch, std::function<void(Slot&, const at::Tensor&, const at::Tensor&)> use) {
    return [this, first_batch, use = std::move(use)](SlotEvent& event) {
      const size_t* slot = find(event);
      if (!slot || (slots_[*slot].names.parameter && !first_batch)) return;
      const auto flat = [](const at::Tensor& value) { return value.to(at::kDouble).flatten(); };
      use(slots_[*slot], flat(kept_.at(*slot)), flat(event.value));
    };
  }

  std::vector<SlotStatistics> results() const {
    std::vector<SlotStatistics> results;
    for (const Slot& slot : slots_) {
      SlotStatistics result = slot.names;
      result.noise_to_signal = slot.noise_power / (slot.signal_power + kTinySignal);
      result.reference = slot.reference.result();
      result.quantized = slot.quantized.result();
      result.noise = slot.noise.result();
      results.push_back(std::move(result));
    }
    return results;
  }

 private:
  std::map<SlotKey, size_t> index_;
  std::vector<Slot> slots_;
  std::map<size_t, at::Tensor> kept_;

  const size_t* find(const SlotEvent& event) const {
    const auto found = index_.find({&event.operation, event.is_output, event.slot});
    return found == index_.end() || !event.value.defined() ? nullptr : &found->second;
  }
};

void add_moments(Slot& slot, const at::Tensor& reference, const at::Tensor& quantized) {
  const at::Tensor noise = quantized - reference;
  slot.reference.add(reference);
  slot.quantized.add(quantized);
  slot.noise.add(noise);
  slot.signal_power += reference.square().sum().item<double>();
  slot.noise_power += noise.square().sum().item<double>();
}

void add_histograms(Slot& slot, const at::Tensor& reference, const at::Tensor& quantized) {
  slot.reference.add_to_histogram(reference);
  slot.quantized.add_to_histogram(quantized);
  slot.noise.add_to_histogram(quantized - reference);
}

nlohmann::ordered_json to_json(const ValueStatistics& values) {
  return {{"mean", values.mean},         {"deviation", values.deviation}, {"skewness", values.skewness},
          {"kurtosis", values.kurtosis}, {"lowest", values.lowest},       {"highest", values.highest},
          {"counts", values.counts}};
}

}  // namespace

std::vector<SlotStatistics> slot_statistics(const Graph& quantized, const Dataset& data, size_t batches) {
  Collector collector(quantized);
  Executor reference = float_executor(quantized), simulated(quantized, Precision::Simulated);
  reference.set_hook(collector.remember());
  batches = std::min(batches, data.size());
  size_t done = 0;
  for (const auto& use : {add_moments, add_histograms}) {
    for (size_t batch = 0; batch < batches; ++batch) {
      const Tensors inputs = data.inputs(quantized, batch);
      reference.run(inputs);
      simulated.set_hook(collector.compare(batch == 0, use));
      simulated.run(inputs);
      report_progress("statistics", ++done, 2 * batches);
    }
  }
  return collector.results();
}

nlohmann::ordered_json to_json(const std::vector<SlotStatistics>& statistics) {
  auto list = nlohmann::ordered_json::array();
  for (const SlotStatistics& slot : statistics)
    list.push_back({{"operation", slot.operation},
                    {"type", slot.type},
                    {"tensor", slot.tensor},
                    {"is_parameter", slot.parameter},
                    {"is_input", slot.input},
                    {"noise_to_signal", slot.noise_to_signal},
                    {"reference", to_json(slot.reference)},
                    {"quantized", to_json(slot.quantized)},
                    {"noise", to_json(slot.noise)}});
  return list;
}

nlohmann::ordered_json to_json(const std::vector<OperationError>& errors) {
  auto list = nlohmann::ordered_json::array();
  for (const OperationError& error : errors)
    list.push_back(
        {{"operation", error.operation}, {"type", error.type}, {"tensor", error.tensor}, {"value", error.value}});
  return list;
}

}  // namespace espq
