#include "passes/optimize/training_front.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_set>

#include "core/analysis/float_run.h"

namespace espq {
namespace {

/// The operations between known variables and wanted ones.
Block between(const Graph& graph, const std::unordered_map<const Variable*, std::vector<at::Tensor>>& known,
              const std::vector<const Variable*>& wanted) {
  Block result;
  std::unordered_set<const Variable*> asked, read;
  for (const Variable* variable : wanted)
    if (!known.count(variable) && asked.insert(variable).second) result.outputs.push_back(variable);
  if (asked.empty()) return result;
  const std::vector<const Operation*> order = graph.topological_order();
  for (auto operation = order.rbegin(); operation != order.rend(); ++operation) {
    const auto& outputs = (*operation)->outputs();
    if (std::none_of(outputs.begin(), outputs.end(), [&](const Variable* output) { return asked.count(output); }))
      continue;
    result.operations.push_back(*operation);
    for (const Variable* input : (*operation)->inputs()) {
      if (!input || input->is_parameter()) continue;
      if (!known.count(input))
        asked.insert(input);
      else if (read.insert(input).second)
        result.inputs.push_back(input);
    }
  }
  std::reverse(result.operations.begin(), result.operations.end());
  return result;
}

bool same(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const at::Tensor& x, const at::Tensor& y) { return at::equal(x, y); });
}

}  // namespace

TrainingFront::TrainingFront(TrainableGraph& network, const Graph& teacher, const std::vector<Block>& blocks,
                             const TrainingSamples& samples, size_t threads)
    : network_(network),
      teacher_(teacher),
      teaches_(float_executor(teacher)),
      blocks_(blocks),
      count_(samples.inputs.size()),
      training_(samples.training),
      threads_(threads),
      joinable_(samples.joinable) {
  network.refresh();
  const Graph& graph = network.view();
  for (const Operation* operation : graph.operations()) settings_.emplace(operation, settings(*operation));
  for (size_t i = 0; i < blocks.size(); ++i)
    for (const Variable* input : blocks[i].inputs) last_reader_[input] = i;
  for (size_t i = 0; i < graph.inputs().size(); ++i) {
    std::vector<at::Tensor>& values = quantized_[graph.inputs()[i]];
    values.reserve(count_);
    for (const Tensors& sample : samples.inputs) values.push_back(sample[i]);
  }
  exact_ = quantized_;
}

BlockSamples TrainingFront::samples() {
  const Block& block = blocks_[position_];
  require(quantized_, block.inputs);
  require(exact_, block.inputs);
  require(exact_, block.outputs);
  BlockSamples result{per_sample(quantized_, block.inputs), per_sample(exact_, block.outputs), training_, joinable_};
  for (Tensors& targets : result.targets)
    for (at::Tensor& target : targets)
      if (!target.is_floating_point()) target.reset();
  return result;
}

void TrainingFront::advance() {
  forget_changed();
  const Block& block = blocks_[position_];
  std::vector<const Variable*> wanted;
  for (const Variable* output : block.outputs)
    if (const auto reader = last_reader_.find(output); reader != last_reader_.end() && reader->second > position_)
      wanted.push_back(output);
  if (++position_ < blocks_.size())
    wanted.insert(wanted.end(), blocks_[position_].inputs.begin(), blocks_[position_].inputs.end());
  for (Values* values : {&quantized_, &exact_}) {
    require(*values, wanted);
    std::erase_if(*values, [&](const auto& value) {
      const auto reader = last_reader_.find(value.first);
      return value.first->producer() && (reader == last_reader_.end() || reader->second < position_);
    });
  }
}

void TrainingFront::require(Values& values, const std::vector<const Variable*>& wanted) {
  const Block part = between(network_.view(), values, wanted);
  if (part.outputs.empty()) return;
  const bool exact = &values == &exact_;
  const Block own = exact ? same_block(part, teacher_) : part;
  const std::vector<Tensors> results = run_samples(
      [&] {
        return exact ? teaches_.compile(own.operations, own.inputs, own.outputs)
                     : network_.part(own.operations, own.inputs, own.outputs);
      },
      per_sample(values, part.inputs), threads_);
  for (size_t i = 0; i < part.outputs.size(); ++i) {
    std::vector<at::Tensor>& result = values[part.outputs[i]];
    result.reserve(results.size());
    for (const Tensors& sample : results) result.push_back(sample[i]);
  }
}

/// Quantized values behind operations that compute with something else by now: those of the block, and any that share
/// constants or grids with it.
void TrainingFront::forget_changed() {
  std::unordered_set<const Variable*> stale;
  for (const Operation* operation : network_.view().topological_order()) {
    Settings now = settings(*operation);
    Settings& before = settings_.at(operation);
    const auto& inputs = operation->inputs();
    const bool changed =
        now.exponents != before.exponents || !same(now.constants, before.constants) ||
        std::any_of(inputs.begin(), inputs.end(), [&](const Variable* input) { return stale.count(input); });
    before = std::move(now);
    if (changed) stale.insert(operation->outputs().begin(), operation->outputs().end());
  }
  std::erase_if(quantized_, [&](const auto& value) { return stale.count(value.first); });
}

TrainingFront::Settings TrainingFront::settings(const Operation& operation) const {
  Settings result;
  if (operation.quantized())
    for (const auto* slots : {&operation.input_quant(), &operation.output_quant()})
      for (const SlotQuant& slot : *slots)
        result.exponents.push_back(slot.scale == kNoScale ? std::vector<int>() : slot_exponents(network_.view(), slot));
  for (const Variable* input : operation.inputs())
    if (input && input->is_parameter()) result.constants.push_back(input->value().detach().clone());
  return result;
}

std::vector<Tensors> TrainingFront::per_sample(const Values& values,
                                               const std::vector<const Variable*>& variables) const {
  std::vector<Tensors> result(count_);
  for (const Variable* variable : variables) {
    const std::vector<at::Tensor>& tensors = values.at(variable);
    for (size_t i = 0; i < count_; ++i) result[i].push_back(tensors[i]);
  }
  return result;
}

}  // namespace espq
