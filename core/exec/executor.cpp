#include "core/exec/executor.h"

#include <ATen/Context.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "core/exec/plan.h"
#include "core/ops/conv_gradient.h"
#include "core/ops/swish_gradient.h"
#include "core/quant/fake_quantize.h"
#include "core/quant/quantize_gradient.h"
#include "core/support/error.h"
#include "core/support/first_line.h"

namespace espq {
namespace {

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

at::Tensor channels_first(const at::Tensor& value) {
  if (value.dim() == 4) return value.permute({0, 3, 1, 2});
  return value.dim() == 3 ? value.permute({0, 2, 1}) : value;
}

at::Tensor channels_last(const at::Tensor& value) {
  if (value.dim() == 4) return value.permute({0, 2, 3, 1});
  return value.dim() == 3 ? value.permute({0, 2, 1}) : value;
}

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

}  // namespace

struct Executor::Implementation {
  const Graph& graph;
  Precision precision;
  Hook hook;
  std::function<bool(const Operation&)> dequantized;
  bool training = false;
  GradientOptions gradient_options;
  std::map<std::vector<std::string>, Plan> plans;
  std::map<std::pair<std::vector<const Operation*>, std::vector<std::string>>, Plan> partial_plans;
  const Plan* whole_plan = nullptr;  ///< the one of `plans` that gives the graph's outputs

  Implementation(const Graph& source, Precision wanted) : graph(source), precision(wanted) {}

  const Variable& variable(const std::string& name) const {
    const Variable* found = graph.find_variable(name);
    user_check(found, "the graph has no tensor named '{}'", name);
    return *found;
  }

  Plan compile(std::vector<const Operation*> order, const std::vector<std::string>& outputs) const {
    std::vector<const Variable*> requested;
    for (const std::string& name : outputs) requested.push_back(&variable(name));
    if (order.empty()) order = needed_operations(graph, requested);
    const bool fuse_relu = training && !hook && precision == Precision::Simulated && !graph.is_chip();
    return compile_plan({graph, precision, std::move(order), std::move(requested), !training, fuse_relu, dequantized});
  }

  const Plan& outputs_plan() {
    if (!whole_plan) whole_plan = &plan(names_of(graph.outputs()));
    return *whole_plan;
  }

  const Plan& plan(const std::vector<std::string>& outputs) {
    const auto found = plans.find(outputs);
    return found != plans.end() ? found->second : plans.emplace(outputs, compile({}, outputs)).first->second;
  }

  void check_shape(const Variable& input, const at::Tensor& value) const {
    if (!input.shape()) return;
    const Shape& want = *input.shape();
    bool same = value.dim() == static_cast<int64_t>(want.size());
    // Calibration and training may use larger batches than the exported network.
    for (size_t axis = 0; same && axis < want.size(); ++axis)
      same = value.size(axis) == want[axis] || (axis == 0 && !graph.is_chip());
    user_check(same, "input '{}': shape {} was given, {} is expected", input.name(), shape_text(value.sizes()),
               shape_text(want));
  }

  /// What flows inside a plan: codes in Board precision, floats otherwise.
  at::Tensor enter(const Variable& input, const at::Tensor& value) const {
    user_check(value.defined(), "input '{}': no tensor was given", input.name());
    user_check(precision != Precision::Board || value.is_cpu(),
               "input '{}': Board precision computes on the processor, the tensor is on {}; give input.cpu()",
               input.name(), value.device().str());
    check_shape(input, value);
    const Grid grid = graph.is_chip() ? variable_grid(&input) : Grid{};
    if (!grid.quantized()) return value.scalar_type() == at::kDouble ? value.to(at::kFloat) : value;
    at::Tensor codes;
    if (value.is_floating_point()) {
      codes =
          quantize_to_codes(value.to(at::kFloat).contiguous(), grid.exponents, -1, grid.bits, graph.target()->rounding);
    } else {
      user_check(value.scalar_type() == input.storage()->dtype,
                 "input '{}': dtype {} was given; give {} (the integers of the file) or float32", input.name(),
                 c10::toString(value.scalar_type()), c10::toString(input.storage()->dtype));
      codes = value.to(at::kFloat);
    }
    return precision == Precision::Board ? codes : dequantize(codes, grid.exponents, -1);
  }

  at::Tensor leave(const Variable& output, const at::Tensor& value) const {
    if (precision != Precision::Board || !output.storage() || !value.defined()) return value;
    const at::ScalarType dtype = output.storage()->dtype;
    const bool integers = dtype == at::kChar || dtype == at::kShort;
    if (!integers || !value.is_floating_point()) return value.contiguous();
    return at::empty(value.sizes(), value.options().dtype(dtype)).copy_(value);
  }

  at::Tensor quantized(const SlotQuant& slot, const at::Tensor& value) const {
    if (training) return quantized_with_gradient(slot, value);
    return fake_quantize(value, slot_exponents(graph, slot), slot.channel_axis, slot.bits, graph.target()->rounding);
  }

  at::Tensor quantized_with_gradient(const SlotQuant& slot, const at::Tensor& value, bool relu = false) const {
    const auto learned = gradient_options.log2_scales.find(graph.scales().root(slot.scale));
    return fake_quantize_with_gradient(
        value, slot_exponents(graph, slot), slot.channel_axis, slot.bits, graph.target()->rounding,
        slot.channel_axis < 0 || gradient_options.mask_per_channel,
        learned != gradient_options.log2_scales.end() ? learned->second : at::Tensor(), relu);
  }

  static const SlotQuant& output_quant(const Step& step, size_t slot) {
    return (step.fused_relu ? step.fused_relu : step.operation)->output_quant()[slot];
  }

  bool learns(const SlotQuant& slot) const {
    return slot.scale != kNoScale && gradient_options.log2_scales.count(graph.scales().root(slot.scale));
  }
  /// Runs as one node of the gradient graph.
  bool is_single_node(const Step& step, TrainingNode node) const {
    return training && step.node == node && !hook && at::GradMode::is_enabled();
  }
  /// The node rounds its result itself.
  bool result_is_rounded_inside(const Step& step) const {
    if (!step.quantize_output[0] || gradient_options.results.count(step.operation)) return false;
    const SlotQuant& quant = output_quant(step, 0);
    return quant.channel_axis < 0 && !learns(quant);
  }
  /// The node rounds this operand itself.
  bool is_rounded_inside(const Step& step, size_t slot) const {
    return is_single_node(step, TrainingNode::Convolution) && slot > 0 && step.quantize_input[slot] &&
           step.operation->input(slot)->is_parameter() && !learns(step.operation->input_quant()[slot]);
  }
  ConvGradientOptions::Parameter inside_rounding(const Step& step, size_t slot) const {
    if (slot >= step.inputs.size() || step.inputs[slot] < 0 || !is_rounded_inside(step, slot)) return {};
    const SlotQuant& quant = step.operation->input_quant()[slot];
    return {slot_grid(graph, quant), quant.channel_axis, quant.channel_axis < 0 || gradient_options.mask_per_channel};
  }

  /// A Conv with its rounding as one node of the gradient graph; says whether the rounding is done.
  at::Tensor convolution(const Step& step, const Tensors& inputs, bool& rounded) const {
    const Operation& operation = *step.operation;
    ConvGradientOptions options{.round_filters = inside_rounding(step, 1), .round_bias = inside_rounding(step, 2)};
    if (graph.target()) options.rounding = graph.target()->rounding;
    options.input = step.convolution_input;
    if (options.input.quantized() && operation.input_quant()[1].quantizes())
      options.filters = slot_grid(graph, operation.input_quant()[1]);
    rounded = result_is_rounded_inside(step);
    if (rounded) {
      options.output = slot_grid(graph, output_quant(step, 0));
      options.relu = step.fused_relu != nullptr;
    }
    return convolve_with_gradient(operation, inputs[0], inputs[1], inputs.size() > 2 ? inputs[2] : at::Tensor(),
                                  options);
  }

  /// An Add or Swish with its rounding as one node of the gradient graph; undefined where it is none.
  at::Tensor rounded_node(const Step& step, const Tensors& inputs) const {
    const bool add = is_single_node(step, TrainingNode::Addition);
    const bool swish = is_single_node(step, TrainingNode::Swish) && step.operation->float_attribute("alpha") == 1;
    if ((!add && !swish) || !result_is_rounded_inside(step)) return {};
    const SlotQuant& quant = output_quant(step, 0);
    const std::vector<int>& exponents = slot_exponents(graph, quant);
    const Rounding rounding = graph.target()->rounding;
    const bool relu = step.fused_relu != nullptr;
    if (add) return add_and_quantize_with_gradient(inputs[0], inputs[1], exponents, quant.bits, rounding, relu);
    if (!has_grid_rows(inputs[0], exponents)) return {};
    return swish_with_gradient(inputs[0], RowRounding{grid_floats(exponents[0], quant.bits), rounding, relu});
  }

  at::Tensor quantized_output(const Step& step, size_t slot, at::Tensor value) const {
    const Rounding rounding = graph.target()->rounding;
    if (graph.is_chip()) {
      const Grid grid = output_grid(*step.operation, slot);
      return fake_quantize_result(std::move(value), grid.exponents, -1, grid.bits, rounding);
    }
    const SlotQuant& quant = output_quant(step, slot);
    if (training) return quantized_with_gradient(quant, value, step.fused_relu != nullptr);
    return fake_quantize_result(std::move(value), slot_exponents(graph, quant), quant.channel_axis, quant.bits,
                                rounding);
  }

  /// What the hook makes of a value; it sees the file's order of dimensions.
  at::Tensor observed(const Step& step, int slot, bool is_output, const at::Tensor& raw, const at::Tensor& value,
                      Layout layout) const {
    SlotEvent event{*step.operation, slot, is_output, in_layout(raw, layout, Layout::OfFile),
                    in_layout(value, layout, Layout::OfFile)};
    hook(event);
    return in_layout(event.value, Layout::OfFile, layout);
  }

  at::Tensor gather(const Plan& plan, const Step& step, size_t slot, const std::vector<at::Tensor>& values) const {
    const int index = step.inputs[slot];
    const Variable& variable = *step.operation->input(slot);
    const at::Tensor& raw = variable.is_parameter() ? variable.value() : values[index];
    user_check(raw.defined(), "{} '{}': its input '{}' has no value", step.operation->type(), step.operation->name(),
               variable.name());
    const bool constant = step.constants[slot].defined();
    at::Tensor value = constant ? step.constants[slot]
                       : step.quantize_input[slot] && !is_rounded_inside(step, slot)
                           ? quantized(step.operation->input_quant()[slot], raw)
                           : raw;
    const Layout have = plan.layout[index];
    if (hook) value = observed(step, static_cast<int>(slot), false, raw, value, have);
    return in_layout(value, have, step.input_layout[slot]);
  }

  Tensors gather(const Plan& plan, const Step& step, const std::vector<at::Tensor>& values) const {
    Tensors inputs(step.inputs.size());
    for (size_t slot = 0; slot < inputs.size(); ++slot)
      if (step.inputs[slot] >= 0) inputs[slot] = gather(plan, step, slot, values);
    return inputs;
  }

  Tensors compute(const Step& step, const Tensors& inputs, bool& rounded) const {
    try {
      if (step.board) return step.board(inputs);
      if (step.table) return {step.table(inputs[0])};
      if (is_single_node(step, TrainingNode::Convolution)) return {convolution(step, inputs, rounded)};
      if (const at::Tensor value = rounded_node(step, inputs); value.defined()) {
        rounded = true;
        return {value};
      }
      const bool chip = precision != Precision::Float || graph.is_chip();
      Tensors outputs =
          step.forward({*step.operation, chip, graph.is_chip(), graph.is_chip() ? graph.target() : nullptr}, inputs);
      if (step.relu) outputs[0] = at::relu(outputs[0]);
      return outputs;
    } catch (const c10::Error& error) {
      user_error("{} '{}': cannot be computed: {}", step.operation->type(), step.operation->name(), first_line(error));
    }
  }

  void run_step(const Plan& plan, const Step& step, std::vector<at::Tensor>& values) const {
    bool rounded = false;
    Tensors outputs = compute(step, gather(plan, step, values), rounded);
    if (outputs.size() < step.outputs.size())
      internal_check(false, step.operation->type() + ": kernel gave too few outputs");
    if (training && !gradient_options.results.empty()) {
      const auto change = gradient_options.results.find(step.operation);
      if (change != gradient_options.results.end()) outputs[0] = change->second(outputs[0]);
    }
    for (size_t slot = 0; slot < step.outputs.size(); ++slot) {
      if (step.outputs[slot] < 0) continue;
      const at::Tensor raw = hook ? outputs[slot] : at::Tensor();
      at::Tensor value = std::move(outputs[slot]);
      if (step.quantize_output[slot] && !rounded) value = quantized_output(step, slot, std::move(value));
      if (hook) value = observed(step, static_cast<int>(slot), true, raw, value, step.output_layout[slot]);
      values[step.outputs[slot]] = std::move(value);
    }
    for (int index : step.release) values[index].reset();
  }

  Tensors execute(const Plan& plan, const std::vector<std::pair<const Variable*, at::Tensor>>& feed) const {
    c10::AutoGradMode gradients(training && c10::GradMode::is_enabled());
    const at::NoTF32Guard whole_float32;  // CUDA would drop 13 bits of what it multiplies
    std::vector<at::Tensor> values(plan.index.size());
    for (const auto& [input, value] : feed) {
      const auto found = plan.index.find(input);
      if (found != plan.index.end()) values[found->second] = value;
    }
    for (const Step& step : plan.steps) run_step(plan, step, values);
    Tensors results;
    for (const Variable* variable : plan.requested) {
      const int index = plan.index.at(variable);
      const at::Tensor& value = values[index];
      results.push_back(value.defined() ? in_layout(value, plan.layout[index], Layout::OfFile)
                                        : variable->value());  // a constant may be a graph output
    }
    return results;
  }
};

Executor::Executor(const Graph& graph, Precision precision)
    : implementation_(std::make_unique<Implementation>(graph, precision)) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;

Tensors Executor::run(const Tensors& inputs) {
  Implementation& self = *implementation_;
  const Graph& graph = self.graph;
  user_check(inputs.size() == graph.inputs().size(), "{} input tensors were given, the graph has {} inputs",
             inputs.size(), graph.inputs().size());
  std::vector<std::pair<const Variable*, at::Tensor>> feed;
  for (size_t i = 0; i < inputs.size(); ++i)
    feed.emplace_back(graph.inputs()[i], self.enter(*graph.inputs()[i], inputs[i]));
  Tensors results = self.execute(self.outputs_plan(), feed);
  for (size_t i = 0; i < results.size(); ++i) results[i] = self.leave(*graph.outputs()[i], results[i]);
  return results;
}

NamedTensors Executor::run(const NamedTensors& inputs, const std::vector<std::string>& outputs) {
  Implementation& self = *implementation_;
  for (const auto& [name, value] : inputs) {
    const Variable& input = self.variable(name);
    user_check(self.graph.is_input(&input), "'{}' is not an input of the graph", name);
  }
  std::vector<std::pair<const Variable*, at::Tensor>> feed;
  for (const Variable* input : self.graph.inputs()) {
    const auto given = inputs.find(input->name());
    user_check(given != inputs.end(), "input '{}': no tensor was given", input->name());
    feed.emplace_back(input, self.enter(*input, given->second));
  }
  const Tensors results = self.execute(self.plan(outputs), feed);
  NamedTensors named;
  for (size_t i = 0; i < results.size(); ++i) {
    user_check(results[i].defined(), "'{}' has no value: it is a constant or nothing computes it", outputs[i]);
    named.emplace(outputs[i], self.leave(self.variable(outputs[i]), results[i]));
  }
  return named;
}

Tensors Executor::run_operations(const std::vector<const Operation*>& operations, const NamedTensors& feed,
                                 const std::vector<std::string>& outputs) {
  Implementation& self = *implementation_;
  const auto key = std::make_pair(operations, outputs);
  auto found = self.partial_plans.find(key);
  if (found == self.partial_plans.end())
    found = self.partial_plans.emplace(key, self.compile(operations, outputs)).first;
  std::vector<std::pair<const Variable*, at::Tensor>> values;
  for (const auto& [name, value] : feed) values.emplace_back(&self.variable(name), value);
  return self.execute(found->second, values);
}

void Executor::set_hook(Hook hook) {
  implementation_->hook = std::move(hook);
  if (implementation_->training) invalidate();  // plans without a hook skip values that it wants to see
}

void Executor::set_dequantized(std::function<bool(const Operation&)> predicate) {
  implementation_->dequantized = std::move(predicate);
  invalidate();
}

void Executor::invalidate() {
  implementation_->whole_plan = nullptr;
  implementation_->plans.clear();
  implementation_->partial_plans.clear();
}

void Executor::set_training(bool training, GradientOptions options) {
  implementation_->training = training;
  implementation_->gradient_options = std::move(options);
  invalidate();
}

void infer_shapes(Graph& graph, const Tensors& sample) {
  Executor executor(graph, Precision::Float);
  const auto record = [](Variable* variable, const at::Tensor& value) {
    if (!variable || !value.defined()) return;
    variable->set_shape(value.sizes().vec());
    variable->set_dtype(value.scalar_type());
  };
  std::unordered_map<const Operation*, Operation*> handles;
  for (Operation* operation : graph.operations()) handles.emplace(operation, operation);
  executor.set_hook([&](SlotEvent& event) {
    if (event.is_output) record(handles.at(&event.operation)->output(event.slot), event.value);
  });
  // Every variable is asked for, so that branches without a graph output are traced, too.
  std::vector<std::string> names;
  NamedTensors feed;
  user_check(sample.size() == graph.inputs().size(), "{} sample tensors were given, the graph has {} inputs",
             sample.size(), graph.inputs().size());
  for (size_t i = 0; i < sample.size(); ++i) feed.emplace(graph.inputs()[i]->name(), sample[i]);
  for (const Operation* operation : graph.operations())
    for (const Variable* output : operation->outputs())
      if (output && output->uses().empty()) names.push_back(output->name());
  executor.run(feed, names);
  for (size_t i = 0; i < sample.size(); ++i) record(graph.inputs()[i], sample[i]);
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
