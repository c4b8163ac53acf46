#include "core/ops/kernels/integer_depthwise.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// Products that are worth a thread.
constexpr int64_t kWorthAThread = 1 << 17;

/// Pairs of the numbers of two pixels; nullptr = zeros.
ESPQ_CLONES void interleave(const float* first, const float* second, int16_t* out, int64_t count) {
  auto* pairs = reinterpret_cast<uint32_t*>(out);
  if (first && second) {
    for (int64_t i = 0; i < count; ++i)
      pairs[i] = (static_cast<uint32_t>(static_cast<int32_t>(first[i])) & 0xffffu) |
                 static_cast<uint32_t>(static_cast<int32_t>(second[i])) << 16;
  } else if (first) {
    for (int64_t i = 0; i < count; ++i) pairs[i] = static_cast<uint32_t>(static_cast<int32_t>(first[i])) & 0xffffu;
  } else if (second) {
    for (int64_t i = 0; i < count; ++i) pairs[i] = static_cast<uint32_t>(static_cast<int32_t>(second[i])) << 16;
  } else {
    std::fill_n(pairs, count, 0u);
  }
}

double largest_sum(const at::Tensor& filters, double input_limit) {
  return filters.abs().flatten(1).sum(1, false, at::kDouble).max().item<double>() * input_limit;
}

}  // namespace

bool IntegerDepthwise::supports(const Window& window, int64_t groups, const at::Tensor& filters, double input_limit) {
  constexpr double most = std::numeric_limits<int32_t>::max();
  const auto negative = [](int64_t value) { return value < 0; };
  const bool depthwise = groups > 1 && groups == filters.size(0) && filters.size(1) == 1;
  if (!integer_kernels() || !depthwise || window.rank() < 1 || window.rank() > 2) return false;
  // Of halves of at most 2^7 even the longest sums fit.
  const int64_t taps = filters.numel() / filters.size(0);
  const bool fits = largest_sum(filters, input_limit) <= most || static_cast<double>(taps) * 128 * input_limit <= most;
  return fits && filters.abs().max().item<double>() <= 32768 &&
         std::none_of(window.begin.begin(), window.begin.end(), negative) &&
         std::none_of(window.end.begin(), window.end.end(), negative);
}

IntegerDepthwise::IntegerDepthwise(const Window& window, const at::Tensor& filters, double input_limit,
                                   const IntegerKernels* kernels)
    : kernels_(kernels ? kernels : integer_kernels()),
      channels_(filters.size(0)),
      padded_channels_((channels_ + kernels_->lanes - 1) / kernels_->lanes * kernels_->lanes),
      rank_(window.rank()) {
  const auto axis = [&](size_t i) {
    return Axis{window.kernel[i], window.strides[i], window.dilations[i], window.begin[i], window.end[i]};
  };
  if (rank_ == 2) y_ = axis(0);
  x_ = axis(rank_ - 1);
  pairs_along_x_ = y_.kernel == 1;
  halves_ = largest_sum(filters, input_limit) > std::numeric_limits<int32_t>::max() ? 2 : 1;
  const at::Tensor codes = filters.reshape({channels_, y_.kernel, x_.kernel}).to(at::kInt).contiguous();
  const auto code = codes.accessor<int32_t, 3>();
  const int64_t step_y = pairs_along_x_ ? 1 : 2, step_x = pairs_along_x_ ? 2 : 1;
  for (int64_t vector = 0; vector < padded_channels_; vector += kernels_->lanes)
    for (int64_t y = 0; y < y_.kernel; y += step_y)
      for (int64_t x = 0; x < x_.kernel; x += step_x)
        for (int half = 0; half < halves_; ++half)
          for (int64_t channel = vector; channel < vector + kernels_->lanes; ++channel)
            for (int64_t number = 0; number < 2; ++number) {
              const int64_t tap_y = y + (pairs_along_x_ ? 0 : number), tap_x = x + (pairs_along_x_ ? number : 0);
              const bool inside = channel < channels_ && tap_y < y_.kernel && tap_x < x_.kernel;
              const int32_t weight = inside ? code[channel][tap_y][tap_x] : 0;
              weights_.push_back(static_cast<int16_t>(halves_ == 1 ? weight
                                                      : half == 0  ? high_half(weight)
                                                                   : low_half(weight)));
            }
}

IntegerDepthwise::Sizes IntegerDepthwise::sizes(const at::Tensor& input) const {
  Sizes sizes{};
  sizes.samples = input.size(0);
  sizes.input_height = rank_ == 2 ? input.size(2) : 1;
  sizes.input_width = input.size(-1);
  sizes.height = y_.output(sizes.input_height);
  sizes.width = x_.output(sizes.input_width);
  // Windows begin in every stride-th row, and read every second tap as the first number of a pair.
  sizes.row_step = std::gcd(y_.stride, (pairs_along_x_ ? 1 : 2) * y_.dilation);
  sizes.rows = (y_.padded(sizes.input_height) + sizes.row_step - 1) / sizes.row_step;
  sizes.padded_width = x_.padded(sizes.input_width);
  return sizes;
}

at::Tensor IntegerDepthwise::pack(const at::Tensor& input, const Sizes& sizes) const {
  const at::Tensor pixels = input.movedim(1, -1).contiguous();
  at::Tensor packed = at::empty({sizes.samples * sizes.rows * sizes.padded_width * padded_channels_ * 2}, at::kShort);
  const float* from = pixels.const_data_ptr<float>();
  auto* to = packed.mutable_data_ptr<int16_t>();
  const int64_t line = sizes.input_width * channels_, shift_y = pairs_along_x_ ? 0 : y_.dilation,
                shift_x = pairs_along_x_ ? x_.dilation : 0;
  at::parallel_for(0, sizes.samples * sizes.rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, line)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t index = begin; index < end; ++index) {
                       const int64_t sample = index / sizes.rows, row = index % sizes.rows * sizes.row_step - y_.begin;
                       const auto line_of = [&](int64_t y) {
                         return y >= 0 && y < sizes.input_height ? from + (sample * sizes.input_height + y) * line
                                                                 : nullptr;
                       };
                       const float *first = line_of(row), *second = line_of(row + shift_y);
                       int16_t* out = to + index * sizes.padded_width * padded_channels_ * 2;
                       const auto pixel = [&](const float* pixels_of, int64_t x) {
                         return pixels_of && x >= 0 && x < sizes.input_width ? pixels_of + x * channels_ : nullptr;
                       };
                       if (channels_ == padded_channels_ && !pairs_along_x_) {  // the whole row at once
                         const int64_t left = x_.begin * channels_;
                         std::fill_n(out, 2 * left, int16_t{0});
                         interleave(first, second, out + 2 * left, line);
                         std::fill_n(out + 2 * (left + line), 2 * x_.end * channels_, int16_t{0});
                         continue;
                       }
                       for (int64_t x = 0; x < sizes.padded_width; ++x, out += 2 * padded_channels_) {
                         interleave(pixel(first, x - x_.begin), pixel(second, x - x_.begin + shift_x), out, channels_);
                         std::fill_n(out + 2 * channels_, 2 * (padded_channels_ - channels_), int16_t{0});
                       }
                     }
                   });
  return packed;
}

at::Tensor IntegerDepthwise::result(const Sizes& sizes, at::ScalarType type) const {
  const at::Tensor memory = at::empty({sizes.samples, sizes.height, sizes.width, channels_}, type);
  return rank_ == 2 ? memory.permute({0, 3, 1, 2}) : memory.permute({0, 3, 1, 2}).squeeze(2);
}

template <typename Store>
void IntegerDepthwise::for_each_tile(const at::Tensor& packed, const Sizes& sizes, const Store& store) const {
  const int64_t lanes = kernels_->lanes, row_pairs = sizes.padded_width * padded_channels_;
  std::vector<int64_t> offsets;
  for (int64_t y = 0; y < y_.kernel; y += pairs_along_x_ ? 1 : 2)
    for (int64_t x = 0; x < x_.kernel; x += pairs_along_x_ ? 2 : 1)
      offsets.push_back(y * y_.dilation / sizes.row_step * row_pairs + x * x_.dilation * padded_channels_);
  const auto terms = static_cast<int64_t>(offsets.size());
  const auto* numbers = packed.const_data_ptr<int16_t>();
  const int64_t step = x_.stride * padded_channels_;
  const int64_t grain = std::max<int64_t>(1, kWorthAThread / (2 * terms * sizes.width * padded_channels_));
  at::parallel_for(0, sizes.samples * sizes.height, grain, [&](int64_t begin, int64_t end) {
    const int64_t pitch = halves_ * padded_channels_;
    std::vector<int32_t> sums(static_cast<size_t>(IntegerKernels::kPositions * pitch));
    for (int64_t index = begin; index < end; ++index) {
      const int64_t sample = index / sizes.height, y = index % sizes.height;
      const int16_t* first = numbers + 2 * (sample * sizes.rows + y * y_.stride / sizes.row_step) * row_pairs;
      for (int64_t x = 0; x < sizes.width;) {
        const bool several = x + IntegerKernels::kPositions <= sizes.width;
        const int64_t positions = several ? IntegerKernels::kPositions : 1;
        for (int64_t channel = 0; channel < padded_channels_; channel += lanes)
          kernels_->depthwise[halves_ - 1][several](first + 2 * (x * step + channel), step, {offsets.data(), terms},
                                                    weights_.data() + channel * terms * halves_ * 2,
                                                    sums.data() + channel * halves_, pitch);
        store(IntegerSums{.integers = sums.data(),
                          .doubles = nullptr,
                          .rows = positions,
                          .pitch = pitch,
                          .lanes = halves_ == 2 ? lanes : 0,
                          .first = 0,
                          .columns = channels_},
              (index * sizes.width + x) * channels_);
        x += positions;
      }
    }
  });
}

at::Tensor IntegerDepthwise::run(const at::Tensor& input, const IntegerConvolution::Finish& finish) const {
  const Sizes shape = sizes(input);
  at::Tensor output = result(shape, at::kFloat);
  auto* out = static_cast<float*>(output.mutable_data_ptr());
  for_each_tile(pack(input, shape), shape,
                [&](const IntegerSums& sums, int64_t place) { finish(sums, out + place, channels_); });
  return output;
}

at::Tensor IntegerDepthwise::sums(const at::Tensor& input) const {
  const Sizes shape = sizes(input);
  at::Tensor output = result(shape, at::kDouble);
  auto* out = static_cast<double*>(output.mutable_data_ptr());
  for_each_tile(pack(input, shape), shape, [&](const IntegerSums& sums, int64_t place) {
    for (int64_t row = 0; row < sums.rows; ++row) copy_sums(sums, row, out + place + row * channels_);
  });
  return output;
}

}  // namespace espq
