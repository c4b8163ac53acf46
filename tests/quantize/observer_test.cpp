#include "passes/quantize/observer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "core/data/dataset.h"
#include "core/support/file.h"

namespace espq {
namespace {

// The rules of esp-ppq 1.3.12, whose results tests/data/make_observers.py recorded.
constexpr Quirks kReference{.symmetric_range = true, .mse_by_levels = true};

class RecordedObservers : public testing::Test {
 protected:
  static std::filesystem::path folder() { return std::filesystem::path(ESPQ_TEST_DATA) / "observers"; }
  const nlohmann::json expected = nlohmann::json::parse(read_file(folder() / "expected.json"));
  const std::map<std::string, at::Tensor> tensors = read_npz(folder() / "tensors.npz");
};

std::vector<at::Tensor> batches_of(const std::map<std::string, at::Tensor>& tensors, const std::string& name) {
  std::vector<at::Tensor> batches;
  for (int i = 0; tensors.count(fmt::format("{}.{}", name, i)); ++i)
    batches.push_back(tensors.at(fmt::format("{}.{}", name, i)));
  return batches;
}

int observed_exponent(Observer method, int bits, const std::vector<at::Tensor>& batches, const Quirks& quirks = {}) {
  TensorObserver observer(method, bits, {}, quirks);
  for (const at::Tensor& batch : batches) observer.observe(batch);
  if (observer.two_phase())
    for (const at::Tensor& batch : batches) observer.observe_again(batch);
  return observer.exponent();
}

TEST_F(RecordedObservers, GiveTheRecordedExponents) {
  const std::map<std::string, Observer> methods = {{"minmax", Observer::MinMax},
                                                   {"percentile", Observer::Percentile},
                                                   {"kl", Observer::KlDivergence},
                                                   {"mse", Observer::MeanSquaredError}};
  int compared = 0;
  for (const auto& [name, exponents] : expected.items()) {
    const auto batches = batches_of(tensors, name);
    ASSERT_FALSE(batches.empty()) << name;
    for (const auto& [key, exponent] : exponents.items()) {
      const std::string method = key.substr(0, key.find('_'));
      if (method == "channels") continue;
      const int bits = std::stoi(key.substr(key.find('_') + 1));
      EXPECT_EQ(observed_exponent(methods.at(method), bits, batches, kReference), exponent.get<int>())
          << name << " " << key;
      ++compared;
    }
  }
  EXPECT_GT(compared, 200);
}

TEST_F(RecordedObservers, GiveTheRecordedExponentsPerChannel) {
  for (int axis : {0, 1}) {
    const std::string name = fmt::format("weight_axis{}", axis);
    EXPECT_EQ(exponents_of_channels(tensors.at(name + ".0"), axis, 8, RangeRule::Symmetric),
              expected.at(name).at("channels_8").get<std::vector<int>>());
  }
}

TEST(Histogram, EqualsTheLibrarysOwn) {
  at::manual_seed(3);
  for (int bins : {2048, 4096}) {
    for (double scale : {1e-4, 0.7, 3.0, 1234.5}) {
      const at::Tensor value = at::randn({3, 50, 70}) * scale;
      const float range = value.abs().max().item<float>();
      at::Tensor histogram = at::zeros({bins}, at::kInt);
      add_to_histogram(value.transpose(0, 2), range, histogram);  // order of the elements does not matter
      EXPECT_TRUE(at::equal(histogram, at::histc(value.abs(), bins, 0, range).to(at::kInt))) << bins << " " << scale;
    }
  }
}

TEST(Histogram, DropsValuesAboveTheRange) {
  at::Tensor histogram = at::zeros({4}, at::kInt);
  add_to_histogram(at::tensor({0.0f, 0.9f, -1.0f, 4.0f, 4.1f, -9.0f}), 4.0f, histogram);
  EXPECT_TRUE(at::equal(histogram, at::tensor({2, 1, 0, 1}, at::kInt)));
}

TEST(Histogram, CountsValuesAboveTheRangeInTheLastBinWhereAsked) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinite = std::numeric_limits<float>::infinity();
  const at::Tensor value = at::tensor({0.0f, 0.9f, -1.0f, 4.0f, 4.1f, -9.0f, nan, infinite});
  for (const int bins : {4, 4096}) {
    at::Tensor histogram = at::zeros({bins}, at::kInt), clipped = at::zeros({bins}, at::kInt);
    add_to_histogram(value, 4.0f, histogram, Beyond::LastBin);
    add_to_histogram(value.clamp(-4, 4), 4.0f, clipped);
    EXPECT_TRUE(at::equal(histogram, clipped));
    EXPECT_EQ(histogram[bins - 1].item<int>(), 4);
  }
}

TEST(RangeRules, TightRuleUsesTheLowestCode) {
  EXPECT_EQ(exponent_of_range(-128, 127, 8, RangeRule::Tight), 0);
  EXPECT_EQ(exponent_of_range(-128, 127, 8, RangeRule::Symmetric), 1);
  EXPECT_EQ(exponent_of_range(-128.6, 0, 8, RangeRule::Tight), 1);
  EXPECT_EQ(exponent_of_range(0, 127.4, 8, RangeRule::Tight), 0);
  EXPECT_EQ(exponent_of_range(3, 200, 8, RangeRule::Tight), 1);  // zero always belongs to the range
}

// Squared error of the tensor itself on the grid of that exponent.
double true_error(const at::Tensor& value, int exponent, int bits) {
  const double step = std::ldexp(1.0, exponent);
  const at::Tensor rounded =
      at::clamp(at::round(value.to(at::kDouble) / step), quant_min(bits), quant_max(bits)) * step;
  return (rounded - value).square().mean().item<double>();
}

TEST(MeanSquaredError, FindsTheBestPowerOfTwo) {
  at::manual_seed(5);
  for (int bits : {8, 16}) {
    for (int i = 0; i < 12; ++i) {
      // Heavier tails from sample to sample, so that clipping pays in some.
      at::Tensor value = at::randn({4000}) * std::ldexp(1.0, i - 6);
      value = value * value.abs().pow(0.4 * i);
      const int found = observed_exponent(Observer::MeanSquaredError, bits, {value});
      double best = std::numeric_limits<double>::infinity();
      for (int exponent = -40; exponent < 40; ++exponent) best = std::min(best, true_error(value, exponent, bits));
      // The histogram knows values to 1/2048 of the range only: a near tie may fall either way.
      EXPECT_LE(true_error(value, found, bits), 1.02 * best) << bits << " bits, sample " << i;
    }
  }
}

// The second look is at a network whose first layers round by then.
TEST(MeanSquaredError, CountsWhatLiesALittleBeyondTheFirstLook) {
  at::manual_seed(6);
  at::Tensor value = at::randn({400}) * 0.3;
  value[7] = 10;
  at::Tensor moved = value.clone();
  moved[7] = 10.001;
  TensorObserver observer(Observer::MeanSquaredError, 8);
  observer.observe(value);
  observer.observe_again(moved);
  int best = 0;
  for (int exponent = -12; exponent < 4; ++exponent)
    if (true_error(moved, exponent, 8) < true_error(moved, best, 8)) best = exponent;
  EXPECT_EQ(observer.exponent(), best);
}

TEST(Observers, ShowNotANumber) {
  TensorObserver observer(Observer::MinMax, 8);
  observer.observe(at::tensor({1.0f, std::numeric_limits<float>::quiet_NaN()}));
  EXPECT_TRUE(std::isnan(observer.range()));
}

}  // namespace
}  // namespace espq
