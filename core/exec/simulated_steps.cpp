#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_map>

#include "core/exec/chip_grid.h"
#include "core/exec/step_parts.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// One operand or result of a quantized operation.
SlotPlace operand_place(const Operation& operation, size_t slot) { return {operation, static_cast<int>(slot), false}; }
SlotPlace result_place(const Operation& operation, size_t slot) { return {operation, static_cast<int>(slot), true}; }

/// Floats that are rounded where the chip rounds, differentiable. Of a chip graph, with the grids of its storage.
class SimulatedCompiler final : public StepCompiler {
 public:
  using StepCompiler::StepCompiler;

  std::vector<Step> steps(const std::vector<const Operation*>& order,
                          const std::vector<const Variable*>& requested) override {
    user_check(graph_.target(), "Simulated precision needs a quantized graph (or a target)");
    std::vector<Step> result;
    if (graph_.is_chip()) {
      for (const Operation* operation : order) result.push_back(chip_step(*operation));
      return result;
    }
    const bool fuses = settings_.training && !settings_.watched;
    const auto rectifiers = fuses ? find_rectifiers(order, requested) : Rectifiers{};
    for (const Operation* operation : order) {
      if (rectifiers.fused.count(operation)) continue;
      const auto behind = rectifiers.behind.find(operation);
      result.push_back(step(*operation, behind == rectifiers.behind.end() ? nullptr : behind->second));
    }
    return result;
  }

  at::Tensor enter(const Variable& input, const at::Tensor& value) const override {
    return enter_floats(graph_, input, value);
  }

 private:
  /// Training: the operations that compute max(x, 0) and round it, by the operation in front that does it for them.
  struct Rectifiers {
    std::unordered_map<const Operation*, const Operation*> behind;
    std::unordered_set<const Operation*> fused;
  };
  mutable std::unordered_map<const SlotQuant*, SharedRounding> roundings_;

  Rounding ties() const { return graph_.target()->rounding; }
  bool simulates(const Operation& operation) const {
    return !(settings_.dequantized && settings_.dequantized(operation));
  }

  // ---------------------------------------------------------------------------------------------- slots
  /// The slot rounds when its operation runs.
  bool rounds(const SlotPlace& place) const {
    return place.operation.quantized() && simulates(place.operation) && place.quant().quantizes();
  }

  GridRounding plain_rounding(const SlotQuant& slot) const {
    return {slot_grid(graph_, slot), slot.channel_axis, ties(),
            slot.channel_axis < 0 || settings_.gradients.mask_per_channel};
  }

  /// One object per slot in training.
  const SharedRounding& rounding_of(const SlotPlace& place) const {
    SharedRounding& rounding = roundings_[&place.quant()];
    if (rounding) return rounding;
    GridRounding plain = plain_rounding(place.quant());
    if (settings_.gradients.rounding) rounding = settings_.gradients.rounding(place, plain);
    if (!rounding) rounding = std::make_shared<StraightThroughRounding>(std::move(plain));
    return rounding;
  }

  /// The grid that a tensor lies on behind a slot that rounds.
  Grid grid_behind(const SlotPlace& place) const {
    return settings_.training ? rounding_of(place)->grid() : slot_grid(graph_, place.quant());
  }

  /// The tensor that reaches `slot` is already on the slot's grid: rounding it again would change nothing.
  bool already_on_grid(const Variable& variable, const SlotQuant& slot) const {
    if (!variable.producer()) return false;
    const SlotPlace source = result_place(*variable.producer(), variable.producer_slot());
    return rounds(source) && source.quant().channel_axis < 0 && slot.channel_axis < 0 &&
           grid_behind(source) == slot_grid(graph_, slot);
  }

  bool rounds_operand(const SlotPlace& place) const {
    const Variable* input = place.operation.input(place.slot);
    return input && rounds(place) && (input->is_parameter() || !already_on_grid(*input, place.quant()));
  }

  bool rounds_result(const SlotPlace& place) const {
    return rounds(place) && !keeps_grid(place.operation, place.quant());
  }

  /// The operation only moves values, and those that reach it are on the grid of its output.
  bool keeps_grid(const Operation& operation, const SlotQuant& output) const {
    const OperatorDefinition& definition = definition_of(operation);
    if (definition.chip.board != &board_on_codes || output.channel_axis >= 0) return false;
    const Grid wanted = slot_grid(graph_, output);
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot) {
      const Variable* input = operation.input(slot);
      if (!input || definition.input_spec(slot).role == OperandRole::Index) continue;
      const SlotPlace place = operand_place(operation, slot);
      const bool same = rounds(place) && place.quant().channel_axis < 0 && grid_behind(place) == wanted;
      if (!same && !already_on_grid(*input, output)) return false;
    }
    return true;
  }

  /// The grid that a tensor lies on because its producer, or one before it that only moves values, put it there.
  Grid produced_grid(const Variable& variable) const {
    const Operation* producer = variable.producer();
    if (!producer || !producer->quantized() || !simulates(*producer)) return {};
    const SlotPlace place = result_place(*producer, variable.producer_slot());
    if (rounds(place) && place.quant().channel_axis < 0) return grid_behind(place);
    const bool moves = place.quant().state == SlotState::Carries && definition_of(*producer).quantization.passive;
    return moves && producer->input(0) ? produced_grid(*producer->input(0)) : Grid{};
  }

  /// The grid of what the kernel gets for an operand; bits = 0 where none is known.
  Grid operand_grid(const SlotPlace& place) const {
    if (place.quant().quantizes()) return grid_behind(place);
    const Variable* input = place.operation.input(place.slot);
    return input ? produced_grid(*input) : Grid{};
  }

  // ---------------------------------------------------------------------------------------------- tables
  /// A 16-bit function that the chip reads from a table (of a chip graph: `stored`); the gradient is the function's.
  bool use_table(Step& step, const Grid& input, const Grid& output, const at::Tensor& stored) const {
    const Operation& operation = *step.operation;
    const OperatorDefinition& definition = definition_of(operation);
    if (input.bits != 16 || !input.quantized() || !output.quantized()) return false;
    step.kernel = [kernel = definition.chip.board({operation, *graph_.target(), {input}, {output}, {}, stored}), input,
                   output, ties = ties(), &operation, forward = definition.forward](const Tensors& inputs) -> Tensors {
      const at::Tensor& value = inputs[0];
      const at::Tensor codes = quantize_to_codes(value.detach(), input.exponents, -1, input.bits, ties);
      const at::Tensor result = dequantize(kernel({codes.cpu()})[0].to(value.device()), output.exponents, -1);
      if (!value.requires_grad()) return {result};
      const at::Tensor ideal = forward({.operation = operation, .chip = true}, {value})[0];
      return {ideal + (result - ideal).detach()};
    };
    return true;
  }

  bool is_tabulated(const Operation& operation) const {
    return operation.quantized() && simulates(operation) && definition_of(operation).chip.reads_int16_table &&
           operation.chip().table_step.has_value() && operation.input_quant()[0].bits == 16 &&
           operation.output_quant()[0].bits != 0;
  }

  // ---------------------------------------------------------------------------------------------- steps
  Step chip_step(const Operation& operation) const {
    Step result = chip_float_step(graph_, operation);
    if (!simulates(operation)) return result;
    for (size_t slot = 0; slot < result.outputs.size(); ++slot) {
      const Grid grid = output_grid(operation, slot);
      if (grid.quantized()) result.outputs[slot].round = given_away({.grid = grid, .rounding = ties()});
    }
    if (definition_of(operation).chip.reads_int16_table && operation.chip().table)
      use_table(result, input_grid(operation, 0), output_grid(operation, 0), look_up_table(operation));
    return result;
  }

  /// `rectifier`: the operation behind it whose work it does, too.
  Step step(const Operation& operation, const Operation* rectifier) const {
    Step result(operation);
    const ForwardContext context{.operation = operation, .chip = true};
    use_forward(result, context);
    const bool table =
        is_tabulated(operation) && use_table(result, slot_grid(graph_, operation.input_quant()[0]),
                                             slot_grid(graph_, operation.output_quant()[0]), at::Tensor());
    if (settings_.training) {
      round_with_gradients(result, context, rectifier, !table);
    } else {
      round_without_gradients(result);
    }
    return result;
  }

  void round_without_gradients(Step& step) const {
    for (size_t slot = 0; slot < step.inputs.size(); ++slot) {
      const SlotPlace place = operand_place(*step.operation, slot);
      if (!rounds_operand(place)) continue;
      const SlotFunction round = [rounding = plain_rounding(place.quant())](const at::Tensor& value) {
        return fake_quantize(value, rounding.grid.exponents, rounding.channel_axis, rounding.grid.bits,
                             rounding.rounding);
      };
      StepInput& input = step.inputs[slot];
      if (input.parameter) {
        input.constant = round(*input.parameter);
      } else {
        input.round = round;
      }
    }
    for (size_t slot = 0; slot < step.outputs.size(); ++slot) {
      const SlotPlace place = result_place(*step.operation, slot);
      if (rounds_result(place)) step.outputs[slot].round = given_away(plain_rounding(place.quant()));
    }
    if (!settings_.watched && rounds_result(result_place(*step.operation, 0))) clamp_while_rounding(step);
  }

  /// One pass over memory instead of two, with the same values.
  void clamp_while_rounding(Step& step) const {
    const std::optional<ClipBounds> bounds = constant_bounds(step);
    const GridRounding rounding = plain_rounding(result_place(*step.operation, 0).quant());
    if (!bounds || !rounding.per_tensor()) return;
    pass_operand_on(step);
    step.outputs[0].round = [bounds = *bounds, rounding](at::Tensor value) {
      return fake_quantize_clamped(std::move(value), bounds, rounding.grid, rounding.rounding);
    };
  }

  /// Rounding of a result that its kernel gives away.
  static SlotFunction given_away(GridRounding rounding) {
    return [rounding = std::move(rounding)](at::Tensor value) {
      return fake_quantize_result(std::move(value), rounding.grid.exponents, rounding.channel_axis, rounding.grid.bits,
                                  rounding.rounding);
    };
  }

  void round_with_gradients(Step& step, const ForwardContext& forward, const Operation* rectifier,
                            bool may_be_node) const {
    const Operation& operation = *step.operation;
    TrainingContext context{forward, {}, {}};
    for (size_t slot = 0; slot < step.inputs.size(); ++slot) {
      const SlotPlace place = operand_place(operation, slot);
      context.operands.push_back(rounds_operand(place) ? rounding_of(place) : nullptr);
      const bool known = operation.quantized() && simulates(operation);
      context.grids.push_back(known ? operand_grid(place) : Grid{});
    }
    for (size_t slot = 1; slot < step.outputs.size(); ++slot) {
      const SlotPlace place = result_place(operation, slot);
      if (!rounds_result(place)) continue;
      step.outputs[slot].round = [rounding = rounding_of(place)](const at::Tensor& value) {
        return rounding->round(value);
      };
    }
    const SlotPlace first = result_place(rectifier ? *rectifier : operation, 0);
    if (rounds_result(first)) context.result = rounding_of(first);
    context.relu = rectifier != nullptr;
    if (rectifier) step.outputs[0].variable = rectifier->output(0);
    use_training(step, settings_, std::move(context), may_be_node);
  }

  /// One pass over memory instead of two where max(x, 0) stands between an operation and a rounding.
  Rectifiers find_rectifiers(const std::vector<const Operation*>& order,
                             const std::vector<const Variable*>& requested) const {
    Rectifiers result;
    std::unordered_set<const Operation*> before;
    for (const Operation* operation : order) {
      const Operation* front = front_of(*operation, requested);
      if (front && before.count(front) && result.behind.emplace(front, operation).second) {
        result.fused.insert(operation);
      } else if (operation->outputs().size() == 1) {
        before.insert(operation);
      }
    }
    return result;
  }

  /// The operation whose result a rectifier alone reads, where nothing is rounded in between.
  const Operation* front_of(const Operation& rectifier, const std::vector<const Variable*>& requested) const {
    if (!definition_of(rectifier).training.rectifies || !rectifier.input(0)) return nullptr;
    const Variable& between = *rectifier.input(0);
    const Operation* front = between.producer();
    const bool wanted = std::find(requested.begin(), requested.end(), &between) != requested.end();
    if (!front || wanted || between.uses().size() != 1) return nullptr;
    if (!rounds_result(result_place(rectifier, 0)) || rounds_operand(operand_place(rectifier, 0))) return nullptr;
    if (is_tabulated(rectifier) || is_tabulated(*front) || rounds_result(result_place(*front, 0))) return nullptr;
    return front;
  }
};

}  // namespace

std::unique_ptr<StepCompiler> simulated_compiler(const Graph& graph, const ExecutionSettings& settings) {
  return std::make_unique<SimulatedCompiler>(graph, settings);
}

}  // namespace espq
