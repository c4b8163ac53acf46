#pragma once
#include <ATen/core/Tensor.h>

#include <string_view>

namespace espq {

/// How far a quantized result is from its float reference. All measures flatten each sample (axis 0; a 1-D tensor is
/// one sample) and average over samples.
enum class Measure {
  NoiseToSignal,     ///< sum (q - f)^2 / (sum f^2 + 1e-7): 0 is perfect
  Cosine,            ///< cosine of the angle between both: 1 is perfect
  MeanSquaredError,  ///< mean (q - f)^2: 0 is perfect
};

/// Throws InternalError when the shapes differ.
double measure(Measure kind, const at::Tensor& quantized, const at::Tensor& reference);

/// "snr", "cosine", "mse". Throws UserError on another word.
Measure parse_measure(std::string_view word);

}  // namespace espq
