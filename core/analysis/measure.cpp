#include "core/analysis/measure.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {

double measure(Measure kind, const at::Tensor& quantized, const at::Tensor& reference) {
  internal_check(quantized.sizes() == reference.sizes(), "measured tensors differ in shape");
  const auto rows = [](const at::Tensor& value) {
    const at::Tensor real = value.to(at::kDouble);
    return real.dim() <= 1 ? real.reshape({1, -1}) : real.reshape({real.size(0), -1});
  };
  if (reference.numel() == 0) return kind == Measure::Cosine ? 1.0 : 0.0;
  const at::Tensor q = rows(quantized), f = rows(reference);
  switch (kind) {
    case Measure::NoiseToSignal:
      return ((q - f).square().sum(1) / (f.square().sum(1) + 1e-7)).mean().item<double>();
    case Measure::Cosine:
      return at::cosine_similarity(q, f, 1).mean().item<double>();
    case Measure::MeanSquaredError:
      return (q - f).square().mean(1).mean().item<double>();
  }
  internal_check(false, "unknown measure");
  return 0;
}

Measure parse_measure(std::string_view word) {
  if (word == "snr") return Measure::NoiseToSignal;
  if (word == "cosine") return Measure::Cosine;
  if (word == "mse") return Measure::MeanSquaredError;
  user_error("unknown error measure '{}'; use snr, cosine or mse", word);
}

}  // namespace espq
