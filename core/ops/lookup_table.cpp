#include "core/ops/lookup_table.h"

#include <bit>
#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/kernels/map_floats.h"
#include "core/support/error.h"

namespace espq {
namespace {

Tensors lut(const ForwardContext& context, const Tensors& inputs) {
  user_check(
      !context.operation.chip().function.empty(),
      "operation '{}' (LUT): only its table tells what it computes, the file does not; run it in Board precision",
      context.operation.name());
  return tabulated_definition(context.operation).forward(context, inputs);
}

}  // namespace

const OperatorDefinition& tabulated_definition(const Operation& operation) {
  const std::string& function = operation.chip().function;
  if (operation.type() != "LUT" || function.empty()) return definition_of(operation);
  const OperatorDefinition* definition = operators().find(function);
  user_check(definition != nullptr, "operation '{}' (LUT): its table is of the unknown operator '{}'", operation.name(),
             function);
  return *definition;
}

int64_t table_size(int bits, int step) { return bits == 8 ? 256 : step == 1 ? 65536 : 65536 / step + 1; }

at::Tensor build_table(const OperatorDefinition& definition, const Operation& operation, Tensors operands,
                       const Grid& input, const Grid& output, int step, Rounding rounding) {
  user_check(step > 0 && std::has_single_bit(static_cast<unsigned>(step)),
             "operation '{}': the step of a lookup table is a power of two, not {}", operation.name(), step);
  const int64_t size = table_size(input.bits, step);
  if (input.bits == 8) step = 1;
  const at::Tensor codes =
      at::arange(size, at::kFloat) * static_cast<double>(step) + static_cast<double>(quant_min(input.bits));
  if (operands.empty()) operands.emplace_back();
  operands[0] = codes * std::ldexp(1.0, input.exponent());
  const at::Tensor values = definition.forward({.operation = operation, .chip = true}, operands)[0];
  const at::Tensor scaled = values.to(at::kFloat) * std::ldexp(1.0, -output.exponent());
  const at::Tensor rounded = round_tensor(scaled, rounding).clamp(quant_min(output.bits), quant_max(output.bits));
  return rounded.reshape({size}).to(output.bits == 8 ? at::kChar : at::kShort);
}

BoardKernel table_kernel(const at::Tensor& table, int bits, Rounding rounding) {
  const int64_t size = table.numel();
  const int64_t step = bits == 8 || size == 65536 ? 1 : size > 1 ? 65536 / (size - 1) : 0;
  user_check(
      step > 0 && std::has_single_bit(static_cast<uint64_t>(step)) && size == table_size(bits, static_cast<int>(step)),
      "a lookup table of {} entries does not fit {}-bit codes", size, bits);
  const int shift = std::countr_zero(static_cast<uint64_t>(step));
  const auto offset = static_cast<int64_t>(-quant_min(bits));
  return [entries = table.to(at::kFloat).contiguous(), shift, offset, rounding](const Tensors& inputs) -> Tensors {
    const float* values = entries.const_data_ptr<float>() + (shift == 0 ? offset : 0);
    if (shift == 0) return one(map_floats(inputs[0], [values](float code) { return values[static_cast<int>(code)]; }));
    return one(map_floats(inputs[0], [=](float code) {
      return values[chip::rounding_right_shift(static_cast<int64_t>(code) + offset, shift, rounding)];
    }));
  };
}

BoardKernel table_board(const BoardContext& context) {
  const Grid& input = context.inputs[0];
  if (!input.quantized()) return board_on_values(context);
  if (context.table.defined()) return table_kernel(context.table, input.bits, context.target.rounding);
  const int step = context.operation.chip().table_step.value_or(1);
  const at::Tensor table = build_table(tabulated_definition(context.operation), context.operation, {}, input,
                                       context.outputs[0], step, context.target.rounding);
  return table_kernel(table, input.bits, context.target.rounding);
}

Operators lookup_table_operators() {
  return {
      {.name = "LUT",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .forward = lut,
       .quantization = {.quantizable = true, .table_int8 = true},
       .layout = LayoutRule::Elementwise,
       .first_stage = Stage::Quantized,
       .chip = {.board = table_board,
                .kernels = kIntegerWidths,
                .reads_int16_table = true,
                .note = "the table must carry the output's exponent"}},
  };
}

}  // namespace espq
