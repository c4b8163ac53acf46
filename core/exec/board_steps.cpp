#include <ATen/ATen.h>

#include "core/exec/chip_grid.h"
#include "core/exec/step_parts.h"
#include "core/ops/lookup_table.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// A parameter as exact kernels want it: codes in float32, wide ones in float64, the rest as stored.
at::Tensor parameter_codes(const Variable& variable, const Grid& grid) {
  if (!grid.quantized()) return variable.value();
  return variable.value().to(grid.bits > 16 ? at::kDouble : at::kFloat).contiguous();
}

/// The integers of the chip library; the executed graph is the one that the exporter writes.
class BoardCompiler final : public StepCompiler {
 public:
  using StepCompiler::StepCompiler;

  std::vector<Step> steps(const std::vector<const Operation*>& order,
                          const std::vector<const Variable*>& /*requested*/) override {
    user_check(graph_.is_chip(), "Board precision runs the chip graph: lower the quantized graph first");
    user_check(graph_.target(), "Board precision needs to know the target chip");
    std::vector<Step> result;
    result.reserve(order.size());
    for (const Operation* operation : order) result.push_back(step(*operation));
    return result;
  }

  at::Tensor enter(const Variable& input, const at::Tensor& value) const override {
    user_check(!value.defined() || value.is_cpu(),
               "input '{}': Board precision computes on the processor, the tensor is on {}; give input.cpu()",
               input.name(), value.device().str());
    check_input(graph_, input, value);
    if (variable_grid(&input).quantized()) return input_codes(graph_, input, value);
    return value.scalar_type() == at::kDouble ? value.to(at::kFloat) : value;
  }

  at::Tensor leave(const Variable& output, const at::Tensor& value) const override {
    if (!output.storage() || !value.defined()) return value;
    const at::ScalarType dtype = output.storage()->dtype;
    const bool integers = dtype == at::kChar || dtype == at::kShort;
    if (!integers || !value.is_floating_point()) return value.contiguous();
    return at::empty(value.sizes(), value.options().dtype(dtype)).copy_(value);
  }

 private:
  Step step(const Operation& operation) const {
    const OperatorDefinition& definition = definition_of(operation);
    Step result(operation);
    turn_channels(result);
    BoardContext context{operation, *graph_.target(), {}, {}, {}, look_up_table(operation)};
    bool any_grid = false;
    for (size_t slot = 0; slot < result.inputs.size(); ++slot) {
      StepInput& input = result.inputs[slot];
      const Grid& grid = context.inputs.emplace_back(input_grid(operation, slot));
      if (input.parameter) input.constant = parameter_codes(*input.variable, grid);
      context.parameters.push_back(input.constant);
      any_grid |= grid.quantized();
    }
    for (size_t slot = 0; slot < result.outputs.size(); ++slot)
      any_grid |= context.outputs.emplace_back(output_grid(operation, slot)).quantized();
    if (!any_grid) {  // F32 operators compute in float on the chip, too
      use_forward(result, {.operation = operation, .chip = true, .lowered = true, .target = graph_.target()});
    } else if (context.table.defined() && context.inputs[0].bits == 8) {
      result.kernel = table_kernel(context.table, 8, context.target.rounding);
    } else {
      user_check(definition.chip.board,
                 "{} '{}': espq has no exact kernel for this operator, Board precision cannot run it", operation.type(),
                 operation.name());
      result.kernel = definition.chip.board(context);
    }
    return result;
  }
};

}  // namespace

std::unique_ptr<StepCompiler> board_compiler(const Graph& graph, const ExecutionSettings& settings) {
  return std::make_unique<BoardCompiler>(graph, settings);
}

}  // namespace espq
