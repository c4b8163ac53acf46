#include "core/exec/executor.h"

#include <ATen/Context.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <unordered_map>

#include "core/exec/step_compiler.h"
#include "core/ops/channel_order.h"
#include "core/support/error.h"
#include "core/support/first_line.h"

namespace espq {
namespace {

at::Tensor in_layout(const at::Tensor& value, Layout have, Layout want) {
  if (have == want) return value;
  return want == Layout::ChannelsFirst ? channels_first(value) : channels_last(value);
}

/// Operations that the requested variables depend on, in topological order.
std::vector<const Operation*> needed_operations(const Graph& graph, const std::vector<const Variable*>& requested) {
  const std::unordered_set<const Operation*> needed = operations_behind(requested);
  std::vector<const Operation*> order = graph.topological_order();
  std::erase_if(order, [&](const Operation* operation) { return needed.count(operation) == 0; });
  return order;
}

std::unique_ptr<StepCompiler> compiler_of(Precision precision, const Graph& graph, const ExecutionSettings& settings) {
  switch (precision) {
    case Precision::Float:
      return float_compiler(graph, settings);
    case Precision::Simulated:
      return simulated_compiler(graph, settings);
    case Precision::Board:
      return board_compiler(graph, settings);
  }
  internal_check(false, "unknown precision");
  return nullptr;
}

/// One run of a plan.
class Run {
 public:
  Run(const Plan& plan, const Hook& hook) : plan_(plan), hook_(hook), values_(plan.layout.size()) {}

  void feed(int index, const at::Tensor& value) {
    if (index >= 0) values_[index] = value;
  }

  Tensors results() {
    for (const Step& step : plan_.steps) run(step);
    Tensors results;
    for (const Variable* variable : plan_.requested) {
      const int index = plan_.index.at(variable);
      const at::Tensor& value = values_[index];
      results.push_back(value.defined() ? in_layout(value, plan_.layout[index], Layout::OfGraph)
                                        : variable->value());  // a constant may be a graph output
    }
    return results;
  }

 private:
  const Plan& plan_;
  const Hook& hook_;
  std::vector<at::Tensor> values_;

  void run(const Step& step) {
    Tensors operands = operands_of(step);
    // A hook sees operands beside results; without one, a result may take the place of an operand read for the last
    // time.
    if (!hook_) release(step);
    Tensors results = compute(step, std::move(operands));
    if (results.size() < step.outputs.size())
      internal_check(false, step.operation->type() + ": kernel gave too few outputs");
    for (size_t slot = 0; slot < step.outputs.size(); ++slot) {
      const StepOutput& output = step.outputs[slot];
      if (output.index < 0) continue;
      const at::Tensor raw = hook_ ? results[slot] : at::Tensor();
      at::Tensor value = std::move(results[slot]);
      if (output.round) value = output.round(std::move(value));
      if (hook_) value = observed({*step.operation, static_cast<int>(slot), true}, raw, value, output.layout);
      values_[output.index] = std::move(value);
    }
    if (hook_) release(step);
  }

  void release(const Step& step) {
    for (int index : step.release) values_[index].reset();
  }

  Tensors operands_of(const Step& step) const {
    Tensors operands(step.inputs.size());
    for (size_t slot = 0; slot < operands.size(); ++slot)
      if (step.inputs[slot].variable) operands[slot] = operand(step, slot);
    return operands;
  }

  at::Tensor operand(const Step& step, size_t slot) const {
    const StepInput& input = step.inputs[slot];
    const at::Tensor& raw = input.parameter ? *input.parameter : values_[input.index];
    user_check(raw.defined(), "{} '{}': its input '{}' has no value", step.operation->type(), step.operation->name(),
               input.variable->name());
    at::Tensor value = input.constant.defined() ? input.constant : input.round ? input.round(raw) : raw;
    const Layout have = plan_.layout[input.index];
    if (hook_) value = observed({*step.operation, static_cast<int>(slot), false}, raw, value, have);
    return in_layout(value, have, input.layout);
  }

  /// Holds the operands no longer than the kernel takes.
  static Tensors compute(const Step& step, Tensors operands) {
    try {
      return step.kernel(operands);
    } catch (const c10::Error& error) {
      user_error("{} '{}': cannot be computed: {}", step.operation->type(), step.operation->name(), first_line(error));
    }
  }

  /// What the hook makes of a value; it sees the graph's order of dimensions.
  at::Tensor observed(const SlotPlace& place, const at::Tensor& raw, const at::Tensor& value, Layout layout) const {
    SlotEvent event{place, in_layout(raw, layout, Layout::OfGraph), in_layout(value, layout, Layout::OfGraph)};
    hook_(event);
    return in_layout(event.value, Layout::OfGraph, layout);
  }
};

using Revision = std::pair<uint64_t, uint64_t>;

/// What an executor and its pieces share.
struct Session {
  const Graph& graph;
  Precision precision;
  ExecutionSettings settings = {};
  uint64_t settings_revision = 0;
  Hook hook = nullptr;

  Session(const Graph& source, Precision wanted) : graph(source), precision(wanted) {}

  std::unique_ptr<StepCompiler> compiler() const { return compiler_of(precision, graph, settings); }
  Revision revision() const { return {graph.revision(), settings_revision}; }
  void changed() { ++settings_revision; }

  const Variable& variable(const std::string& name) const {
    const Variable* found = graph.find_variable(name);
    user_check(found, "the graph has no tensor named '{}'", name);
    return *found;
  }
};

std::vector<const Variable*> listed(std::span<const Variable* const> variables) {
  return {variables.begin(), variables.end()};
}

}  // namespace

// ------------------------------------------------------------------------------------------------ pieces
struct Piece::Implementation {
  std::shared_ptr<Session> session;
  std::vector<const Operation*> operations;  ///< empty: all that the outputs depend on
  std::vector<const Variable*> feeds, outputs;
  std::optional<Revision> revision = std::nullopt;  ///< of what the plan was compiled from
  Plan plan = {};
  std::vector<int> places = {};  ///< of the feeds in the plan; -1: nothing reads it

  void compile() {
    revision.reset();
    const auto order = operations.empty() ? needed_operations(session->graph, outputs) : operations;
    plan = link_steps(session->compiler()->steps(order, outputs), outputs);
    places.clear();
    for (const Variable* feed : feeds) {
      const auto found = plan.index.find(feed);
      places.push_back(found == plan.index.end() ? -1 : found->second);
    }
    revision = session->revision();
  }

  Tensors run(const Tensors& tensors) {
    internal_check(tensors.size() == feeds.size(), "a piece of a graph takes one tensor per feed");
    if (revision != session->revision()) compile();
    c10::AutoGradMode gradients(session->settings.training && c10::GradMode::is_enabled());
    const at::NoTF32Guard whole_float32;  // CUDA would drop 13 bits of what it multiplies
    Run run(plan, session->hook);
    for (size_t i = 0; i < tensors.size(); ++i) run.feed(places[i], tensors[i]);
    return run.results();
  }
};

Piece::Piece(Implementation* implementation) : implementation_(implementation) {}
Piece::~Piece() = default;
Piece::Piece(Piece&&) noexcept = default;
Piece& Piece::operator=(Piece&&) noexcept = default;
Tensors Piece::run(const Tensors& feeds) { return implementation_->run(feeds); }

// ------------------------------------------------------------------------------------------------ executor
struct Executor::Implementation {
  std::shared_ptr<Session> session;
  std::unique_ptr<StepCompiler> ports = session->compiler();  ///< for what enters and leaves
  std::optional<Piece> whole = std::nullopt;                  ///< from the graph's inputs to its outputs
  std::map<std::vector<const Variable*>, Piece> others = {};  ///< to other variables
  Revision revision = session->revision();                    ///< that these belong to

  Piece from_inputs(std::vector<const Variable*> outputs) const {
    return Piece(new Piece::Implementation{session, {}, listed(session->graph.inputs()), std::move(outputs)});
  }

  /// The pieces name variables that a changed graph may not have any more.
  void forget_stale() {
    if (revision == session->revision()) return;
    whole.reset();
    others.clear();
    revision = session->revision();
  }

  Tensors run(const Tensors& inputs) {
    forget_stale();
    if (!whole) whole.emplace(from_inputs(listed(session->graph.outputs())));
    return run(*whole, inputs);
  }

  Tensors run(const Tensors& inputs, const std::vector<const Variable*>& outputs) {
    forget_stale();
    auto found = others.find(outputs);
    if (found == others.end()) found = others.emplace(outputs, from_inputs(outputs)).first;
    return run(found->second, inputs);
  }

  Tensors run(Piece& piece, const Tensors& inputs) const {
    user_check(inputs.size() == session->graph.inputs().size(), "{} input tensors were given, the graph has {} inputs",
               inputs.size(), session->graph.inputs().size());
    Tensors entered;
    for (size_t i = 0; i < inputs.size(); ++i) entered.push_back(ports->enter(*session->graph.inputs()[i], inputs[i]));
    Tensors results = piece.run(entered);
    const auto& outputs = piece.implementation_->outputs;
    for (size_t i = 0; i < results.size(); ++i) results[i] = ports->leave(*outputs[i], results[i]);
    return results;
  }
};

Executor::Executor(const Graph& graph, Precision precision)
    : implementation_(new Implementation{std::make_shared<Session>(graph, precision)}) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;

Tensors Executor::run(const Tensors& inputs) { return implementation_->run(inputs); }

Tensors Executor::run(const Tensors& inputs, const std::vector<const Variable*>& outputs) {
  return implementation_->run(inputs, outputs);
}

NamedTensors Executor::run(const NamedTensors& inputs, const std::vector<std::string>& outputs) {
  const Session& session = *implementation_->session;
  for (const auto& [name, value] : inputs)
    user_check(session.graph.is_input(&session.variable(name)), "'{}' is not an input of the graph", name);
  Tensors given;
  for (const Variable* input : session.graph.inputs()) {
    const auto found = inputs.find(input->name());
    user_check(found != inputs.end(), "input '{}': no tensor was given", input->name());
    given.push_back(found->second);
  }
  std::vector<const Variable*> wanted;
  wanted.reserve(outputs.size());
  for (const std::string& name : outputs) wanted.push_back(&session.variable(name));
  Tensors results = implementation_->run(given, wanted);
  NamedTensors named;
  for (size_t i = 0; i < results.size(); ++i) {
    user_check(results[i].defined(), "'{}' has no value: it is a constant or nothing computes it", outputs[i]);
    named.emplace(outputs[i], std::move(results[i]));
  }
  return named;
}

Piece Executor::compile(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
                        std::vector<const Variable*> outputs) const {
  internal_check(!operations.empty(), "a piece of a graph without operations");
  return Piece(
      new Piece::Implementation{implementation_->session, std::move(operations), std::move(feeds), std::move(outputs)});
}

void Executor::set_hook(Hook hook) {
  Session& session = *implementation_->session;
  session.hook = std::move(hook);
  if (session.settings.watched == static_cast<bool>(session.hook)) return;
  session.settings.watched = !session.settings.watched;
  session.changed();  // some steps leave to the one behind them what nobody sees
}

void Executor::set_dequantized(std::function<bool(const Operation&)> predicate) {
  implementation_->session->settings.dequantized = std::move(predicate);
  implementation_->session->changed();
}

void Executor::set_training(bool training, GradientOptions options) {
  implementation_->session->settings.training = training;
  implementation_->session->settings.gradients = std::move(options);
  implementation_->session->changed();
}

void infer_shapes(Graph& graph, const Tensors& sample) {
  std::unordered_map<const Variable*, std::pair<Shape, at::ScalarType>> seen;
  const auto record = [&](const Variable* variable, const at::Tensor& value) {
    if (variable && value.defined()) seen[variable] = {value.sizes().vec(), value.scalar_type()};
  };
  Executor executor(graph, Precision::Float);
  executor.set_hook([&](SlotEvent& event) {
    if (event.is_output) record(event.operation.output(event.slot), event.value);
  });
  // Every variable is asked for, so that branches without a graph output are traced, too.
  std::vector<const Variable*> ends;
  for (const Operation* operation : graph.operations())
    for (const Variable* output : operation->outputs())
      if (output && output->uses().empty()) ends.push_back(output);
  executor.run(sample, ends);
  for (size_t i = 0; i < sample.size(); ++i) record(graph.inputs()[i], sample[i]);
  for (Variable* variable : graph.variables()) {
    const auto found = seen.find(variable);
    if (found == seen.end()) continue;
    variable->set_shape(found->second.first);
    variable->set_dtype(found->second.second);
  }
}

Tensors zero_inputs(const Graph& graph) {
  Tensors result;
  for (const Variable* input : graph.inputs()) {
    user_check(input->shape().has_value(), "input '{}': its shape is not known", input->name());
    result.push_back(at::zeros(*input->shape(), at::TensorOptions().dtype(input->dtype())));
  }
  return result;
}

}  // namespace espq
