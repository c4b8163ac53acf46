#include "core/ops/lookup_table.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <bit>
#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

Tensors lut(const ForwardContext& context, const Tensors& inputs) {
  user_check(
      !context.operation.chip().function.empty(),
      "operation '{}' (LUT): only its table tells what it computes, the file does not; run it in Board precision",
      context.operation.name());
  return tabulated_definition(context.operation).forward(context, inputs);
}

ESPQ_CLONES void look_up(const float* table, const float* codes, float* answers, int64_t count) {
  for (int64_t i = 0; i < count; ++i) answers[i] = table[static_cast<int32_t>(codes[i])];
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
  at::Tensor answers = table.to(at::kFloat).contiguous();
  if (shift > 0) {
    // Which entry a code reads is the same every time: the answers for all codes once.
    const at::Tensor entries = answers;
    const float* values = entries.const_data_ptr<float>();
    answers = at::empty({2 * offset}, at::kFloat);
    float* answer = answers.mutable_data_ptr<float>();
    for (int64_t index = 0; index < 2 * offset; ++index)
      answer[index] = values[chip::rounding_right_shift(index, shift, rounding)];
  }
  return [answers, offset](const Tensors& inputs) -> Tensors {
    const float* of_code = answers.const_data_ptr<float>() + offset;
    const at::Tensor codes = inputs[0].is_non_overlapping_and_dense() ? inputs[0] : inputs[0].contiguous();
    at::Tensor result = at::empty_like(codes);
    const float* in = codes.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    at::parallel_for(0, codes.numel(), 1 << 14,
                     [&](int64_t begin, int64_t end) { look_up(of_code, in + begin, out + begin, end - begin); });
    return {result};
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
