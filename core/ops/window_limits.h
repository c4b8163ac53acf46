#pragma once
#include <vector>

#include "core/ops/operator.h"
#include "core/ops/window.h"

// What chip library 3.3.9 reads of sliding windows: Conv and the pools cut the window at the borders of the input, in
// zones (head, body, tail) whose lengths they compute in a way that holds for usual padding only.
namespace espq {

/// True where the library's zones at the borders are right, so that a Conv or a pool can pad by itself. `input` is the
/// shape [N, C, spatial...].
bool convolves_padded(const Window& window, const Shape& input);
bool pools_padded(const Window& window, const Shape& input);

/// Limits of Conv beside its groups.
std::vector<Limit> convolution_limits();
/// Limits that MaxPool and AveragePool share.
std::vector<Limit> pool_limits();
/// AveragePool: the divisor is the whole kernel area.
extern const Limit kPartialArea;

}  // namespace espq
