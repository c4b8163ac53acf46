#include "passes/lowering/resize_operands.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/support/error.h"

namespace espq::lowering {
namespace {

constexpr size_t kRoi = 1, kScales = 2, kSizes = 3;

bool is_given(const Variable* operand) { return operand && operand->is_parameter() && operand->value().numel() > 0; }

/// `given` values at `axes`, `others` elsewhere.
at::Tensor spread(const at::Tensor& given, const at::Tensor& others, const std::vector<int64_t>& axes) {
  at::Tensor result = others.to(given.scalar_type()).clone();
  for (size_t i = 0; i < axes.size(); ++i) result[axes[i]] = given[static_cast<int64_t>(i)];
  return result;
}

void set(Variable& operand, at::Tensor value) { operand.set_value(std::move(value)); }

/// One scale for all resized axes: the smallest (not_larger) or largest (not_smaller) of those that the sizes ask for.
at::Tensor keep_aspect_ratio(const at::Tensor& sizes, const Shape& input_shape, const std::vector<int64_t>& axes,
                             bool not_larger) {
  at::Tensor result = sizes.clone();
  double scale = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const double wanted = sizes[axes[i]].item<double>() / static_cast<double>(input_shape[axes[i]]);
    scale = i == 0 ? wanted : not_larger ? std::min(scale, wanted) : std::max(scale, wanted);
  }
  for (int64_t axis : axes) result[axis] = static_cast<int64_t>(std::floor(scale * input_shape[axis] + 0.5));
  return result;
}

}  // namespace

void complete_resize_operands(Operation& resize, const Shape& input_shape) {
  const auto rank = static_cast<int64_t>(input_shape.size());
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  if (resize.has("axes")) {
    axes = resize.ints_attribute("axes");
    for (int64_t& axis : axes) {
      user_check(axis >= -rank && axis < rank, "Resize '{}': axis {} does not exist in a tensor of rank {}",
                 resize.name(), axis, rank);
      if (axis < 0) axis += rank;
    }
    if (is_given(resize.input(kScales)))
      set(*resize.input(kScales), spread(resize.input(kScales)->value(), at::ones(rank), axes));
    if (is_given(resize.input(kSizes)))
      set(*resize.input(kSizes), spread(resize.input(kSizes)->value(), at::tensor(input_shape, at::kLong), axes));
    if (is_given(resize.input(kRoi))) {
      const at::Tensor roi = resize.input(kRoi)->value();
      const auto count = static_cast<int64_t>(axes.size());
      set(*resize.input(kRoi), at::cat({spread(roi.slice(0, 0, count), at::zeros(rank), axes),
                                        spread(roi.slice(0, count), at::ones(rank), axes)}));
    }
    resize.remove_attribute("axes");
  }
  const std::string policy = resize.string_attribute("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch" || !is_given(resize.input(kSizes))) return;
  set(*resize.input(kSizes),
      keep_aspect_ratio(resize.input(kSizes)->value(), input_shape, axes, policy == "not_larger"));
  resize.remove_attribute("keep_aspect_ratio_policy");
}

}  // namespace espq::lowering
