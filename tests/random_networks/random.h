#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <numbers>
#include <random>
#include <vector>

namespace espq::random_networks {

/// Numbers that depend on the seed alone. The standard fixes what the engine gives but not what its distributions make
/// of it, so those are written out.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  /// Both ends included.
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  double real(double low, double high) {
    return low + (high - low) * std::ldexp(static_cast<double>(engine_() >> 11), -53);
  }
  bool chance(double probability) { return real(0, 1) < probability; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - real(0, 1)));
    return radius * std::cos(2 * std::numbers::pi * real(0, 1));
  }

  template <typename T>
  T pick(const std::vector<T>& values) {
    return values[static_cast<size_t>(integer(0, static_cast<int64_t>(values.size()) - 1))];
  }
  template <typename T>
  T pick(std::initializer_list<T> values) {
    return pick(std::vector<T>(values));
  }

  at::Tensor normal(const std::vector<int64_t>& shape, double deviation = 1, double mean = 0) {
    return filled(shape, [&] { return mean + deviation * normal(); });
  }
  at::Tensor uniform(const std::vector<int64_t>& shape, double low, double high) {
    return filled(shape, [&] { return real(low, high); });
  }

 private:
  std::mt19937_64 engine_;

  template <typename Next>
  at::Tensor filled(const std::vector<int64_t>& shape, const Next& next) {
    at::Tensor result = at::empty(shape, at::kFloat);
    float* values = result.data_ptr<float>();
    for (int64_t i = 0; i < result.numel(); ++i) values[i] = static_cast<float>(next());
    return result;
  }
};

}  // namespace espq::random_networks
