#include "passes/optimize/projected_errors.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "core/analysis/float_run.h"
#include "core/ops/linear.h"
#include "core/support/progress.h"
#include "passes/optimize/own_bias.h"

namespace espq {
namespace {

/// Whether the operand arrives on the grid on which this slot would put it.
bool arrives_rounded(const Graph& graph, const SlotPlace& place) {
  const Variable& variable = *place.operation.input(place.slot);
  const Operation* producer = variable.producer();
  if (!producer || !producer->quantized()) return false;
  const SlotQuant& from = producer->output_quant().at(variable.producer_slot());
  return !from.is_float() && from.same_scheme(place.quant()) &&
         slot_exponents(graph, from) == slot_exponents(graph, place.quant());
}

/// An operation with places of its operands and results in what a run is asked for.
struct Local {
  Piece rounded;
  std::vector<size_t> feeds, results;
  std::optional<LinearOperation> corrected;  ///< a layer whose bias takes back the mean
};

class Projections {
 public:
  Projections(const Graph& graph, const std::vector<const Operation*>& operations, Reference& reference)
      : graph_(graph), reference_(reference), exact_(float_executor(graph)), rounds_(graph, Precision::Simulated) {
    rounds_.set_hook([&graph](SlotEvent& event) {
      if (!event.is_output && event.operation.quantized() && !event.operation.input(event.slot)->is_parameter() &&
          arrives_rounded(graph, event))
        event.value = event.raw;
    });
    for (const Operation* operation : operations) add(*operation);
    captured_.resize(wanted_.list().size());
    exact_.set_training(true);
    exact_.set_hook([this](SlotEvent& event) {
      if (event.is_output) capture(*event.operation.output(event.slot), event.value);
    });
    outputs_ = reference.variables_in(graph);
    scales_ = scales();
  }

  /// [probes, operations] of one batch.
  at::Tensor rows(size_t batch, int64_t probes, at::Generator& generator) {
    std::fill(captured_.begin(), captured_.end(), at::Tensor());
    std::vector<const Variable*> asked = wanted_.list();
    asked.insert(asked.end(), outputs_.begin(), outputs_.end());
    Tensors values = exact_.run(reference_.data().inputs(graph_, batch), asked);
    const Tensors outputs(values.end() - static_cast<std::ptrdiff_t>(outputs_.size()), values.end());
    for (size_t i = 0; i < captured_.size(); ++i) values[i] = values[i].detach();
    const std::vector<Tensors> differences = local_differences(values);
    Tensors leaves;
    std::vector<size_t> leaf_of(captured_.size());
    for (size_t i = 0; i < captured_.size(); ++i) {
      leaf_of[i] = leaves.size();
      if (captured_[i].defined()) leaves.push_back(captured_[i]);
    }
    at::Tensor found = at::zeros({probes, static_cast<int64_t>(locals_.size())}, at::kDouble);
    for (int64_t probe = 0; probe < probes; ++probe) {
      const Tensors gradients = gradients_of(outputs, leaves, generator);
      for (size_t local = 0; local < locals_.size(); ++local)
        for (size_t i = 0; i < differences[local].size(); ++i) {
          const size_t place = locals_[local].results[i];
          if (!captured_[place].defined() || !gradients[leaf_of[place]].defined()) continue;
          found[probe][static_cast<int64_t>(local)] +=
              (gradients[leaf_of[place]] * differences[local][i]).sum(at::kDouble);
        }
    }
    return found;
  }

 private:
  void add(const Operation& operation) {
    std::vector<const Variable*> feeds, results;
    for (const Variable* input : operation.inputs())
      if (input && !input->is_parameter() && std::find(feeds.begin(), feeds.end(), input) == feeds.end())
        feeds.push_back(input);
    for (const Variable* output : operation.outputs())
      if (output) results.push_back(output);
    Local local{rounds_.compile({&operation}, feeds, results), {}, {}, linear_operation(operation)};
    if (local.corrected && !has_own_bias(*local.corrected)) local.corrected.reset();
    for (const Variable* feed : feeds) local.feeds.push_back(wanted_.place_of(*feed));
    for (const Variable* result : results) {
      local.results.push_back(wanted_.place_of(*result));
      is_result_.insert(result);
    }
    locals_.push_back(std::move(local));
  }

  /// Gradients end at results of the operations: nothing in front of the first one is asked for.
  void capture(const Variable& variable, at::Tensor& value) {
    if (!is_result_.count(&variable) || !at::isFloatingType(value.scalar_type())) return;
    if (!value.requires_grad()) value = value.detach().requires_grad_(true);
    captured_[wanted_.place_of(variable)] = value;
  }

  std::vector<Tensors> local_differences(const Tensors& values) {
    const c10::NoGradGuard no_gradient;
    std::vector<Tensors> differences;
    for (Local& local : locals_) {
      Tensors feeds;
      for (const size_t place : local.feeds) feeds.push_back(values[place]);
      Tensors difference = local.rounded.run(feeds);
      for (size_t i = 0; i < difference.size(); ++i) difference[i] = difference[i] - values[local.results[i]];
      if (local.corrected) difference[0] = without_channel_mean(*local.corrected, difference[0]);
      differences.push_back(std::move(difference));
    }
    return differences;
  }

  /// Of one projection with respect to every leaf; undefined where it does not matter.
  Tensors gradients_of(const Tensors& outputs, const Tensors& leaves, at::Generator& generator) {
    Tensors reached, directions;
    for (size_t i = 0; i < outputs.size(); ++i) {
      const at::Tensor signs = at::empty(outputs[i].sizes(), at::kFloat).bernoulli_(0.5, generator) * 2 - 1;
      if (!outputs[i].requires_grad()) continue;  // no operation reaches it
      reached.push_back(outputs[i]);
      directions.push_back(signs * scales_[i]);
    }
    if (reached.empty()) return Tensors(leaves.size());
    return torch::autograd::grad(reached, leaves, directions, /*retain_graph=*/true, false, /*allow_unused=*/true);
  }

  /// As Reference::error weighs the outputs.
  std::vector<double> scales() {
    std::vector<double> signal(outputs_.size(), 0.0);
    for (size_t batch = 0; batch < reference_.batches(); ++batch) {
      const Tensors answers = reference_.answers(batch);
      for (size_t i = 0; i < signal.size(); ++i) signal[i] += answers[i].to(at::kDouble).square().sum().item<double>();
    }
    for (double& square : signal)
      square = 1 / std::sqrt((square > 0 ? square : 1) * static_cast<double>(signal.size()));
    return signal;
  }

  const Graph& graph_;
  Reference& reference_;
  Executor exact_, rounds_;
  WantedVariables wanted_;
  std::vector<Local> locals_;
  std::unordered_set<const Variable*> is_result_;
  Tensors captured_;  ///< per wanted variable; undefined: no floating result of an operation
  std::vector<const Variable*> outputs_;
  std::vector<double> scales_;
};

}  // namespace

at::Tensor projected_errors(const Graph& quantized, const std::vector<const Operation*>& operations,
                            Reference& reference, int64_t probes, uint64_t seed) {
  Projections projections(quantized, operations, reference);
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<at::Tensor> rows;
  for (size_t batch = 0; batch < reference.batches(); ++batch) {
    rows.push_back(projections.rows(batch, probes, generator));
    report_progress("sensitivity", batch + 1, reference.batches());
  }
  return at::cat(rows);
}

}  // namespace espq
