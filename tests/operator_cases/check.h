#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <sstream>

#include "tests/operator_cases/operator_case.h"

namespace espq::test {

inline constexpr uint64_t kCaseSeed = 20;

inline std::string text_of(const OperatorCase& value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

/// Runs `check` on every case, whose description and seed stand in what fails. ESPQ_CASE=text runs only the cases in
/// whose description the text stands.
template <typename Check>
void for_every_case(Check&& check) {
  const char* chosen = std::getenv("ESPQ_CASE");
  for (const OperatorCase& value : operator_cases()) {
    const std::string text = text_of(value);
    if (chosen && text.find(chosen) == std::string::npos) continue;
    SCOPED_TRACE(fmt::format("{} [seed {}]", text, kCaseSeed));
    try {
      check(value);
    } catch (const std::exception& error) {
      ADD_FAILURE() << "threw: " << error.what();
    }
  }
}

inline Arrays arrays_of(const Tensors& tensors) {
  Arrays result;
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.defined() ? to_array(tensor) : Array{});
  return result;
}

inline double largest_magnitude(const Array& values) {
  double result = 1;
  for (const double value : values.values)
    if (std::isfinite(value)) result = std::max(result, std::abs(value));
  return result;
}

/// Every element within `tolerance`, relative to the largest magnitude of `want` (at least 1).
inline void expect_near(const Array& got, const Array& want, double tolerance, const char* what) {
  ASSERT_EQ(got.shape, want.shape) << what;
  ASSERT_EQ(got.values.size(), want.values.size());
  const double bound = tolerance * largest_magnitude(want);
  for (size_t i = 0; i < want.values.size(); ++i)
    if (!(std::abs(got.values[i] - want.values[i]) <= bound)) {
      ADD_FAILURE() << what << ", element " << i << ": " << got.values[i] << ", expected " << want.values[i];
      return;
    }
}

}  // namespace espq::test
