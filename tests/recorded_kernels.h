#pragma once
#include <ATen/ATen.h>

#include <cmath>

namespace espq::test {

/// Whether MKL rounds here as where esp-ppq's numbers were recorded: there the root of 0x1.cc03f4p-1 was the number
/// above the nearest one, which newer processors of Intel give. Functions and sums then differ in other last bits, too,
/// in esp-ppq as in espq.
inline bool kernels_of_the_recording() {
  constexpr float square = 0x1.cc03f4p-1F;
  return at::sqrt(at::full({4}, square))[1].item<float>() != std::sqrt(square);
}

}  // namespace espq::test
