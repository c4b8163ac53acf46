#include "passes/optimize/layer_walk.h"

#include "core/analysis/float_run.h"
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
    : teacher_(teacher),
      quantized_(quantized),
      teaches_(float_executor(teacher)),
      computes_(quantized, Precision::Simulated) {
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
  computes_.set_hook([this](SlotEvent& event) {
    if (event.is_output && event.slot == 0) raw_ = event.raw;
  });
}

LayerWalk::~LayerWalk() = default;

Tensors LayerWalk::compute(Piece& piece, const Values& values) const {
  Tensors inputs;
  for (const Variable* feed : feeds_) inputs.push_back(values.at(feed));
  return piece.run(inputs);
}

LayerWalk::Result LayerWalk::result(size_t batch) {
  const at::Tensor value = compute(*piece_, batches_[batch].quantized)[0];
  return {value, std::move(raw_)};
}

void LayerWalk::drop_what_nobody_reads(const Operation& operation, Values& values) const {
  for (const Variable* input : operation.inputs())
    if (const auto last = last_reader_.find(input); last != last_reader_.end() && last->second == &operation)
      values.erase(input);
}

void LayerWalk::run(const std::function<void(const Operation& operation)>& visit) {
  const auto order = quantized_.topological_order();
  size_t done = 0;
  for (const Operation* operation : order) {
    current_ = operation;
    feeds_.clear();
    for (const Variable* input : operation->inputs())
      if (input && !input->is_parameter() && std::find(feeds_.begin(), feeds_.end(), input) == feeds_.end())
        feeds_.push_back(input);
    const std::vector<const Variable*> results = results_of(*operation);
    Piece teacher = teaches_.compile({teacher_.find_operation(operation->name())}, of_other(feeds_, teacher_),
                                     of_other(results, teacher_));
    for (Batch& batch : batches_) {
      const Tensors values = compute(teacher, batch.exact);
      for (size_t i = 0; i < results.size(); ++i) batch.exact[results[i]] = values[i];
    }
    piece_.emplace(computes_.compile({operation}, feeds_, results));
    visit(*operation);
    for (Batch& batch : batches_) {
      const Tensors values = compute(*piece_, batch.quantized);
      for (size_t i = 0; i < results.size(); ++i) batch.quantized[results[i]] = values[i];
      drop_what_nobody_reads(*operation, batch.exact);
      drop_what_nobody_reads(*operation, batch.quantized);
    }
    report_progress("layers", ++done, order.size());
  }
}

}  // namespace espq
