#include "qat/trainable_graph.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "core/exec/device.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "core/support/first_line.h"
#include "core/support/memory.h"
#include "passes/quantize/settle.h"
#include "passes/quantize/slots.h"
#include "qat/tensor_file.h"

namespace espq {
namespace {

constexpr const char* kScaleGroups = "scale_groups";

/// A constant that is a weight, bias, slope or factor of its operator (or any float constant, when asked).
bool is_trainable(const Operation& operation, size_t slot, bool arithmetic_constants) {
  const Variable* variable = operation.input(slot);
  if (!variable || !variable->is_parameter() || variable->value().scalar_type() != at::kFloat) return false;
  const OperatorDefinition& definition = definition_of(operation);
  const OperandRole role = definition.input_spec(slot).role;
  if (!is_operand_of_arithmetic(role) || role == OperandRole::Statistics) return false;
  const AlignmentClass kind = definition.quantization.alignment;
  return arithmetic_constants ||
         (kind != AlignmentClass::Elementwise && kind != AlignmentClass::Comparison && kind != AlignmentClass::Concat);
}

/// The slots of one scale group.
struct Group {
  bool calibrated = false;  ///< a slot rounds with an exponent that was calibrated for it
  bool derived = false;     ///< a slot's exponent follows from others or is fixed by the chip
  bool weight = false;
  std::string name;  ///< of the tensor whose slot owns the exponents
};

std::map<ScaleId, Group> scale_groups(Graph& graph) {
  std::map<ScaleId, Group> groups;
  for_each_slot(graph, [&](Operation& operation, SlotQuant& slot, Variable* variable, int index, bool is_output) {
    if (slot.scale == kNoScale || !variable || !has_exponents(graph, slot)) return;
    const OperatorDefinition& definition = definition_of(operation);
    const OperandRole role = (is_output ? definition.output_spec(index) : definition.input_spec(index)).role;
    Group& group = groups[graph.scales().root(slot.scale)];
    group.calibrated |= slot.state == SlotState::Quantizes;
    group.derived |= role == OperandRole::Gate || role == OperandRole::Bias;
    group.weight |= !is_output && variable->is_parameter() && slot.state == SlotState::Quantizes;
    if (graph.scales().is_root(slot.scale)) group.name = variable->name();
  });
  return groups;
}

/// The base-2 logarithms of the scales of one group, as a leaf that learns.
struct Exponent {
  ScaleId root;
  std::string name;
  at::Tensor leaf;
  std::optional<int64_t> seen = {};    ///< version of the leaf when it was rounded last
  std::vector<int> last_rounded = {};  ///< what it gave

  /// What they round to. Throws UserError where one is no exponent any more.
  const std::vector<int>& rounded() {
    // Most have not been written to since they were asked last.
    const auto version = static_cast<int64_t>(leaf._version());
    if (seen == version) return last_rounded;
    const at::Tensor values = leaf.detach().cpu().contiguous();
    const auto* begin = values.const_data_ptr<float>();
    const auto count = static_cast<size_t>(values.numel());
    std::vector<int> result(count);
    for (size_t i = 0; i < count; ++i) {
      const float value = std::nearbyint(begin[i]);
      user_check(std::isfinite(value) && std::fabs(value) < 100,
                 "'{}' became {}: training diverged; use a smaller learning rate for exponents", name, value);
      result[i] = static_cast<int>(value);
    }
    seen = version;
    last_rounded = std::move(result);
    return last_rounded;
  }
};

std::vector<at::Tensor> without_names(const TrainableGraph::NamedParameters& parameters) {
  std::vector<at::Tensor> result;
  result.reserve(parameters.size());
  for (const auto& [name, tensor] : parameters) result.push_back(tensor);
  return result;
}

at::Tensor exponents_as_tensor(const std::vector<int>& exponents, at::Device device) {
  return at::tensor(std::vector<float>(exponents.begin(), exponents.end())).to(device);
}

/// `device` with its number: cuda -> cuda:0. Throws UserError when there is no such device.
at::Device existing_device(at::Device device) {
  try {
    return at::empty({0}, at::TensorOptions().device(device)).device();
  } catch (const c10::Error& error) {
    user_error("the network cannot be trained on {}: {}", device.str(), first_line(error));
  }
}

/// A copy on the processor.
at::Tensor kept_copy(const at::Tensor& value) { return value.detach().to(at::kCPU, false, true); }

}  // namespace

struct TrainableGraph::Implementation {
  /// One compiled form of the graph.
  struct Runner {
    std::unique_ptr<Executor> executor;
    bool training = false, batch_statistics = false;
  };

  Graph graph;
  TrainOptions options;
  NamedParameters weights;           ///< leaves; those of `variables` are the variable's value
  std::vector<Variable*> variables;  ///< whose value training changes: a leaf, or computed from a kept normalization
  std::vector<KeptNormalization> kept;
  std::vector<Exponent> exponents;
  std::map<Precision, Runner> runners;
  bool training = true, frozen_normalizations = false;
  std::optional<uint64_t> noticed;  ///< version of the parameters that the graph was last brought in line with

  Implementation(const Graph& quantized, TrainOptions wanted) : graph(quantized.clone()), options(std::move(wanted)) {
    user_check(!graph.is_chip(), "training needs the quantized graph of convert(), not its chip graph");
    user_check(graph.target(), "training needs a quantized graph: call convert() first");
    options.device = existing_device(options.device);
    move_parameters(graph, options.device);
    collect_kept();
    collect_variables();
    if (options.learn_activation_exponents || options.learn_weight_exponents) collect_exponents();
    user_check(!weights.empty(), "the graph has no float32 weight or bias to train");
    keep_freed_memory();
  }

  bool is_frozen(const std::string& name) const { return options.frozen && options.frozen(name); }

  void add_weight(const std::string& name, const at::Tensor& leaf) {
    leaf.requires_grad_(!is_frozen(name));
    weights.emplace_back(name, leaf);
  }

  void collect_kept() {
    for (const BatchNormalization& one : options.batch_normalizations)
      kept.emplace_back(graph, one, options.batch_normalization_momentum);
  }

  KeptNormalization* kept_behind(const Operation& operation) {
    for (KeptNormalization& one : kept)
      if (&one.producer() == &operation) return &one;
    return nullptr;
  }

  void collect_variables() {
    std::unordered_set<const Variable*> seen;
    for (Operation* operation : graph.operations()) {
      if (KeptNormalization* one = kept_behind(*operation)) {
        add_weight(one->weight_variable()->name(), one->weight);
        add_weight(one->name() + ".gamma", one->normalization.gamma);
        add_weight(one->name() + ".beta", one->normalization.beta);
        for (Variable* variable : {one->weight_variable(), one->bias_variable()}) {
          seen.insert(variable);
          variables.push_back(variable);
        }
      }
      for (size_t slot = 0; slot < operation->inputs().size(); ++slot) {
        Variable* variable = operation->input(slot);
        if (!is_trainable(*operation, slot, options.arithmetic_constants) || !seen.insert(variable).second) continue;
        variable->set_value(variable->value().detach().clone(at::MemoryFormat::Contiguous));
        add_weight(variable->name(), variable->value());
        variables.push_back(variable);
      }
    }
  }

  void collect_exponents() {
    std::unordered_set<std::string> names;
    for (const auto& [root, group] : scale_groups(graph)) {
      if (!group.calibrated || group.derived) continue;
      if (!(group.weight ? options.learn_weight_exponents : options.learn_activation_exponents)) continue;
      // A tensor that several readers round to grids of their own has several groups.
      std::string name = group.name + ".exponent";
      for (int copy = 2; !names.insert(name).second; ++copy) name = fmt::format("{}.exponent.{}", group.name, copy);
      const at::Tensor leaf = exponents_as_tensor(graph.scales().exponents(root), options.device);
      leaf.requires_grad_(!is_frozen(name));
      exponents.push_back({root, name, leaf});
    }
  }

  // ---------------------------------------------------------------------------------------------- exponents
  /// Brings the graph's exponents in line with the learned ones, and those in line with what the chip can do.
  void refresh_exponents() {
    bool changed = false;
    for (Exponent& exponent : exponents) {
      const std::vector<int>& rounded = exponent.rounded();
      if (rounded == graph.scales().exponents(exponent.root)) continue;
      graph.scales().set_exponents(exponent.root, rounded);
      changed = true;
    }
    if (changed) derive();
  }

  void derive() {
    for (KeptNormalization& one : kept) one.store();  // biases decide, too
    settle(graph, options.quirks);
    c10::AutoGradMode no_gradients(false);
    for (Exponent& exponent : exponents) {
      const std::vector<int>& possible = graph.scales().exponents(exponent.root);
      if (exponent.rounded() == possible) continue;
      const at::Tensor allowed = exponents_as_tensor(possible, options.device);
      exponent.leaf.copy_(at::where(at::round(exponent.leaf) == allowed, exponent.leaf, allowed));
    }
  }

  at::Tensor scale_groups_tensor() {
    std::vector<int64_t> numbers;
    for (ScaleId id = 0; id < static_cast<ScaleId>(graph.scales().size()); ++id) {
      if (!graph.scales().is_root(id)) continue;
      const std::vector<int>& values = graph.scales().exponents(id);
      numbers.insert(numbers.end(), {id, static_cast<int64_t>(values.size())});
      numbers.insert(numbers.end(), values.begin(), values.end());
    }
    return at::tensor(numbers, at::kLong);
  }

  /// Only the values of exponents may differ from the graph's own.
  bool fits(const at::Tensor& numbers) {
    const at::Tensor own = scale_groups_tensor();
    const int64_t *given = numbers.const_data_ptr<int64_t>(), *mine = own.const_data_ptr<int64_t>();
    for (int64_t i = 0; i + 1 < own.numel(); i += 2 + mine[i + 1])
      if (given[i] != mine[i] || given[i + 1] != mine[i + 1]) return false;
    return true;
  }

  void load_scale_groups(const at::Tensor& numbers) {
    const int64_t* number = numbers.const_data_ptr<int64_t>();
    for (int64_t i = 0; i + 1 < numbers.numel();) {
      const int64_t id = number[i], count = number[i + 1];
      graph.scales().set_exponents(static_cast<ScaleId>(id), {number + i + 2, number + i + 2 + count});
      i += 2 + count;
    }
  }

  // ---------------------------------------------------------------------------------------------- running
  /// Changes whenever a parameter is written to.
  uint64_t version() const {
    uint64_t sum = 0;
    for (const auto& [name, leaf] : weights) sum += leaf._version();
    for (const auto& [name, buffer] : buffers()) sum += buffer._version();
    return sum;
  }

  bool uses_batch_statistics() const { return training && !frozen_normalizations && !kept.empty(); }

  /// Computes weights and biases in front of kept normalizations, with their running statistics.
  void fold() {
    const c10::AutoGradMode gradients(training && c10::GradMode::is_enabled());
    for (KeptNormalization& one : kept) one.fold();
  }

  /// Training reads parameters anew in every pass, each of which has a gradient graph of its own. Evaluation keeps what
  /// it made of them until one is written to.
  void refresh_parameters() {
    if (training) return fold();
    if (noticed == version()) return;
    noticed = version();
    fold();
    for (KeptNormalization& one : kept) one.store();
    graph.touch();
  }

  Executor& executor(Precision precision) {
    Runner& runner = runners[precision];
    const bool fresh = !runner.executor, batch_statistics = uses_batch_statistics();
    if (fresh) runner.executor = std::make_unique<Executor>(graph, precision);
    if (fresh || runner.training != training || runner.batch_statistics != batch_statistics)
      runner.executor->set_training(training, training ? gradient_options() : GradientOptions{});
    runner.training = training;
    runner.batch_statistics = batch_statistics;
    return *runner.executor;
  }

  GradientOptions gradient_options() {
    GradientOptions result{.mask_per_channel = !options.quirks.clipped_channels_pass_gradients};
    if (!exponents.empty()) result.rounding = learned_rounding();
    for (KeptNormalization& one : kept) {
      result.parameters.emplace(one.weight_variable(), &one.folded_weight);
      result.parameters.emplace(one.bias_variable(), &one.folded_bias);
      if (uses_batch_statistics())
        result.results.emplace(&one.producer(), [&one](const at::Tensor& value) { return one.normalize(value); });
    }
    return result;
  }

  /// Slots of groups whose exponents learn.
  RoundingChoice learned_rounding() const {
    std::map<ScaleId, at::Tensor> leaves;
    for (const Exponent& exponent : exponents) leaves.emplace(exponent.root, exponent.leaf);
    return [this, leaves](const SlotPlace& place, const GridRounding& plain) -> std::shared_ptr<const SlotRounding> {
      const auto leaf = leaves.find(graph.scales().root(place.quant().scale));
      return leaf == leaves.end() ? nullptr : std::make_shared<TrainedThreshold>(plain, leaf->second);
    };
  }

  Piece part(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
             std::vector<const Variable*> outputs, RoundingChoice rounding) {
    internal_check(kept.empty(), "kept BatchNormalizations are trained as a whole");
    GradientOptions gradients{.mask_per_channel = !options.quirks.clipped_channels_pass_gradients};
    gradients.rounding = rounding ? std::move(rounding) : exponents.empty() ? nullptr : learned_rounding();
    Executor executor(graph, Precision::Simulated);
    executor.set_training(true, std::move(gradients));
    return executor.compile(std::move(operations), std::move(feeds), std::move(outputs));
  }

  Tensors run(const Tensors& inputs, Precision precision) {
    Executor& runner = executor(precision);
    if (uses_batch_statistics()) {
      for (KeptNormalization& one : kept) one.use_batch_statistics();
    }
    return runner.run(inputs);
  }

  NamedParameters buffers() const {
    NamedParameters result;
    for (const KeptNormalization& one : kept) {
      result.emplace_back(one.name() + ".running_mean", one.normalization.mean);
      result.emplace_back(one.name() + ".running_variance", one.normalization.variance);
    }
    return result;
  }

  /// Every tensor of the state but the scale groups, by name: the leaves themselves.
  NamedParameters leaves() const {
    NamedParameters result = weights;
    for (auto& buffer : buffers()) result.push_back(std::move(buffer));
    for (const Exponent& exponent : exponents) result.emplace_back(exponent.name, exponent.leaf);
    return result;
  }
};

TrainableGraph::TrainableGraph(const Graph& quantized, TrainOptions options)
    : implementation_(std::make_unique<Implementation>(quantized, std::move(options))) {}
TrainableGraph::~TrainableGraph() = default;
TrainableGraph::TrainableGraph(TrainableGraph&&) noexcept = default;

Tensors TrainableGraph::forward(const Tensors& inputs, Precision precision) {
  user_check(precision != Precision::Board,
             "a network trains in Float or Simulated precision; for Board precision run "
             "lower(trainable.graph())");
  for (const at::Tensor& input : inputs)
    user_check(!input.defined() || input.device() == implementation_->options.device,
               "the network trains on {}, an input is on {}: move it with to()", implementation_->options.device.str(),
               input.device().str());
  implementation_->refresh_parameters();
  if (precision == Precision::Simulated) implementation_->refresh_exponents();
  return implementation_->run(inputs, precision);
}

const Graph& TrainableGraph::view() const { return implementation_->graph; }

Piece TrainableGraph::part(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
                           std::vector<const Variable*> outputs, RoundingChoice rounding) {
  return implementation_->part(std::move(operations), std::move(feeds), std::move(outputs), std::move(rounding));
}

void TrainableGraph::refresh() {
  implementation_->refresh_parameters();
  implementation_->refresh_exponents();
  implementation_->derive();
}

at::Tensor TrainableGraph::exponent_of(const SlotQuant& slot) const {
  if (slot.scale == kNoScale) return {};
  for (const auto& exponent : implementation_->exponents)
    if (exponent.root == implementation_->graph.scales().root(slot.scale)) return exponent.leaf;
  return {};
}

TrainableGraph::NamedParameters TrainableGraph::named_parameters() const {
  NamedParameters result = implementation_->leaves();
  std::erase_if(result, [](const auto& entry) { return !entry.second.requires_grad(); });
  return result;
}

std::vector<at::Tensor> TrainableGraph::parameters() const { return without_names(named_parameters()); }

std::vector<at::Tensor> TrainableGraph::weights() const {
  std::vector<at::Tensor> result;
  for (const auto& [name, leaf] : implementation_->weights)
    if (leaf.requires_grad()) result.push_back(leaf);
  return result;
}

TrainableGraph::NamedParameters TrainableGraph::named_buffers() const { return implementation_->buffers(); }
std::vector<at::Tensor> TrainableGraph::buffers() const { return without_names(named_buffers()); }

void TrainableGraph::freeze_batch_normalizations(bool frozen) { implementation_->frozen_normalizations = frozen; }

void TrainableGraph::reestimate_batch_normalizations(const std::vector<Tensors>& batches, Precision precision) {
  Implementation& own = *implementation_;
  user_check(!own.kept.empty(),
             "no BatchNormalization is kept whose statistics could be estimated anew: give "
             "TrainOptions::batch_normalizations");
  user_check(!batches.empty(), "there are no batches to estimate statistics of BatchNormalizations on");
  const c10::NoGradGuard no_gradients;
  const bool trains = own.training, is_frozen = own.frozen_normalizations;
  own.training = true;
  own.frozen_normalizations = false;
  // One batch at a time replaces the statistics; every batch is rounded with those of before.
  for (KeptNormalization& one : own.kept) one.momentum = 1;
  const std::vector<at::Tensor> running = buffers();
  std::vector<at::Tensor> before, sums;
  for (const at::Tensor& statistic : running) {
    before.push_back(statistic.clone());
    sums.push_back(at::zeros_like(statistic, at::kDouble));
  }
  const auto write = [&](const std::vector<at::Tensor>& values) {
    for (size_t i = 0; i < running.size(); ++i) running[i].copy_(values[i]);
  };
  const auto set_back = [&] {
    for (KeptNormalization& one : own.kept) one.momentum = own.options.batch_normalization_momentum;
    own.training = trains;
    own.frozen_normalizations = is_frozen;
  };
  try {
    for (const Tensors& batch : batches) {
      write(before);
      forward(batch, precision);
      for (size_t i = 0; i < running.size(); ++i) sums[i] += running[i];
    }
  } catch (...) {  // a batch that does not fit
    write(before);
    set_back();
    throw;
  }
  for (at::Tensor& sum : sums) sum /= static_cast<double>(batches.size());
  write(sums);
  set_back();
}

std::vector<at::Tensor> TrainableGraph::exponents() const {
  std::vector<at::Tensor> result;
  for (const auto& exponent : implementation_->exponents)
    if (exponent.leaf.requires_grad()) result.push_back(exponent.leaf);
  return result;
}

void TrainableGraph::zero_grad() {
  for (const auto& [name, leaf] : implementation_->leaves()) leaf.mutable_grad().reset();
}

void TrainableGraph::train(bool training) { implementation_->training = training; }
bool TrainableGraph::is_training() const { return implementation_->training; }

Graph TrainableGraph::graph() {
  Implementation& self = *implementation_;
  self.fold();
  self.refresh_exponents();
  self.derive();  // biases may have outgrown their room
  Graph copy = self.graph.clone();
  move_parameters(copy, at::kCPU);
  for (const Variable* variable : self.variables)
    copy.find_variable(variable->name())->set_value(kept_copy(variable->value()));
  return copy;
}

NamedTensors TrainableGraph::state() {
  NamedTensors result;
  for (const auto& [name, leaf] : implementation_->leaves()) result.emplace(name, kept_copy(leaf));
  result.emplace(kScaleGroups, implementation_->scale_groups_tensor());
  return result;
}

void TrainableGraph::load_state(const NamedTensors& state) {
  NamedParameters wanted = implementation_->leaves();
  wanted.emplace_back(kScaleGroups, implementation_->scale_groups_tensor());
  for (const auto& [name, leaf] : wanted) {
    const auto found = state.find(name);
    user_check(found != state.end(),
               "the saved state has no tensor '{}': it belongs to another network or to other "
               "training options",
               name);
    user_check(found->second.sizes() == leaf.sizes() && found->second.scalar_type() == leaf.scalar_type(),
               "the saved state's tensor '{}' has another shape or dtype than the network's", name);
  }
  for (const auto& [name, tensor] : state)
    user_check(
        std::any_of(wanted.begin(), wanted.end(), [&name = name](const auto& entry) { return entry.first == name; }),
        "the saved state holds '{}', which this network does not train", name);
  user_check(implementation_->fits(state.at(kScaleGroups)),
             "the saved state belongs to a graph that was quantized in another way");
  wanted.pop_back();
  c10::AutoGradMode no_gradients(false);
  for (const auto& [name, leaf] : wanted) leaf.copy_(state.at(name));
  implementation_->load_scale_groups(state.at(kScaleGroups));
}

void TrainableGraph::save(const std::filesystem::path& file) { write_tensors(file, state()); }

void TrainableGraph::load(const std::filesystem::path& file) {
  try {
    load_state(read_tensors(file));
  } catch (const UserError& error) {
    const std::string text = error.what();
    if (text.rfind(file.string(), 0) == 0) throw;
    user_error("{}: {}", file.string(), text);
  }
}

}  // namespace espq
