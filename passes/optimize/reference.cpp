#include "passes/optimize/reference.h"

#include <ATen/ATen.h>

#include "core/analysis/float_run.h"
#include "core/exec/side_by_side.h"
#include "core/support/error.h"

namespace espq {
namespace {

Executor executor_of(const Graph& network) {
  internal_check(!network.is_chip(), "the reference of a pass is a float or a quantized graph");
  return network.stage() == Stage::Quantized ? float_executor(network) : Executor(network, Precision::Float);
}

std::vector<std::string> floating_outputs(const Graph& network) {
  std::vector<std::string> names;
  for (const Variable* output : network.outputs())
    if (at::isFloatingType(output->dtype())) names.push_back(output->name());
  return names;
}

std::vector<const Variable*> variables_named(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<const Variable*> variables;
  for (const std::string& name : names) {
    variables.push_back(graph.find_variable(name));
    user_check(variables.back(), "the network has no tensor '{}'", name);
  }
  return variables;
}

int64_t bytes_of(const Tensors& tensors) {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

double squares(const at::Tensor& value) { return value.to(at::kDouble).square().sum().item<double>(); }

}  // namespace

Reference::Reference(const Graph& network, const Dataset& data, std::vector<std::string> variables, int64_t bytes)
    : network_(network.clone()),
      data_(data),
      names_(variables.empty() ? floating_outputs(network) : std::move(variables)),
      wanted_(variables_named(network_, names_)),
      room_(bytes),
      kept_(data.size()),
      executor_(executor_of(network_)) {}

Tensors Reference::answers(size_t batch) {
  const std::lock_guard lock(running_);
  if (!kept_.at(batch).empty()) return kept_[batch];
  Tensors answers = executor_.run(data_.inputs(network_, batch), wanted_);
  const int64_t bytes = bytes_of(answers);
  if (bytes <= room_) {
    room_ -= bytes;
    kept_[batch] = answers;
  }
  return answers;
}

std::vector<const Variable*> Reference::variables_in(const Graph& other) const {
  return variables_named(other, names_);
}

Reference::Powers Reference::powers(size_t batch, const Tensors& got) {
  const Tensors want = answers(batch);
  Powers powers;
  for (size_t i = 0; i < want.size(); ++i) {
    powers.noise.push_back(squares(got[i].to(at::kDouble) - want[i].to(at::kDouble)));
    powers.signal.push_back(squares(want[i]));
  }
  return powers;
}

double Reference::error(const std::vector<Powers>& batches) const {
  double sum = 0;
  for (size_t i = 0; i < names_.size(); ++i) {
    double noise = 0, signal = 0;
    for (const Powers& batch : batches) noise += batch.noise[i], signal += batch.signal[i];
    sum += signal > 0 ? noise / signal : noise;
  }
  return names_.empty() ? 0 : sum / static_cast<double>(names_.size());
}

double Reference::error(const Graph& other, Executor& executor) {
  const std::vector<const Variable*> wanted = variables_in(other);
  std::vector<Powers> found;
  for (size_t batch = 0; batch < batches(); ++batch)
    found.push_back(powers(batch, executor.run(data_.inputs(other, batch), wanted)));
  return error(found);
}

double Reference::error_in(const Graph& other, Precision precision) {
  const OneThreadEach one_thread_each;
  const std::vector<const Variable*> wanted = variables_in(other);
  std::vector<Powers> found(batches());
  std::vector<std::unique_ptr<Executor>> executors(std::min(one_thread_each.threads(), batches()));
  share_out(batches(), executors.size(), [&](size_t batch, size_t thread) {
    if (!executors[thread]) executors[thread] = std::make_unique<Executor>(other, precision);
    found[batch] = powers(batch, executors[thread]->run(data_.inputs(other, batch), wanted));
  });
  return error(found);
}

}  // namespace espq
