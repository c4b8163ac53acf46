// The chip's integers of every operator, on every chip at both widths, against the reference rounded to the grids.
#include <ATen/ATen.h>

#include <regex>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "passes/pipeline/convert.h"
#include "tests/operator_cases/check.h"
#include "tests/operator_cases/network.h"

namespace espq::test {
namespace {

Recipe recipe_for(const char* target, int bits) {
  Recipe recipe;
  recipe.target = target;
  recipe.widths.bits = bits;
  recipe.simplify.reset();
  recipe.calibration.observer = recipe.calibration.observer_int16 = Observer::MinMax;
  recipe.tables->step = 1;  // an entry for every code: the function is compared, not the distance of entries
  return recipe;
}

/// nullopt where the chip cannot run the operator, or not in this form, and the case knows why.
std::optional<Conversion> converted(const OperatorCase& value, const Tensors& operands, const Recipe& recipe) {
  try {
    return convert(network_of(value, operands), data_of(value, operands), recipe);
  } catch (const UserError& error) {
    const std::string message = error.what();
    static const std::regex no_kernel("'node': chip library [^ ]+ has no [a-z0-9]+ kernel for it");
    const bool known = std::regex_search(message, no_kernel) ||
                       (!value.chip.refusal.empty() && message.find(value.chip.refusal) != std::string::npos);
    EXPECT_TRUE(known) << message;
    return std::nullopt;
  }
}

/// Operands rounded as the quantized graph rounds them: inputs by the chip graph's storage, constants by their slots.
void round_operands(const OperatorCase& value, const Graph& quantized, const Graph& chip, Tensors& operands) {
  const Rounding rounding = chip.target()->rounding;
  for (size_t slot = 0; slot < operands.size(); ++slot) {
    if (!operands[slot].defined() || !operands[slot].is_floating_point()) continue;
    if (!value.operands[slot].constant) {
      const Variable& input = *chip.find_variable(operand_name(slot));
      if (input.storage())
        operands[slot] = fake_quantize(operands[slot], input.storage()->exponents, -1,
                                       input.storage()->dtype == at::kChar ? 8 : 16, rounding);
      continue;
    }
    const Variable* parameter = quantized.find_variable(operand_name(slot));
    if (!parameter || parameter->uses().empty()) continue;
    const ConstUse use = parameter->uses()[0];
    if (!use.operation->quantized()) continue;
    const SlotQuant& quant = use.operation->input_quant().at(use.slot);
    if (quant.is_float()) continue;
    // ConvTranspose became a Conv, whose filters are the given ones turned: output channels were their second axis.
    const int axis = value.type == "ConvTranspose" && slot == 1 && quant.channel_axis >= 0 ? 1 : quant.channel_axis;
    operands[slot] =
        fake_quantize(operands[slot].to(at::kDouble), slot_exponents(quantized, quant), axis, quant.bits, rounding);
  }
}

/// Results of the chip graph in the layout of the float network: codes, or floats where nothing is quantized.
Tensors run_on_chip(const OperatorCase& value, const Graph& chip, const Tensors& operands) {
  Tensors inputs = inputs_of(value, operands);
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = to_chip_layout(*chip.inputs()[i], inputs[i]).contiguous();
  Tensors results = Executor(chip, Precision::Board).run(inputs);
  for (size_t i = 0; i < results.size(); ++i) results[i] = from_chip_layout(*chip.outputs()[i], results[i]);
  return results;
}

void expect_codes(const OperatorCase& value, const at::Tensor& got, const Array& want, const StorageFormat& storage,
                  Rounding rounding) {
  const double step = std::ldexp(1.0, storage.exponents.at(0));
  const int bits = storage.dtype == at::kChar ? 8 : 16;
  const Array result = to_array(got);
  ASSERT_EQ(result.shape, want.shape);
  for (size_t i = 0; i < want.values.size(); ++i) {
    const double code = result.values[i];
    const double real = std::clamp(want.values[i] / step, quant_min(bits), quant_max(bits));
    const bool right =
        value.chip.exact
            ? code == std::clamp(round_scalar(want.values[i] / step, rounding), quant_min(bits), quant_max(bits))
            : std::abs(code - real) <= 0.5 + (bits == 8 ? value.chip.codes : value.chip.codes_at_16_bit);
    if (right) continue;
    ADD_FAILURE() << "element " << i << ": code " << code << ", the reference is " << want.values[i] / step
                  << " steps of 2^" << storage.exponents[0];
    return;
  }
}

class OperatorCasesOnChip : public testing::TestWithParam<const char*> {};

TEST_P(OperatorCasesOnChip, CodesAreTheRoundedReference) {
  int compared = 0, refused = 0;
  for_every_case([&](const OperatorCase& value) {
    if (!value.chip.compared) return;
    for (const int bits : {8, 16}) {
      SCOPED_TRACE(fmt::format("{} bit", bits));
      Tensors operands = make_operands(value, kCaseSeed);
      const auto made = converted(value, operands, recipe_for(GetParam(), bits));
      if (!made) {
        ++refused;
        continue;
      }
      const Graph& chip = made->chip;
      round_operands(value, made->quantized, chip, operands);
      const Tensors got = run_on_chip(value, chip, operands);
      const Arrays want = value.reference(arrays_of(operands));
      ASSERT_EQ(got.size(), value.results);
      for (size_t i = 0; i < got.size(); ++i) {
        const auto& storage = chip.outputs()[i]->storage();
        if (storage && !storage->exponents.empty())
          expect_codes(value, got[i], want[i], *storage, chip.target()->rounding);
        else
          expect_near(to_array(got[i]), want[i], 1e-5, "float result");
      }
      ++compared;
    }
  });
  fmt::print("{}: {} cases compared, {} refused\n", GetParam(), compared, refused);
  if (!std::getenv("ESPQ_CASE")) {
    EXPECT_GT(compared, 4 * refused);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, OperatorCasesOnChip, testing::Values("c", "esp32s3", "esp32p4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace espq::test
