#include "passes/quantize/calibrate.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "core/support/progress.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

/// One tensor under observation and the slots that get its exponent.
struct Watched {
  TensorObserver observer;
  const Operation* operation;  ///< the first that sees it
  const Variable* variable;
  std::vector<SlotQuant*> slots;
  bool result = true;  ///< at the end of the network (ObserverTable)
  bool settles_last = false;
  std::vector<std::pair<int64_t, at::Tensor>> cached;  ///< step and value, which phase 2 need not compute again
};

/// One batch on its way through the network, several at a time.
struct Lane {
  Executor executor;
  Tensors inputs = {};
  std::vector<Tensors> seen = {};                        ///< of every tensor under observation
  std::vector<bool> reached = {};                        ///< those whose own slot has been passed
  std::map<const Operation*, at::Tensor> operands = {};  ///< of operations with followers
};

constexpr size_t kMostLanes = 8;  ///< each keeps all tensors of its batch

/// Whether all values of `result` lie between those of `operand`, and zero.
bool lies_within(const at::Tensor& result, const at::Tensor& operand) {
  if (result.numel() == 0 || operand.numel() == 0) return true;
  const auto [low, high] = at::aminmax(operand);
  const auto [lowest, highest] = at::aminmax(result);
  return lowest.item<double>() >= std::min(0.0, low.item<double>()) &&
         highest.item<double>() <= std::max(0.0, high.item<double>());
}

/// Where the values of one graph input lie, over all batches.
struct InputRange {
  double lowest = std::numeric_limits<double>::infinity(), highest = -std::numeric_limits<double>::infinity();

  void add(const at::Tensor& value) {
    if (!value.is_floating_point() || value.numel() == 0) return;
    const auto [low, high] = at::aminmax(value);
    lowest = std::min(lowest, low.item<double>());
    highest = std::max(highest, high.item<double>());
  }
};

/// Largest magnitude of an input below which its scale is suspicious: pictures divided by 255 twice are there.
constexpr double kTinyMagnitude = 1.0 / 128;

/// What comes of inputs like that; nullopt of others.
std::optional<std::string> doubts(const std::string& name, const InputRange& range) {
  const double magnitude = std::max(-range.lowest, range.highest);
  if (range.lowest > range.highest) return std::nullopt;  // no floats
  if (magnitude == 0)
    return fmt::format(
        "calibration data: input '{}' is 0 in every batch, so nothing says how large its values are: the chip will "
        "clip "
        "every input to about 0; calibrate with inputs of the application",
        name);
  if (range.lowest == range.highest)
    return fmt::format(
        "calibration data: input '{}' is {:g} everywhere in every batch: grids fit what the network computes for this "
        "one "
        "value, and the chip will clip what other inputs give beyond it; calibrate with inputs of the application",
        name, range.lowest);
  if (magnitude < kTinyMagnitude)
    return fmt::format(
        "calibration data: input '{}' stays within {:.3g} and {:.3g}: the chip will clip larger inputs to that; if the "
        "application scales its inputs otherwise, calibrate with inputs as it gives them",
        name, range.lowest, range.highest);
  return std::nullopt;
}

class Calibrator {
 public:
  Calibrator(Graph& graph, const Dataset& dataset, const ObserverTable& observers, const CalibrationOptions& options,
             const Quirks& quirks)
      : graph_(graph),
        dataset_(dataset),
        observers_(observers),
        options_(options),
        quirks_(quirks),
        steps_(options.steps > 0 ? options.steps : static_cast<int64_t>(dataset.size())),
        cache_bytes_(options.cache_mebibytes << 20) {
    const auto most = std::min<size_t>({one_thread_each_.threads(), static_cast<size_t>(steps_), kMostLanes});
    for (size_t i = 0; i < std::max<size_t>(most, 1); ++i)
      lanes_.push_back(std::make_unique<Lane>(Lane{Executor(graph, Precision::Simulated)}));
  }

  PassReport run() {
    collect_slots();
    if (watched_.empty()) return report_;
    collect_followers();
    const bool two_phases =
        std::any_of(watched_.begin(), watched_.end(), [](const Watched& one) { return one.observer.two_phase(); });
    for (Watched& watched : watched_)
      watched.settles_last = watched.observer.two_phase() || (watched.result && two_phases);
    // Slots that phase 1 settles round in phase 2: what phase 1 saw is then not what phase 2 will see.
    caching_ = two_phases &&
               std::all_of(watched_.begin(), watched_.end(), [](const Watched& one) { return one.settles_last; });
    first_phase();
    warn();
    settle(false);
    if (two_phases) {
      second_phase();
      settle(true);
    }
    return report_;
  }

 private:
  bool has_follower(const Operation& operation) const {
    if (quirks_.bias_saturates) return false;
    for (size_t slot = 1; slot < operation.inputs().size(); ++slot)
      if (operation.input(slot) && definition_of(operation).input_spec(slot).role == OperandRole::Follows) return true;
    return false;
  }

  /// Slots see the same tensor when they stand on the same side of the same variable; then one observer serves all
  /// that ask for the same method and width. An operand whose grid may have to reach further has one of its own.
  void collect_slots() {
    using Key = std::tuple<const Variable*, bool, Observer, int, const Operation*>;
    std::map<Key, size_t> known;
    for_each_slot(graph_, [&](Operation& operation, SlotQuant& slot, Variable* variable, int, bool is_output) {
      if (slot.state != SlotState::Pending) return;
      const Observer method = observers_.of(slot);
      const bool own = !is_output && has_follower(operation);
      const Key key{variable, is_output, method, slot.bits, own ? &operation : nullptr};
      const auto [found, inserted] = known.emplace(key, watched_.size());
      if (inserted)
        watched_.push_back(
            {TensorObserver(method, slot.bits, options_, quirks_), &operation, variable, {}, true, false, {}});
      watched_[found->second].slots.push_back(&slot);
      watched_[found->second].result &= observers_.is_result(slot);
      index_[&slot] = found->second;
      report_.count("activation", operation.name());
    });
    report_.note("tensor", static_cast<int64_t>(watched_.size()));
  }

  /// Operations with bounds or pad values, whose operand's grid is made for something else than their result.
  void collect_followers() {
    std::map<ScaleId, size_t> of_group;
    for (size_t i = 0; i < watched_.size(); ++i)
      for (const SlotQuant* slot : watched_[i].slots) of_group.emplace(graph_.scales().root(slot->scale), i);
    for (const Operation* operation : graph_.topological_order()) {
      if (!operation->quantized() || !has_follower(*operation)) continue;
      const auto group = of_group.find(graph_.scales().root(operation->input_quant()[0].scale));
      if (group != of_group.end() && watched_[group->second].variable != operation->output())
        followers_[operation] = group->second;
    }
  }

  void first_phase() {
    for (int64_t step = 0; step < steps_;) {
      step = forward("calibration", step, [&](Watched& watched, int64_t at, const at::Tensor& value) {
        watched.observer.observe(value);
        if (caching_ && watched.observer.two_phase()) watched.cached.emplace_back(at, value);
      });
      if (caching_) check_budget(step);
    }
    for (const Watched& watched : watched_)
      user_check(watched.observer.empty() || std::isfinite(watched.observer.range()),
                 "operation '{}': variable '{}' takes NaN or infinite values on the calibration data; check the model "
                 "and the data",
                 watched.operation->name(), watched.variable->name());
  }

  void warn() {
    for (size_t i = 0; i < ranges_.size(); ++i)
      if (auto doubt = doubts(std::as_const(graph_).inputs()[i]->name(), ranges_[i]))
        report_.warnings.push_back(*doubt);
    std::vector<std::string> silent;
    for (const Watched& watched : watched_)
      if (!watched.observer.empty() && watched.observer.range() == 0 && watched.variable->producer())
        silent.push_back(watched.operation->name());
    if (silent.empty()) return;
    std::sort(silent.begin(), silent.end());
    silent.erase(std::unique(silent.begin(), silent.end()), silent.end());
    const size_t count = silent.size();
    constexpr size_t kNamed = 5;
    silent.resize(std::min(count, kNamed));
    report_.warnings.push_back(fmt::format(
        "0 on all calibration data: what {} operation{} read or write ('{}'{}); whatever else comes there on the "
        "chip is clipped to about 0. Where that is not meant, calibrate with data that excite them",
        count, count == 1 ? "" : "s", fmt::join(silent, "', '"), count > kNamed ? " ..." : ""));
  }

  void second_phase() {
    for_each_watched([&](size_t i) {
      for (const auto& [step, value] : watched_[i].cached) watched_[i].observer.observe_again(value);
      watched_[i].cached.clear();
    });
    for (int64_t step = cached_steps_; step < steps_;)
      step = forward("calibration, second pass", step, [&](Watched& watched, int64_t, const at::Tensor& value) {
        if (watched.observer.two_phase()) watched.observer.observe_again(value);
      });
  }

  void for_each_watched(const std::function<void(size_t)>& work) const {
    share_out(watched_.size(), one_thread_each_.threads(), work);
  }

  /// Runs batches from `begin` on, one per lane, and returns the first that is left. Every tensor is observed in the
  /// order of batches.
  template <typename Observe>
  int64_t forward(std::string_view phase, int64_t begin, const Observe& observe) {
    const int64_t end = std::min(steps_, begin + static_cast<int64_t>(lanes_.size()));
    const auto count = static_cast<size_t>(end - begin);
    for (size_t i = 0; i < count; ++i)
      lanes_[i]->inputs = dataset_.inputs(graph_, (static_cast<size_t>(begin) + i) % dataset_.size());
    share_out(count, count, [&](size_t i) { run(*lanes_[i]); });
    for_each_watched([&](size_t i) {
      for (size_t lane = 0; lane < count; ++lane)
        for (const at::Tensor& value : lanes_[lane]->seen[i])
          observe(watched_[i], begin + static_cast<int64_t>(lane), value);
    });
    for (size_t lane = 0; lane < count; ++lane) {
      const Tensors& inputs = lanes_[lane]->inputs;
      ranges_.resize(inputs.size());
      for (size_t i = 0; i < inputs.size(); ++i) ranges_[i].add(inputs[i]);
      lanes_[lane]->seen.clear();
      report_.note("batch run");
    }
    report_progress(phase, static_cast<size_t>(end), static_cast<size_t>(steps_));
    return end;
  }

  void run(Lane& lane) const {
    lane.seen.assign(watched_.size(), {});
    lane.reached.assign(watched_.size(), false);
    lane.executor.set_hook([&](SlotEvent& event) {
      follow(lane, event);
      const auto& quant = event.is_output ? event.operation.output_quant() : event.operation.input_quant();
      if (static_cast<size_t>(event.slot) >= quant.size()) return;
      const auto found = index_.find(&quant[event.slot]);
      if (found == index_.end() || lane.reached[found->second]) return;
      lane.reached[found->second] = true;
      lane.seen[found->second].push_back(event.raw);
    });
    lane.executor.run(lane.inputs);
    lane.executor.set_hook(nullptr);
    lane.operands.clear();
  }

  /// A grid that stands for an operand alone would cut a bound or a pad value that lies outside of it.
  void follow(Lane& lane, const SlotEvent& event) const {
    if (event.slot != 0) return;
    const auto found = followers_.find(&event.operation);
    if (found == followers_.end()) return;
    at::Tensor& operand = lane.operands[&event.operation];
    if (!event.is_output)
      operand = event.raw;
    else if (!lies_within(event.raw, operand))
      lane.seen[found->second].push_back(event.raw);
  }

  /// Stops caching once the tensors of steps in front of `end` outgrow the budget, and forgets those of the last ones.
  void check_budget(int64_t end) {
    for (const Watched& watched : watched_)
      for (auto entry = watched.cached.rbegin(); entry != watched.cached.rend() && entry->first >= cached_steps_;
           ++entry)
        cached_bytes_ += static_cast<int64_t>(entry->second.nbytes());
    caching_ = cached_bytes_ <= cache_bytes_;
    if (caching_) {
      cached_steps_ = end;
      return;
    }
    for (Watched& watched : watched_)
      std::erase_if(watched.cached, [&](const auto& entry) { return entry.first >= cached_steps_; });
  }

  void settle(bool last) {
    std::vector<int> exponents(watched_.size());
    for_each_watched([&](size_t i) {
      if (watched_[i].settles_last == last && !watched_[i].observer.empty())
        exponents[i] = watched_[i].observer.exponent();
    });
    for (size_t i = 0; i < watched_.size(); ++i) {
      Watched& watched = watched_[i];
      if (watched.settles_last != last) continue;
      internal_check(!watched.observer.empty(), "calibration never reached operation " + watched.operation->name());
      for (SlotQuant* slot : watched.slots) {
        graph_.scales().set_exponents(slot->scale, {exponents[i]});
        slot->state = SlotState::Quantizes;
      }
    }
  }

  Graph& graph_;
  const Dataset& dataset_;
  const ObserverTable& observers_;
  const CalibrationOptions& options_;
  const Quirks& quirks_;
  int64_t steps_;
  int64_t cache_bytes_, cached_bytes_ = 0, cached_steps_ = 0;
  bool caching_ = false;
  const OneThreadEach one_thread_each_;  ///< what is seen is to be the same for any number of them
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<Watched> watched_;
  std::vector<InputRange> ranges_;  ///< per graph input
  std::unordered_map<const SlotQuant*, size_t> index_;
  /// Operations with a constant on the grid of their operand, and what that grid is made for.
  std::unordered_map<const Operation*, size_t> followers_;
  PassReport report_{"calibrate"};
};

}  // namespace

PassReport calibrate(Graph& graph, const Dataset& dataset, const ObserverTable& observers,
                     const CalibrationOptions& options, const Quirks& quirks) {
  user_check(dataset.size() > 0, "calibration needs at least one batch of data");
  user_check(options.steps >= 0 && options.cache_mebibytes >= 0,
             "calibration: steps and cache_mebibytes cannot be negative");
  return Calibrator(graph, dataset, observers, options, quirks).run();
}

}  // namespace espq
