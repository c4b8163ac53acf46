#include "core/exec/float_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/support/error.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using namespace test;
using test::user_error_of;
using ::testing::HasSubstr;

/// Two inputs; outputs in the chip's order of dimensions (a map) and in the model's (rows). `batch` is the exported
/// one.
Graph two_headed(int64_t batch) {
  at::manual_seed(1);
  GraphBuilder q("esp32p4");
  Variable* a = q.input("a", {batch, 3, 4, 5});
  Variable* b = q.input("b", {batch, 4, 4, 5});
  Variable* map = q.quantized("Add", "map", {q.quantized_conv("c", a, 4, 3), b});
  Variable* rows = q.quantized("Flatten", "rows", {map}, {{"axis", int64_t{1}}});
  q.outputs({rows, map});
  return std::move(q.graph);
}

/// Values on the grid of the graph's inputs.
Tensors two_inputs(int64_t rows) {
  const auto values = [&](int64_t channels) {
    return at::randint(-20, 20, {rows, channels, 4, 5}).to(at::kFloat) / 16;
  };
  return {values(3), values(4)};
}

struct Case {
  int64_t batch, rows;  ///< of the chip graph; of what is run
};

TEST(FloatLayout, ChipGraphsAnswerLikeTheFloatNetwork) {
  for (const Case& c : {Case{1, 1}, Case{1, 5}, Case{2, 6}}) {
    SCOPED_TRACE(fmt::format("{} rows, {} at a time", c.rows, c.batch));
    const Graph quantized = two_headed(c.batch), chip = lower(quantized);
    ASSERT_FALSE(chip.outputs()[1]->permutation().empty()) << "nothing to turn back";
    const Tensors inputs = two_inputs(c.rows);
    // LibTorch's answer.
    const at::Tensor map = at::conv2d(inputs[0], quantized.find_variable("c.weight")->value(), {}, 1, 1) + inputs[1];
    const Tensors wanted{map.flatten(1), map};
    for (const Precision precision : {Precision::Float, Precision::Board}) {
      Executor executor(chip, precision);
      const Tensors got = run_in_float_layout(executor, chip, inputs);
      ASSERT_EQ(got.size(), 2u);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].sizes(), wanted[i].sizes());
        EXPECT_EQ(got[i].scalar_type(), at::kFloat);
        if (precision == Precision::Float) {
          EXPECT_TRUE(at::allclose(got[i], wanted[i], 1e-5, 1e-5)) << i;
          continue;
        }
        // Integers of the grid 2^-4: sums are clipped to it and rounded twice, behind the convolution and the addition.
        const at::Tensor clipped =
            at::clamp(at::conv2d(inputs[0], quantized.find_variable("c.weight")->value(), {}, 1, 1), -8, 127.0 / 16);
        const at::Tensor sum = at::clamp(clipped + inputs[1], -8, 127.0 / 16);
        EXPECT_TRUE(at::equal(got[i] * 16, at::round(got[i] * 16)));
        EXPECT_LE((got[i] - (i == 0 ? sum.flatten(1) : sum)).abs().max().item<double>(), 1.0 / 16) << i;
      }
    }
  }
}

TEST(FloatLayout, TurnsTensorsBothWays) {
  const Graph chip = lower(two_headed(1));
  const Variable& map = *chip.outputs()[1];
  const at::Tensor value = at::randn({1, 4, 4, 5});
  const at::Tensor turned = to_chip_layout(map, value);
  EXPECT_TRUE(at::equal(turned, value.permute({0, 2, 3, 1})));
  EXPECT_TRUE(at::equal(from_chip_layout(map, turned), value));
  EXPECT_TRUE(at::equal(from_chip_layout(*chip.outputs()[0], value), value)) << "rows keep their order";
  EXPECT_THAT(user_error_of([&] { to_chip_layout(map, value[0]); }), HasSubstr("'map': a tensor of 3 dimensions"));
}

TEST(FloatLayout, SaysWhatDoesNotFit) {
  const Graph quantized = two_headed(2), chip = lower(quantized);
  Executor executor(chip, Precision::Board), plain(quantized, Precision::Float);
  const auto error = [&](const Tensors& inputs) {
    return user_error_of([&] { run_in_float_layout(executor, chip, inputs); });
  };
  EXPECT_THAT(error({two_inputs(2)[0]}), HasSubstr("2 inputs, 1 were given"));
  EXPECT_THAT(error(two_inputs(3)), HasSubstr("2 rows at a time; inputs of 3"));
  EXPECT_THAT(error({two_inputs(4)[0], two_inputs(2)[1]}), HasSubstr("2 rows at a time; inputs of 4 and 2"));
  EXPECT_THAT(error({at::zeros({2, 3, 4, 6}), two_inputs(2)[1]}), HasSubstr("input 'a': shape"));
  EXPECT_THAT(user_error_of([&] { run_in_float_layout(plain, quantized, two_inputs(2)); }), HasSubstr("no chip graph"));
}

}  // namespace
}  // namespace espq
