#include <bit>
#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/map_floats.h"
#include "core/ops/table.h"
#include "core/support/error.h"

namespace espq {
namespace {

Tensors lut(const ForwardContext& context, const Tensors& inputs) {
  user_check(
      context.operation.has("original_op_type"),
      "operation '{}' (LUT): without attribute original_op_type only its table tells what it computes; run it in "
      "Board precision",
      context.operation.name());
  return tabulated_definition(context.operation).forward(context, inputs);
}

}  // namespace

const OperatorDefinition& tabulated_definition(const Operation& operation) {
  if (operation.type() != "LUT" || !operation.has("original_op_type")) return definition_of(operation);
  const std::string& type = operation.string_attribute("original_op_type");
  const OperatorDefinition* definition = operators().find(type);
  user_check(definition != nullptr, "operation '{}' (LUT): attribute original_op_type names the unknown operator '{}'",
             operation.name(), type);
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
  const auto step = static_cast<int>(context.operation.int_attribute("int16_lut_step", 1));
  const at::Tensor table = build_table(tabulated_definition(context.operation), context.operation, {}, input,
                                       context.outputs[0], step, context.target.rounding);
  return table_kernel(table, input.bits, context.target.rounding);
}

void register_lut_operator(Registry& registry) {
  OperatorDefinition result;
  result.name = "LUT";
  result.inputs = {{"X"}};
  result.outputs = {{"Y"}};
  result.forward = lut;
  result.board = table_board;
  result.quantization.quantizable = true;
  result.quantization.table_int8 = true;
  result.layout = LayoutRule::Follows;
  result.chip = {.registered = true,
                 .int8 = true,
                 .int16 = true,
                 .reads_int16_table = true,
                 .note = "the table must carry the output's exponent"};
  registry.add(std::move(result));
}

}  // namespace espq
