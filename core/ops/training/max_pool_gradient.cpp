#include "core/ops/training/max_pool_gradient.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <limits>

#include "core/quant/grid_rows.h"

namespace espq {
namespace {

constexpr uint8_t kNone = 255;  ///< no element was larger than minus infinity

struct Geometry : torch::CustomClassHolder {
  int64_t samples, planes, height, width, rows, columns;
  int64_t kernel[2], stride[2], dilation[2], padding[2];

  Geometry(at::IntArrayRef shape, const Window& window)
      : samples(shape[0]), planes(shape[0] * shape[1]), height(shape[2]), width(shape[3]) {
    for (int axis = 0; axis < 2; ++axis) {
      kernel[axis] = window.kernel[axis];
      stride[axis] = window.strides[axis];
      dilation[axis] = window.dilations[axis];
      padding[axis] = window.begin[axis];
    }
    rows = (height + 2 * padding[0] - window.reach(0)) / stride[0] + 1;
    columns = (width + 2 * padding[1] - window.reach(1)) / stride[1] + 1;
  }

  /// The usual window: 2x2 elements that no other window has.
  bool is_2x2() const {
    return kernel[0] == 2 && kernel[1] == 2 && stride[0] == 2 && stride[1] == 2 && dilation[0] == 1 &&
           dilation[1] == 1 && padding[0] == 0 && padding[1] == 0;
  }
  /// Every element of the input is in a window of is_2x2().
  bool is_covered() const { return height == 2 * rows && width == 2 * columns; }
  /// Planes that are worth a thread.
  int64_t grain() const { return std::max<int64_t>(1, kRowGrain / std::max<int64_t>(height * width, 1)); }
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

/// Of two elements of a window and their indices the larger one, the first of equal ones, the last that is not a
/// number.
template <typename Value, typename Index>
void keep_larger(Value& best, Index& tap, const Value& later, const Index& later_tap) {
  const auto larger = (later > best) | (later != later);
  best = larger ? later : best;
  tap = larger ? later_tap : tap;
}

template <int64_t kStride>
void keep_larger_row(const float* __restrict in, int64_t stride, int64_t count, int32_t tap, float* __restrict best,
                     int32_t* __restrict taps) {
  for (int64_t i = 0; i < count; ++i) keep_larger(best[i], taps[i], in[i * (kStride ? kStride : stride)], tap);
}

using FourFloats __attribute__((vector_size(16))) = float;
using FourIntegers __attribute__((vector_size(16))) = int32_t;
using FourBytes __attribute__((vector_size(4))) = uint8_t;

template <typename Vector>
Vector load(const void* from) {
  Vector value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <typename Vector>
void store(void* to, const Vector& value) {
  std::memcpy(to, &value, sizeof(value));
}

/// The larger of [left, right] above and below. Arithmetic: which one it is is nothing that a branch could foresee.
template <typename Value, typename Index>
void pool_2x2(Value& best, Index& tap, const Value& right, Value lower, const Value& lower_right) {
  const Index zero = {};
  Index lower_tap = zero + 2;
  keep_larger(best, tap, right, zero + 1);
  keep_larger(lower, lower_tap, lower_right, zero + 3);
  keep_larger(best, tap, lower, lower_tap);
}

/// Four windows at a time while there are as many, in two pairs that may lie in different rows, as rows are short:
/// four(first output, first element of each pair), then one(output, element) for the others.
template <typename Four, typename One>
void for_each_2x2(const Geometry& g, const Four& four, const One& one) {
  const int64_t pairs = g.columns / 2, count = g.columns % 2 ? 0 : g.rows * pairs;
  int64_t element = 0, pair_of_row = 0;
  const auto next_pair = [&] {
    const int64_t result = element;
    element += 4;
    if (++pair_of_row < pairs) return result;
    pair_of_row = 0;
    element += 2 * g.width - 4 * pairs;
    return result;
  };
  int64_t pair = 0;
  for (; pair + 2 <= count; pair += 2) {
    const int64_t first = next_pair();
    four(2 * pair, first, next_pair());
  }
  for (int64_t output = 2 * pair; output < g.rows * g.columns; ++output)
    one(output, output / g.columns * 2 * g.width + output % g.columns * 2);
}

void pool_plane_2x2(const Geometry& g, const float* in, float* out, uint8_t* taps) {
  const auto four = [&](int64_t output, int64_t first, int64_t second) {
    const auto row = [&](int64_t offset, FourFloats& left, FourFloats& right) {
      const auto a = load<FourFloats>(in + first + offset), b = load<FourFloats>(in + second + offset);
      left = __builtin_shufflevector(a, b, 0, 2, 4, 6);
      right = __builtin_shufflevector(a, b, 1, 3, 5, 7);
    };
    FourFloats best, right, lower, lower_right;
    FourIntegers tap = {};
    row(0, best, right);
    row(g.width, lower, lower_right);
    pool_2x2(best, tap, right, lower, lower_right);
    store(out + output, best);
    store(taps + output, __builtin_convertvector(tap, FourBytes));
  };
  for_each_2x2(g, four, [&](int64_t output, int64_t first) {
    const float *upper = in + first, *lower = upper + g.width;
    out[output] = upper[0];
    int32_t tap = 0;
    pool_2x2(out[output], tap, upper[1], lower[0], lower[1]);
    taps[output] = static_cast<uint8_t>(tap);
  });
}

void spread_plane_2x2(const Geometry& g, const float* gradient, const uint8_t* taps, float* result) {
  const auto four = [&](int64_t output, int64_t first, int64_t second) {
    const auto from = load<FourFloats>(gradient + output);
    const auto tap = __builtin_convertvector(load<FourBytes>(taps + output), FourIntegers);
    for (int32_t row = 0; row < 2; ++row) {
      const FourFloats left = tap == 2 * row ? from : FourFloats{}, right = tap == 2 * row + 1 ? from : FourFloats{};
      store(result + first + row * g.width, __builtin_shufflevector(left, right, 0, 4, 1, 5));
      store(result + second + row * g.width, __builtin_shufflevector(left, right, 2, 6, 3, 7));
    }
  };
  for_each_2x2(g, four, [&](int64_t output, int64_t first) {
    for (int tap = 0; tap < 4; ++tap)
      result[first + tap / 2 * g.width + tap % 2] = taps[output] == tap ? gradient[output] : 0;
  });
}

void pool_plane(const Geometry& g, const float* in, float* out, uint8_t* taps) {
  std::vector<int32_t> chosen(g.columns);
  const auto keep = g.stride[1] == 1 ? keep_larger_row<1> : g.stride[1] == 2 ? keep_larger_row<2> : keep_larger_row<0>;
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
    const auto geometry = c10::make_intrusive<Geometry>(input.sizes(), window);
    const Geometry& g = *geometry;
    at::Tensor result = at::empty({input.size(0), input.size(1), g.rows, g.columns}, input.options());
    at::Tensor taps = at::empty(result.sizes(), input.options().dtype(at::kByte));
    const float* in = input.const_data_ptr<float>();
    float* out = result.mutable_data_ptr<float>();
    uint8_t* chosen = taps.mutable_data_ptr<uint8_t>();
    const auto pool = g.is_2x2() ? pool_plane_2x2 : pool_plane;
    at::parallel_for(0, g.planes, g.grain(), [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane)
        pool(g, in + plane * g.height * g.width, out + plane * g.rows * g.columns, chosen + plane * g.rows * g.columns);
    });
    context->save_for_backward({taps});
    context->saved_data["geometry"] = c10::IValue::make_capsule(geometry);
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return {at::Tensor(), at::Tensor()};
    const auto geometry = c10::static_intrusive_pointer_cast<Geometry>(context->saved_data["geometry"].toCapsule());
    const Geometry& g = *geometry;
    const at::Tensor gradient = gradients[0].contiguous(), taps = context->get_saved_variables()[0];
    const auto spread = g.is_2x2() ? spread_plane_2x2 : spread_plane;
    at::Tensor result = at::empty({g.samples, g.planes / g.samples, g.height, g.width}, gradient.options());
    if (!g.is_2x2() || !g.is_covered()) result.zero_();
    const float* from = gradient.const_data_ptr<float>();
    const uint8_t* chosen = taps.const_data_ptr<uint8_t>();
    float* to = result.mutable_data_ptr<float>();
    at::parallel_for(0, g.planes, g.grain(), [&](int64_t first, int64_t last) {
      for (int64_t plane = first; plane < last; ++plane)
        spread(g, from + plane * g.rows * g.columns, chosen + plane * g.rows * g.columns,
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
