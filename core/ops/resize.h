#pragma once
#include <string>
#include <vector>

#include "core/ops/operator.h"

namespace espq {

/// What a Resize asks for, with one entry per axis of the input.
struct ResizePlan {
  std::string mode, coordinates, nearest_mode;
  std::vector<int64_t> input, output;
  std::vector<float> scales;
  std::vector<double> roi_start, roi_end;
  bool sizes_given = false, exclude_outside = false, antialias = false;
  float cubic_coefficient = -0.75f, extrapolation = 0;
};

ResizePlan plan_resize(const Operation& operation, const Tensors& inputs);

/// Exact kernel of Resize.
BoardKernel resize_board(const BoardContext& context);

}  // namespace espq
