#include "passes/optimize/layer_walk.h"

#include "core/analysis/float_run.h"
#include "core/ops/linear.h"
#include "core/support/error.h"
#include "core/support/progress.h"

namespace espq {
namespace {

std::vector<const Variable*> of_other(const std::vector<const Variable*>& variables, const Graph& other) {
  std::vector<const Variable*> result;
  for (const Variable* variable : variables) {
    const Variable* found = other.find_variable(variable->name());
    internal_check(found, "'" + variable->name() + "' is not in the float network");
    result.push_back(found);
  }
  return result;
}

std::vector<const Variable*> results_of(const Operation& operation) {
  std::vector<const Variable*> results;
  for (const Variable* output : operation.outputs())
    if (output) results.push_back(output);
  return results;
}

}  // namespace

LayerWalk::LayerWalk(const Graph& teacher, const Graph& quantized, const Dataset& data)
    : teacher_(teacher), quantized_(quantized) {
  for (size_t i = 0; i < data.size(); ++i) {
    const Tensors inputs = data.inputs(quantized, i);
    Batch batch;
    for (size_t input = 0; input < inputs.size(); ++input)
      batch.exact[quantized.inputs()[input]] = batch.quantized[quantized.inputs()[input]] = inputs[input];
    batches_.push_back(std::move(batch));
  }
  for (const Operation* operation : quantized.topological_order())
    for (const Variable* input : operation->inputs())
      if (input) last_reader_[input] = operation;
  for (size_t i = 0; i < std::min(one_thread_each_.threads(), batches_.size()); ++i) {
    lanes_.push_back(std::unique_ptr<Lane>(new Lane{float_executor(teacher), Executor(quantized, Precision::Simulated),
                                                    Executor(quantized, Precision::Simulated)}));
    lanes_.back()->watches.set_hook([lane = lanes_.back().get()](SlotEvent& event) {
      if (event.is_output && event.slot == 0) lane->raw = event.raw;
    });
  }
}

LayerWalk::~LayerWalk() = default;

Tensors LayerWalk::compute(Piece& piece, const Values& values) const {
  Tensors inputs;
  for (const Variable* feed : feeds_) inputs.push_back(values.at(feed));
  return piece.run(inputs);
}

void LayerWalk::on_every_batch(const std::function<void(Lane& lane, size_t batch)>& work) {
  share_out(lanes_.size(), lanes_.size(), [&](size_t lane) {
    for (size_t batch = lane; batch < batches_.size(); batch += lanes_.size()) work(*lanes_[lane], batch);
  });
}

std::vector<at::Tensor> LayerWalk::each_batch(const Look& look) {
  std::vector<at::Tensor> seen(batches_.size());
  on_every_batch([&](Lane& lane, size_t index) {
    Batch& batch = batches_[index];
    compute(*lane.quantized, batch.quantized);
    internal_check(lane.raw.defined(), "a visitor looks at an operation without weights");
    batch.raw = std::move(lane.raw);
    seen[index] = look(batch.raw, batch.exact.at(results_[0]));
  });
  return seen;
}

void LayerWalk::becomes(const std::function<at::Tensor(const at::Tensor& raw)>& result) {
  on_every_batch([&](Lane&, size_t index) {
    Batch& batch = batches_[index];
    batch.quantized[results_[0]] = result(batch.raw);
  });
  computed_ = true;
}

void LayerWalk::drop_what_nobody_reads(const Operation& operation, Values& values) const {
  for (const Variable* input : operation.inputs())
    if (const auto last = last_reader_.find(input); last != last_reader_.end() && last->second == &operation)
      values.erase(input);
}

/// The float results are computed.
void LayerWalk::enter(const Operation& operation) {
  feeds_.clear();
  for (const Variable* input : operation.inputs())
    if (input && !input->is_parameter() && std::find(feeds_.begin(), feeds_.end(), input) == feeds_.end())
      feeds_.push_back(input);
  results_ = results_of(operation);
  computed_ = false;
  for (const auto& lane : lanes_) {
    lane->exact.emplace(lane->teaches.compile({teacher_.find_operation(operation.name())}, of_other(feeds_, teacher_),
                                              of_other(results_, teacher_)));
    Executor& executor = linear_operation(operation) ? lane->watches : lane->computes;
    lane->quantized.emplace(executor.compile({&operation}, feeds_, results_));
  }
  on_every_batch([&](Lane& lane, size_t batch) {
    const Tensors values = compute(*lane.exact, batches_[batch].exact);
    for (size_t i = 0; i < results_.size(); ++i) batches_[batch].exact[results_[i]] = values[i];
  });
}

/// The quantized results are computed, of the operation as the visitor left it.
void LayerWalk::leave(const Operation& operation) {
  on_every_batch([&](Lane& lane, size_t index) {
    Batch& batch = batches_[index];
    batch.raw.reset();
    const Tensors values = computed_ ? Tensors() : compute(*lane.quantized, batch.quantized);
    for (size_t i = 0; i < values.size(); ++i) batch.quantized[results_[i]] = values[i];
    drop_what_nobody_reads(operation, batch.exact);
    drop_what_nobody_reads(operation, batch.quantized);
  });
}

void LayerWalk::run(const std::function<void(const Operation& operation)>& visit) {
  const auto order = quantized_.topological_order();
  size_t done = 0;
  for (const Operation* operation : order) {
    enter(*operation);
    visit(*operation);
    leave(*operation);
    report_progress("layers", ++done, order.size());
  }
}

}  // namespace espq
