#include "core/exec/plan.h"

#include <unordered_set>

#include "core/ops/table.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"

namespace espq {
namespace {

int storage_bits(at::ScalarType dtype) {
  return dtype == at::kChar ? 8 : dtype == at::kShort ? 16 : dtype == at::kInt ? 32 : dtype == at::kLong ? 64 : 0;
}

/// A parameter of a chip graph as kernels want it: codes in float32, wide ones in float64, the rest as stored.
at::Tensor parameter_codes(const Variable& variable, const Grid& grid) {
  if (!grid.quantized()) return variable.value();
  return variable.value().to(grid.bits > 16 ? at::kDouble : at::kFloat).contiguous();
}

/// A parameter of a chip graph as a float tensor.
at::Tensor parameter_value(const Operation& operation, size_t slot, const Grid& grid) {
  const Variable& variable = *operation.input(slot);
  if (!grid.quantized()) return variable.value();
  const auto axis_of = definition_of(operation).quantization.weight_channel_axis;
  int axis = grid.exponents.size() == 1 ? -1 : 0;
  // A lowered Gemm or Conv always has its output channels first.
  if (axis == 0 && slot == 1 && !axis_of) axis = -1;
  return dequantize(variable.value(), grid.exponents, axis).to(at::kFloat);
}

at::Tensor table_of(const Graph& graph, const Operation& operation) {
  if (!operation.has("lut")) return {};
  const std::string& name = operation.string_attribute("lut");
  const Variable* table = graph.find_variable(name);
  user_check(table && table->is_parameter(), "{} '{}': its look-up table '{}' is not in the file", operation.type(),
             operation.name(), name);
  return table->value();
}

void compile_board(const Graph& graph, const OperatorDefinition& definition, Step& step) {
  const Operation& operation = *step.operation;
  BoardContext context{operation, *graph.target(), {}, {}, {}, table_of(graph, operation)};
  bool any_grid = false;
  for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
    context.inputs.push_back(input_grid(operation, slot));
    const Variable* input = operation.input(slot);
    const bool parameter = input && input->is_parameter();
    context.parameters.push_back(parameter ? parameter_codes(*input, context.inputs.back()) : at::Tensor());
    if (parameter) step.constants[slot] = context.parameters.back();
    any_grid |= context.inputs.back().quantized();
  }
  for (size_t slot = 0; slot < operation.outputs().size(); ++slot) {
    context.outputs.push_back(output_grid(operation, slot));
    any_grid |= context.outputs.back().quantized();
  }
  if (!any_grid) {  // F32 operators compute in float on the chip, too
    step.forward = definition.forward;
    user_check(step.forward, "{} '{}': no float kernel", operation.type(), operation.name());
    return;
  }
  if (context.table.defined() && context.inputs[0].bits == 8) {
    step.board = table_kernel(context.table, 8, context.target.rounding);
    return;
  }
  user_check(definition.board, "{} '{}': espq has no exact kernel for this operator, Board precision cannot run it",
             operation.type(), operation.name());
  step.board = definition.board(context);
}

/// The tensor that reaches `slot` is already on the slot's grid: rounding it again would change nothing.
bool already_on_grid(const PlanRequest& request, const Variable& variable, const SlotQuant& slot) {
  const Graph& graph = request.graph;
  const Operation* producer = variable.producer();
  if (!producer || !producer->quantized() || (request.dequantized && request.dequantized(*producer))) return false;
  const SlotQuant& source = producer->output_quant()[variable.producer_slot()];
  return source.quantizes() && source.bits == slot.bits && source.channel_axis < 0 && slot.channel_axis < 0 &&
         slot_exponents(graph, source) == slot_exponents(graph, slot);
}

/// The grid that a tensor lies on because its producer, or one before it that only moves values, put it there.
Grid produced_grid(const PlanRequest& request, const Variable& variable) {
  const Operation* producer = variable.producer();
  if (!producer || !producer->quantized() || (request.dequantized && request.dequantized(*producer))) return {};
  const SlotQuant& slot = producer->output_quant()[variable.producer_slot()];
  if (slot.quantizes() && slot.channel_axis < 0) return slot_grid(request.graph, slot);
  const bool moves = slot.state == SlotState::Carries && definition_of(*producer).quantization.passive;
  return moves && producer->input(0) ? produced_grid(request, *producer->input(0)) : Grid{};
}

/// The grid of what reaches `slot`; bits = 0 where none is known.
Grid operand_grid(const PlanRequest& request, const Operation& operation, size_t slot) {
  const SlotQuant& quant = operation.input_quant()[slot];
  if (quant.quantizes()) return slot_grid(request.graph, quant);
  return operation.input(slot) ? produced_grid(request, *operation.input(slot)) : Grid{};
}

/// The operation only moves values, and those that reach it are on the grid of its output.
bool keeps_grid(const PlanRequest& request, const OperatorDefinition& definition, const Operation& operation,
                const SlotQuant& output) {
  if (definition.board != &board_on_codes || output.channel_axis >= 0) return false;
  for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
    const Variable* input = operation.input(slot);
    if (!input || definition.input_spec(slot).role == OperandRole::Index) continue;
    const SlotQuant& quant = operation.input_quant()[slot];
    const bool same = quant.quantizes() && quant.bits == output.bits && quant.channel_axis < 0 &&
                      slot_exponents(request.graph, quant) == slot_exponents(request.graph, output);
    if (!same && !already_on_grid(request, *input, output)) return false;
  }
  return true;
}

/// The table that a 16-bit function will be (or is, in a chip graph); the gradient is that of the function.
std::function<at::Tensor(const at::Tensor&)> simulated_table(const Graph& graph, const OperatorDefinition& definition,
                                                             const Operation& operation) {
  if (!definition.chip.reads_int16_table || !operation.has(graph.is_chip() ? "lut" : "int16_lut_step")) return nullptr;
  const Grid input = graph.is_chip() ? input_grid(operation, 0) : slot_grid(graph, operation.input_quant()[0]);
  const Grid output = graph.is_chip() ? output_grid(operation, 0) : slot_grid(graph, operation.output_quant()[0]);
  if (input.bits != 16 || !input.quantized() || !output.quantized()) return nullptr;
  const at::Tensor stored = graph.is_chip() ? table_of(graph, operation) : at::Tensor();
  return [kernel = definition.board({operation, *graph.target(), {input}, {output}, {}, stored}), input, output,
          rounding = graph.target()->rounding, &operation, forward = definition.forward](const at::Tensor& value) {
    const at::Tensor codes = quantize_to_codes(value.detach(), input.exponents, -1, input.bits, rounding);
    const at::Tensor result = dequantize(kernel({codes.cpu()})[0].to(value.device()), output.exponents, -1);
    if (!value.requires_grad()) return result;
    const at::Tensor ideal = forward({.operation = operation, .chip = true}, {value})[0];
    return ideal + (result - ideal).detach();
  };
}

void compile_float(const PlanRequest& request, const OperatorDefinition& definition, Step& step) {
  const Operation& operation = *step.operation;
  const Graph& graph = request.graph;
  step.forward = definition.forward;
  user_check(step.forward, "{} '{}': espq has no float kernel for this operator", operation.type(), operation.name());
  const bool simulate =
      request.precision == Precision::Simulated && !(request.dequantized && request.dequantized(operation));
  for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
    const Variable* input = operation.input(slot);
    if (!input) continue;
    if (graph.is_chip()) {
      if (input->is_parameter()) step.constants[slot] = parameter_value(operation, slot, input_grid(operation, slot));
      continue;
    }
    const bool quantizes = simulate && operation.quantized() && operation.input_quant()[slot].quantizes();
    if (!input->is_parameter()) {
      step.quantize_input[slot] = quantizes && !already_on_grid(request, *input, operation.input_quant()[slot]);
    } else if (request.cache_parameters) {
      const SlotQuant* quant = quantizes ? &operation.input_quant()[slot] : nullptr;
      step.constants[slot] = quant ? fake_quantize(input->value(), slot_exponents(graph, *quant), quant->channel_axis,
                                                   quant->bits, graph.target()->rounding)
                                   : input->value();
    } else {
      step.quantize_input[slot] = quantizes;
    }
  }
  for (size_t slot = 0; simulate && slot < operation.outputs().size(); ++slot) {
    if (graph.is_chip()) {
      step.quantize_output[slot] = output_grid(operation, slot).quantized();
    } else if (operation.quantized() && operation.output_quant()[slot].quantizes()) {
      step.quantize_output[slot] = !keeps_grid(request, definition, operation, operation.output_quant()[slot]);
    }
  }
  if (simulate && (graph.is_chip() || operation.quantized()))
    step.table = simulated_table(graph, definition, operation);
  if (!graph.is_chip()) step.node = definition.training_node;
  if (step.node == TrainingNode::Convolution && simulate && operation.quantized())
    step.convolution_input = operand_grid(request, operation, 0);
  step.relu = graph.is_chip() && operation.string_attribute("activation", "Linear") == "Relu";
}

void mark_layouts(const Graph& graph, const OperatorDefinition& definition, Step& step) {
  if (!graph.is_chip()) return;
  if (definition.layout != LayoutRule::ChannelsLast && definition.layout != LayoutRule::Resize) return;
  for (size_t slot = 0; slot < step.inputs.size(); ++slot) {
    const Variable* input = step.operation->input(slot);
    if (input && !input->is_parameter()) step.input_layout[slot] = Layout::ChannelsFirst;
  }
  std::fill(step.output_layout.begin(), step.output_layout.end(), Layout::ChannelsFirst);
}

/// Lets the step in front of a Relu do its work where rounding follows: one pass over memory instead of two.
void fuse_relus(Plan& plan) {
  std::unordered_map<int, size_t> producers;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    Step& relu = plan.steps[i];
    const Variable* between = relu.node == TrainingNode::Relu ? relu.operation->input(0) : nullptr;
    const auto found = between ? producers.find(relu.inputs[0]) : producers.end();
    const bool wanted = std::find(plan.requested.begin(), plan.requested.end(), between) != plan.requested.end();
    if (found == producers.end() || wanted || between->uses().size() != 1 || !relu.quantize_output[0] ||
        relu.quantize_input[0] || relu.table) {
      for (int output : relu.outputs)
        if (relu.outputs.size() == 1) producers[output] = i;
      continue;
    }
    Step& producer = plan.steps[found->second];
    if (producer.quantize_output[0] || producer.table || producer.fused_relu) continue;
    producer.outputs[0] = relu.outputs[0];
    producer.quantize_output[0] = true;
    producer.fused_relu = relu.operation;
    relu.operation = nullptr;
  }
  std::erase_if(plan.steps, [](const Step& step) { return !step.operation; });
}

void mark_last_uses(Plan& plan) {
  std::vector<char> keep(plan.index.size(), false);
  for (const Variable* variable : plan.requested) keep[plan.index.at(variable)] = true;
  for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
    for (const std::vector<int>* list : {&step->inputs, &step->outputs})
      for (int index : *list)
        if (index >= 0 && !keep[index]) {
          keep[index] = true;
          step->release.push_back(index);
        }
  }
}

}  // namespace

Grid variable_grid(const Variable* variable, bool bias) {
  if (!variable || !variable->storage() || variable->storage()->exponents.empty()) return {};
  const int bits = storage_bits(variable->storage()->dtype);
  if (bits > 16 && !bias) return {};  // plain integers (axes, indices), not a grid
  return {bits, variable->storage()->exponents};
}

Grid input_grid(const Operation& operation, size_t slot) {
  const OperatorDefinition& definition = definition_of(operation);
  if (definition.input_spec(slot).role == OperandRole::Index) return {};
  return variable_grid(operation.input(slot), definition.quantization.bias && slot == 2);
}

Grid output_grid(const Operation& operation, size_t slot) { return variable_grid(operation.output(slot)); }

Plan compile_plan(const PlanRequest& request) {
  const Graph& graph = request.graph;
  if (request.precision == Precision::Board) {
    user_check(graph.is_chip(), "Board precision runs the chip graph: lower the quantized graph first");
    user_check(graph.target(), "Board precision needs to know the target chip");
  }
  if (request.precision == Precision::Simulated)
    user_check(graph.target(), "Simulated precision needs a quantized graph (or a target)");
  Plan plan;
  const auto index_of = [&](const Variable* variable) {
    return variable ? plan.index.try_emplace(variable, static_cast<int>(plan.index.size())).first->second : -1;
  };
  for (const Operation* operation : request.order) {
    const OperatorDefinition& definition = definition_of(*operation);
    Step step;
    step.operation = operation;
    for (const Variable* input : operation->inputs()) step.inputs.push_back(index_of(input));
    for (const Variable* output : operation->outputs()) step.outputs.push_back(index_of(output));
    step.constants.resize(step.inputs.size());
    step.quantize_input.resize(step.inputs.size(), false);
    step.input_layout.resize(step.inputs.size(), Layout::OfFile);
    step.quantize_output.resize(step.outputs.size(), false);
    step.output_layout.resize(step.outputs.size(), Layout::OfFile);
    mark_layouts(graph, definition, step);
    if (request.precision == Precision::Board) {
      compile_board(graph, definition, step);
    } else {
      compile_float(request, definition, step);
    }
    plan.steps.push_back(std::move(step));
  }
  for (const Variable* variable : request.requested) index_of(variable);
  plan.requested = request.requested;
  if (request.fuse_relu) fuse_relus(plan);
  plan.layout.resize(plan.index.size(), Layout::OfFile);
  for (const Step& step : plan.steps)
    for (size_t slot = 0; slot < step.outputs.size(); ++slot)
      if (step.outputs[slot] >= 0) plan.layout[step.outputs[slot]] = step.output_layout[slot];
  mark_last_uses(plan);
  return plan;
}

}  // namespace espq
