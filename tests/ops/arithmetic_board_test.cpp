// Exact kernels of element-wise arithmetic, grid conversion, Softmax and Resize. Expected numbers come from integer or
// long double models written here, not from the kernels.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/support/error.h"
#include "tests/ops/node_run.h"

using namespace espq;

namespace {

at::Tensor random_codes(const Shape& shape, int bits, uint64_t seed) {
  at::manual_seed(seed);
  return at::randint(-(1 << (bits - 1)), 1 << (bits - 1), shape, at::kFloat);
}

float rounded(long double value, const std::string& target, int bits) {
  const long double whole =
      find_target(target).rounding == Rounding::HalfUp ? std::floor(value + 0.5L) : std::nearbyint(value);
  return static_cast<float>(std::clamp<long double>(whole, quant_min(bits), quant_max(bits)));
}

}  // namespace

TEST(AddBoard, IgnoresExponentsAndSaturates) {
  const BoardNode add{.type = "Add", .inputs = {{8, {-3}}, {8, {-7}}}, .outputs = {{8, {0}}}};
  EXPECT_TRUE(at::equal(add({codes({100, -100, 3}), codes({100})}), codes({127, 0, 103})));
  const BoardNode sub{.type = "Sub", .inputs = {{16, {-3}}, {16, {-3}}}, .outputs = {{16, {-3}}}};
  EXPECT_TRUE(at::equal(sub({codes({-32768, 5}), codes({1, 7})}), codes({-32768, -2})));
}

TEST(MulBoard, ExactProductsOnEveryTarget) {
  for (const char* target : {"c", "esp32s3", "esp32p4"}) {
    for (const Shape& shape : {Shape{3, 5}, Shape{2, 48}}) {
      const BoardNode mul{.type = "Mul", .target = target, .inputs = {{8, {-5}}, {8, {-6}}}, .outputs = {{8, {-4}}}};
      const at::Tensor a = random_codes(shape, 8, 1), b = random_codes(shape, 8, 2);
      const at::Tensor got = mul({a, b}).flatten(), fa = a.flatten(), fb = b.flatten();
      for (int64_t i = 0; i < got.numel(); ++i) {
        // an int8 product has 15 bits: float32 and integers agree
        const long double product = fa[i].item<double>() * fb[i].item<double>();
        ASSERT_EQ(got[i].item<float>(), rounded(std::ldexp(product, -7), target, 8)) << target;
      }
    }
  }
}

// 32767 * 32766 needs 30 bits. The float path rounds the product to 24 bits first and lands on a tie, the integer path
// of the vector units does not.
TEST(MulBoard, Int16RoundsTwiceWithoutVectorUnit) {
  const auto node = [](const char* target) {
    return BoardNode{.type = "Mul", .target = target, .inputs = {{16, {0}}, {16, {0}}}, .outputs = {{16, {15}}}};
  };
  const float a = 32767, b = 16385;  // 536887295 = 16384.5 * 2^15 - 1: just below the tie
  const at::Tensor long_a = at::full({8}, a), long_b = at::full({8}, b);
  EXPECT_EQ(node("c")({long_a, long_b})[0].item<float>(), 16385);
  EXPECT_EQ(node("esp32s3")({long_a, long_b})[0].item<float>(), 16384);
  // seven elements do not fill a vector
  EXPECT_EQ(node("esp32s3")({long_a.slice(0, 0, 7), long_b.slice(0, 0, 7)})[0].item<float>(), 16385);
}

// The kernel is chosen by the innermost axis after neighbours that broadcast alike were merged.
TEST(MulBoard, MergedAxesDecideThePath) {
  const auto node = [](const char* target) {
    return BoardNode{.type = "Mul", .target = target, .inputs = {{16, {0}}, {16, {0}}}, .outputs = {{16, {15}}}};
  };
  const at::Tensor a = at::full({2, 2, 2}, 32767.f), b = at::full({2, 2, 2}, 16385.f);
  EXPECT_EQ(node("esp32s3")({a, b}).flatten()[0].item<float>(), 16384);                 // [8] x [8]
  EXPECT_EQ(node("esp32s3")({a, b.slice(1, 0, 1)}).flatten()[0].item<float>(), 16385);  // [2,2,2] x [2,1,2]
}

TEST(DivBoard, ZeroRules) {
  const BoardNode div{.type = "Div", .target = "c", .inputs = {{8, {0}}, {8, {0}}}, .outputs = {{8, {0}}}};
  EXPECT_TRUE(at::equal(div({codes({0, 5, -5, 7}), codes({0, 0, 0, 2})}), codes({0, 127, -128, 4})));
  EXPECT_TRUE(at::equal(div({codes({0, 5, -5}), codes({2})}), codes({0, 3, -2})));
  // a one-element dividend at int8 goes through a table, where 0 / 0 is the smallest code
  EXPECT_TRUE(at::equal(div({codes({0}), codes({0, 3})}), codes({-128, 0})));
  EXPECT_TRUE(at::equal(div({codes({9}), codes({0, 2})}), codes({127, 5})));
  const BoardNode wide{.type = "Div", .target = "c", .inputs = {{16, {0}}, {16, {0}}}, .outputs = {{16, {0}}}};
  EXPECT_TRUE(at::equal(wide({codes({0}), codes({0, 3})}), codes({0, 0})));
}

TEST(PowModBoard, ThroughFloat) {
  const BoardNode pow{.type = "Pow", .target = "c", .inputs = {{8, {-2}}, {8, {0}}}, .outputs = {{8, {-2}}}};
  EXPECT_TRUE(at::equal(pow({codes({-6, 5}), codes({2})}), codes({9, 6})));  // 1.5^2 = 2.25, 1.25^2 = 6.25 / 4
  const BoardNode mod{.type = "Mod", .target = "c", .inputs = {{8, {0}}, {8, {0}}}, .outputs = {{8, {0}}}};
  EXPECT_TRUE(at::equal(mod({codes({-7, 7, 7}), codes({4, -4, 0})}), codes({-3, 3, 0})));
}

TEST(CompareBoard, RawCodes) {
  const BoardNode less{.type = "Less", .inputs = {{8, {0}}, {8, {-3}}}, .outputs = {{}}};
  const at::Tensor got = less({codes({1, 3}), codes({2})});
  EXPECT_EQ(got.scalar_type(), at::kBool);
  EXPECT_TRUE(at::equal(got, at::tensor({1, 0}, at::kByte).to(at::kBool)));
}

TEST(RequantizeBoard, ShiftsRoundAndSaturate) {
  for (const char* target : {"c", "esp32s3", "esp32p4"}) {
    for (int from : {8, 16}) {
      for (int to : {8, 16}) {
        for (int shift = -6; shift <= 9; ++shift) {
          const BoardNode node{
              .type = "RequantizeLinear", .target = target, .inputs = {{from, {-5}}}, .outputs = {{to, {-5 + shift}}}};
          const at::Tensor x = random_codes({64}, from, 3), got = node({x});
          for (int64_t i = 0; i < 64; ++i) {
            const long double want = std::ldexp(static_cast<long double>(x[i].item<double>()), -shift);
            ASSERT_EQ(got[i].item<float>(), rounded(want, target, to)) << target << from << to << shift;
          }
        }
      }
    }
  }
}

TEST(RequantizeBoard, MultiplierWrapsInItsLane) {
  const auto node = [](const char* target, int shift) {
    return BoardNode{.type = "RequantizeLinear", .target = target, .inputs = {{8, {0}}}, .outputs = {{8, {shift}}}};
  };
  const at::Tensor x = at::ones({64});
  EXPECT_EQ(node("esp32s3", -7)({x})[0].item<float>(), -128);  // 2^7 is -128 in an int8 lane
  EXPECT_EQ(node("esp32s3", -8)({x})[0].item<float>(), 0);
  EXPECT_EQ(node("esp32p4", -7)({x})[0].item<float>(), 127);
  EXPECT_EQ(node("esp32s3", -7)({x.slice(0, 0, 50)})[0].item<float>(), 127);  // short tensors go through float
}

TEST(QuantizeBoard, FloatTensorsBothWays) {
  const BoardNode quantize{.type = "QuantizeLinear", .target = "c", .inputs = {{}}, .outputs = {{8, {-1}}}};
  // the chip adds 0.5 in double and narrows the sum, so the largest value below a tie is rounded up, too
  EXPECT_TRUE(at::equal(quantize({at::tensor({0.75f, -0.75f, 0.24999999f, 1e9f})}), codes({2, -1, 1, 127})));
  const BoardNode even{.type = "QuantizeLinear", .target = "esp32p4", .inputs = {{}}, .outputs = {{8, {-1}}}};
  EXPECT_TRUE(at::equal(even({at::tensor({0.75f, -0.75f, 1.25f})}), codes({2, -2, 2})));
  const BoardNode dequantize{.type = "DequantizeLinear", .inputs = {{16, {-3}}}, .outputs = {{}}};
  EXPECT_TRUE(at::equal(dequantize({codes({12, -1})}), at::tensor({1.5f, -0.125f})));
}

TEST(QuantizeForward, OnnxSemantics) {
  const at::Tensor x = at::tensor({0.f, 2.f, 3.f, 1000.f, -254.f, -1000.f});
  const at::Tensor y = run_one("QuantizeLinear", {x, at::scalar_tensor(2.0), at::tensor(128, at::kByte)});
  EXPECT_TRUE(at::equal(y, at::tensor({128, 129, 130, 255, 1, 0}, at::kByte)));  // the standard's own example
  const at::Tensor back = run_one("DequantizeLinear", {at::tensor({0, 3, 128, 255}, at::kByte), at::scalar_tensor(2.0),
                                                       at::tensor(128, at::kByte)});
  EXPECT_TRUE(at::equal(back, at::tensor({-256.f, -250.f, 0.f, 254.f})));
  const at::Tensor per_axis =
      run_one("DequantizeLinear", {at::ones({1, 2, 2}, at::kChar), at::tensor({2.f, 4.f})}, {{"axis", int64_t{1}}});
  EXPECT_TRUE(at::equal(per_axis.flatten(), at::tensor({2.f, 2.f, 4.f, 4.f})));
}

TEST(SoftmaxBoard, Int8DoesNotSubtractTheMaximum) {
  const BoardNode node{.type = "Softmax", .inputs = {{8, {1}}}, .outputs = {{}}};
  const at::Tensor small = node({codes({10, 20})});
  const double ratio = std::exp(40.0) / (std::exp(20.0) + std::exp(40.0));
  EXPECT_NEAR(small[1].item<double>(), ratio, 1e-6);
  const at::Tensor large = node({codes({10, 50})});  // e^100 overflows float32
  EXPECT_EQ(large[0].item<float>(), 0);
  EXPECT_TRUE(std::isnan(large[1].item<float>()));
  const BoardNode wide{.type = "Softmax", .inputs = {{16, {1}}}, .outputs = {{}}};
  EXPECT_EQ(wide({codes({10, 50})})[1].item<float>(), 1);
}

TEST(SoftmaxBoard, AnyAxis) {
  const at::Tensor x = random_codes({2, 5, 3}, 8, 9);
  for (const char* type : {"Softmax", "LogSoftmax"}) {
    const BoardNode node{.type = type, .inputs = {{8, {-4}}}, .outputs = {{}}, .attributes = {{"axis", int64_t{1}}}};
    const at::Tensor values = (x / 16).to(at::kDouble);
    const at::Tensor want = type == std::string("Softmax") ? at::softmax(values, 1) : at::log_softmax(values, 1);
    EXPECT_TRUE(at::allclose(node({x}).to(at::kDouble), want, 1e-5, 1e-6)) << type;
  }
}
