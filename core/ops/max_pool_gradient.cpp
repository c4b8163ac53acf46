#include "core/ops/max_pool_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

namespace espq {
namespace {

constexpr uint8_t kNone = 255;  ///< no element was larger than minus infinity

struct Geometry {
  int64_t planes, height, width, rows, columns;
  int64_t kernel[2], stride[2], dilation[2], padding[2];

  Geometry(const std::vector<int64_t>& shape, const Window& window)
      : planes(shape[0] * shape[1]), height(shape[2]), width(shape[3]) {
    for (int axis = 0; axis < 2; ++axis) {
      kernel[axis] = window.kernel[axis];
      stride[axis] = window.strides[axis];
      dilation[axis] = window.dilations[axis];
      padding[axis] = window.begin[axis];
    }
    rows = (height + 2 * padding[0] - window.reach(0)) / stride[0] + 1;
    columns = (width + 2 * padding[1] - window.reach(1)) / stride[1] + 1;
  }

  bool is_2x2() const {
    return kernel[0] == 2 && kernel[1] == 2 && dilation[0] == 1 && dilation[1] == 1 && padding[0] == 0 &&
           padding[1] == 0;
  }
  /// Row or column of the input that output `index` sees through element `tap` of the kernel.
  int64_t source(int axis, int64_t index, int64_t tap) const {
    return index * stride[axis] + tap * dilation[axis] - padding[axis];
  }
  /// The outputs [first, second) along the columns for which that column exists.
  std::pair<int64_t, int64_t> inside(int64_t tap) const {
    const int64_t shift = padding[1] - tap * dilation[1];
    const int64_t begin = shift > 0 ? (shift + stride[1] - 1) / stride[1] : 0;
    const int64_t last = width - 1 + shift;
    return {begin, last < 0 ? 0 : std::min(columns, last / stride[1] + 1)};
  }
};

template <int64_t kStride>
void keep_larger(const float* __restrict in, int64_t stride, int64_t count, int32_t tap, float* __restrict best,
                 int32_t* __restrict taps) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = in[i * (kStride ? kStride : stride)];
    const bool larger = (value > best[i]) | (value != value);
    best[i] = larger ? value : best[i];
    taps[i] = larger ? tap : taps[i];
  }
}

/// The usual window, whose rows are too short for loops per element of the kernel.
void pool_plane_2x2(const Geometry& g, const float* in, float* out, uint8_t* taps) {
  for (int64_t row = 0; row < g.rows; ++row) {
    const float* upper = in + row * g.stride[0] * g.width;
    const float* lower = upper + g.width;
    for (int64_t column = 0; column < g.columns; ++column, ++out, ++taps) {
      const int64_t at = column * g.stride[1];
      const float values[4] = {upper[at], upper[at + 1], lower[at], lower[at + 1]};
      float best = values[0];
      int tap = 0;
#pragma GCC unroll 4
      for (int i = 1; i < 4; ++i) {  // arithmetic: which one is larger is nothing that a branch could foresee
        const int larger = (values[i] > best) | (values[i] != values[i]);
        tap += larger * (i - tap);
        best = values[tap];
      }
      *out = best;
      *taps = static_cast<uint8_t>(tap);
    }
  }
}

void pool_plane(const Geometry& g, const float* in, float* out, uint8_t* taps) {
  std::vector<int32_t> chosen(g.columns);
  const auto keep = g.stride[1] == 1 ? keep_larger<1> : g.stride[1] == 2 ? keep_larger<2> : keep_larger<0>;
  for (int64_t row = 0; row < g.rows; ++row, out += g.columns, taps += g.columns) {
    std::fill_n(out, g.columns, -std::numeric_limits<float>::infinity());
    std::fill(chosen.begin(), chosen.end(), kNone);
    for (int64_t i = 0; i < g.kernel[0]; ++i) {
      const int64_t source = g.source(0, row, i);
      if (source < 0 || source >= g.height) continue;
      for (int64_t j = 0; j < g.kernel[1]; ++j) {
        const auto [begin, end] = g.inside(j);
        if (begin >= end) continue;
        keep(in + source * g.width + g.source(1, begin, j), g.stride[1], end - begin,
             static_cast<int32_t>(i * g.kernel[1] + j), out + begin, chosen.data() + begin);
      }
    }
    for (int64_t column = 0; column < g.columns; ++column) taps[column] = static_cast<uint8_t>(chosen[column]);
  }
}

void spread_plane(const Geometry& g, const float* gradient, const uint8_t* taps, float* result) {
  std::vector<int64_t> offsets(g.kernel[0] * g.kernel[1]);
  for (int64_t i = 0; i < g.kernel[0]; ++i)
    for (int64_t j = 0; j < g.kernel[1]; ++j)
      offsets[i * g.kernel[1] + j] = g.source(0, 0, i) * g.width + g.source(1, 0, j);
  for (int64_t row = 0; row < g.rows; ++row)
    for (int64_t column = 0; column < g.columns; ++column, ++gradient, ++taps)
      if (*taps != kNone) result[row * g.stride[0] * g.width + column * g.stride[1] + offsets[*taps]] += *gradient;
}

class MaxPoolGradient : public torch::autograd::Function<MaxPoolGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given, const Window& window) {
    context->set_materialize_grads(false);
    const at::Tensor input = given.contiguous();
    const Geometry g(input.sizes().vec(), window);
    at::Tensor result = at::empty({input.size(0), input.size(1), g.rows, g.columns}, input.options());
    at::Tensor taps = at::empty(result.sizes(), input.options().dtype(at::kByte));
    const float* in = input.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    uint8_t* chosen = taps.mutable_data_ptr<uint8_t>();
    const auto pool = g.is_2x2() ? pool_plane_2x2 : pool_plane;
    at::parallel_for(0, g.planes, 8, [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane)
        pool(g, in + plane * g.height * g.width, out + plane * g.rows * g.columns, chosen + plane * g.rows * g.columns);
    });
    context->save_for_backward({taps});
    context->saved_data["shape"] = input.sizes().vec();
    context->saved_data["kernel"] = window.kernel;
    context->saved_data["strides"] = window.strides;
    context->saved_data["dilations"] = window.dilations;
    context->saved_data["begin"] = window.begin;
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    auto& saved = context->saved_data;
    const std::vector<int64_t> shape = saved["shape"].toIntVector(), begin = saved["begin"].toIntVector();
    const Geometry g(shape, {saved["kernel"].toIntVector(), saved["strides"].toIntVector(),
                             saved["dilations"].toIntVector(), begin, begin});
    const at::Tensor gradient = gradients[0].contiguous(), taps = context->get_saved_variables()[0];
    at::Tensor result = at::zeros(shape, gradient.options());
    const float* from = gradient.const_data_ptr<float>();
    const uint8_t* chosen = taps.const_data_ptr<uint8_t>();
    float* to = result.mutable_data_ptr<float>();
    at::parallel_for(0, g.planes, 8, [&](int64_t first, int64_t last) {
      for (int64_t plane = first; plane < last; ++plane)
        spread_plane(g, from + plane * g.rows * g.columns, chosen + plane * g.rows * g.columns,
                     to + plane * g.height * g.width);
    });
    return {result, at::Tensor()};
  }
};

}  // namespace

at::Tensor max_pool_with_gradient(const at::Tensor& input, const Window& window) {
  const bool fits = window.rank() == 2 && input.dim() == 4 && input.is_cpu() && input.scalar_type() == at::kFloat &&
                    input.numel() > 0 && window.kernel[0] * window.kernel[1] < kNone &&
                    window.reach(0) <= input.size(2) + 2 * window.begin[0] &&
                    window.reach(1) <= input.size(3) + 2 * window.begin[1];
  return fits ? MaxPoolGradient::apply(input, window) : at::Tensor();
}

}  // namespace espq
