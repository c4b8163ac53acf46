#pragma once
#include <vector>

#include "core/ops/operator.h"

// What chip library 3.3.9 reads of sliding windows: Conv and the pools cut the window at the borders of the input, in
// zones (head, body, tail) whose lengths they compute in a way that holds for usual padding only.
namespace espq {

/// Limits of Conv beside its groups.
std::vector<Limit> convolution_limits();
/// Limits that MaxPool and AveragePool share.
std::vector<Limit> pool_limits();
/// AveragePool: the divisor is the whole kernel area.
extern const Limit kPartialArea;

}  // namespace espq
