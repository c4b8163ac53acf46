#include "core/ops/plane_convolution.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#define ESPQ_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace espq {
namespace {

constexpr int64_t kLanes = 8;
/// Positions worked on at a time: what they need of all channels stays in the cache.
constexpr int64_t kStretch = 384;
constexpr int kRows = 4;  ///< results per tile

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

/// Rows that one sum runs over: row k starts at base + offsets[k].
struct Sources {
  const float* base;
  const int64_t* offsets;
  int64_t count;
};

#if defined(__x86_64__)
bool has_kernels() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}

/// out[m][p] = start[m] + sum over k of weights[m][k] * source k[p], for M rows and V vectors.
template <int M, int V>
ESPQ_AVX2 void tile(const Sources& sources, int64_t position, const float* weights, int64_t pitch, const float* start,
                    float* out, int64_t out_pitch) {
  __m256 sums[M][V];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[m][v] = start ? _mm256_set1_ps(start[m]) : _mm256_setzero_ps();
  for (int64_t k = 0; k < sources.count; ++k) {
    const float* source = sources.base + sources.offsets[k] + position;
    __m256 values[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) values[v] = _mm256_loadu_ps(source + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const __m256 weight = _mm256_broadcast_ss(weights + m * pitch + k);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[m][v] = _mm256_fmadd_ps(weight, values[v], sums[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(out + m * out_pitch + position + v * kLanes, sums[m][v]);
}

/// The same for positions [begin, end); up to 7 more are written.
template <int M, int V>
void band(const Sources& sources, int64_t begin, int64_t end, const float* weights, int64_t pitch, const float* start,
          float* out, int64_t out_pitch) {
  int64_t position = begin;
  for (; position + V * kLanes <= end; position += V * kLanes)
    tile<M, V>(sources, position, weights, pitch, start, out, out_pitch);
  for (; position < end; position += kLanes) tile<M, 1>(sources, position, weights, pitch, start, out, out_pitch);
}

using Band = void (*)(const Sources&, int64_t, int64_t, const float*, int64_t, const float*, float*, int64_t);
constexpr Band kBands[kRows] = {band<1, 8>, band<2, 4>, band<3, 3>, band<4, 3>};

ESPQ_AVX2 inline float sum_of_lanes(__m256 value) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/// sums[m][k] += sum over positions of row m * source k, for M rows and K sources.
template <int M, int K>
ESPQ_AVX2 void dots(const float* rows, int64_t row_pitch, const float* base, const int64_t* offsets, int64_t begin,
                    int64_t end, float* sums, int64_t pitch) {
  __m256 partial[M][K];
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) partial[m][k] = _mm256_setzero_ps();
  for (int64_t position = begin; position < end; position += kLanes) {
    __m256 values[K];
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) values[k] = _mm256_loadu_ps(base + offsets[k] + position);
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
      const __m256 row = _mm256_loadu_ps(rows + m * row_pitch + position);
#pragma GCC unroll 12
      for (int k = 0; k < K; ++k) partial[m][k] = _mm256_fmadd_ps(row, values[k], partial[m][k]);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) sums[m * pitch + k] += sum_of_lanes(partial[m][k]);
}

using Dots = void (*)(const float*, int64_t, const float*, const int64_t*, int64_t, int64_t, float*, int64_t);
constexpr Dots kDots[kRows][3] = {{dots<1, 1>, dots<1, 2>, dots<1, 3>},
                                  {dots<2, 1>, dots<2, 2>, dots<2, 3>},
                                  {dots<3, 1>, dots<3, 2>, dots<3, 3>},
                                  {dots<4, 1>, dots<4, 2>, dots<4, 3>}};
#else
bool has_kernels() { return false; }
using Band = void (*)(const Sources&, int64_t, int64_t, const float*, int64_t, const float*, float*, int64_t);
using Dots = void (*)(const float*, int64_t, const float*, const int64_t*, int64_t, int64_t, float*, int64_t);
constexpr Band kBands[kRows] = {};
constexpr Dots kDots[kRows][3] = {};
#endif

/// Copies rows; without gaps on either side they are one. Rows of small pictures are too short for memcpy's start-up.
void copy_rows(const float* from, int64_t from_pitch, float* to, int64_t to_pitch, int64_t rows, int64_t columns) {
  if (from_pitch == columns && to_pitch == columns) {
    std::copy_n(from, rows * columns, to);
    return;
  }
  for (int64_t row = 0; row < rows; ++row, from += from_pitch, to += to_pitch) {
    int64_t column = 0;
    for (; column + kLanes <= columns; column += kLanes)
      std::memcpy(to + column, from + column, kLanes * sizeof(float));
    for (; column < columns; ++column) to[column] = from[column];
  }
}

/// Between a picture and one of its phases: function(every `stride`-th element, the packed one).
template <typename Function>
void for_each_strided(int64_t count, int64_t stride, const Function& function) {
  if (stride == 2) {
    for (int64_t i = 0; i < count; ++i) function(2 * i, i);
  } else {
    for (int64_t i = 0; i < count; ++i) function(stride * i, i);
  }
}

/// function(begin, end) for stretches of `count` positions, side by side.
template <typename Function>
void for_each_stretch(int64_t count, const Function& function) {
  const int64_t stretches = (count + kStretch - 1) / kStretch;
  at::parallel_for(0, stretches, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) function(i * kStretch, std::min(count, (i + 1) * kStretch));
  });
}

}  // namespace

std::pair<int64_t, int64_t> PlaneConvolution::Axis::content(int64_t phase) const {
  const auto first = [&](int64_t element) { return element <= phase ? 0 : (element - phase + stride - 1) / stride; };
  const int64_t start = first(begin);
  return {start, first(begin + input) - start};
}

bool PlaneConvolution::supports(const Window& window, const at::Tensor& input, const at::Tensor& filters) {
  const auto fits = [](const at::Tensor& tensor) { return tensor.is_cpu() && tensor.scalar_type() == at::kFloat; };
  const auto negative = [](int64_t value) { return value < 0; };
  return has_kernels() && window.rank() <= 2 && fits(input) && fits(filters) && input.numel() > 0 &&
         std::none_of(window.begin.begin(), window.begin.end(), negative) &&
         std::none_of(window.end.begin(), window.end.end(), negative);
}

PlaneConvolution::PlaneConvolution(const Window& window, int64_t groups, at::IntArrayRef input, at::IntArrayRef filters)
    : samples_(input[0]),
      groups_(groups),
      channels_(input[1]),
      filters_(filters[0]),
      input_shape_(input.vec()),
      filter_shape_(filters.vec()),
      output_shape_{input[0], filters[0]} {
  for (size_t i = 0; i < window.rank(); ++i) {
    Axis& axis = i + 1 == window.rank() ? columns_ : rows_;
    axis.input = input[i + 2];
    axis.kernel = window.kernel[i];
    axis.stride = window.strides[i];
    axis.dilation = window.dilations[i];
    axis.begin = window.begin[i];
    axis.output = (axis.input + window.begin[i] + window.end[i] - window.reach(i)) / axis.stride + 1;
    output_shape_.push_back(axis.output);
    // Zeros behind one row are also those in front of the next one.
    const int64_t last = axis.shift(axis.kernel - 1);
    axis.pitch = std::max(axis.output, axis.output + last - axis.begin / axis.stride);
    for (int64_t phase = 0; phase < axis.stride; ++phase) {
      const auto [start, count] = axis.content(phase);
      axis.pitch = std::max(axis.pitch, start + count);
    }
  }
  for (int64_t row = 0; row < rows_.kernel; ++row)
    for (int64_t column = 0; column < columns_.kernel; ++column)
      taps_.push_back({rows_.phase(row) * columns_.stride + columns_.phase(column),
                       rows_.shift(row) * columns_.pitch + columns_.shift(column)});
  const int64_t reach = taps_.back().offset;
  front_ = rounded_up(reach, kLanes);
  length_ = front_ + rounded_up(positions(), kLanes) + rounded_up(reach, kLanes) + 8 * kLanes;
}

at::Tensor PlaneConvolution::pack_input(const at::Tensor& input) const {
  const at::Tensor dense = input.contiguous();
  at::Tensor planes = at::empty({phases(), channels_, length_}, dense.options());
  const float* from = dense.const_data_ptr<float>();
  float* to = planes.mutable_data_ptr<float>();
  at::parallel_for(0, phases() * channels_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t phase = plane / channels_, channel = plane % channels_;
      const int64_t row_phase = phase / columns_.stride, column_phase = phase % columns_.stride;
      const auto [first_row, row_count] = rows_.content(row_phase);
      const auto [first_column, column_count] = columns_.content(column_phase);
      float* out = to + plane * length_;
      std::fill(out, out + length_, 0.0f);
      for (int64_t sample = 0; sample < samples_; ++sample) {
        const int64_t row = first_row * rows_.stride + row_phase - rows_.begin;
        const float* in = from + ((sample * channels_ + channel) * rows_.input + row) * columns_.input +
                          first_column * columns_.stride + column_phase - columns_.begin;
        float* at = out + front_ + row_start(sample, first_row) + first_column;
        if (columns_.stride == 1) {
          copy_rows(in, columns_.input * rows_.stride, at, columns_.pitch, row_count, column_count);
          continue;
        }
        for (int64_t i = 0; i < row_count; ++i, in += columns_.input * rows_.stride, at += columns_.pitch)
          for_each_strided(column_count, columns_.stride, [in, at](int64_t far, int64_t near) { at[near] = in[far]; });
      }
    }
  });
  return planes;
}

at::Tensor PlaneConvolution::forward(const at::Tensor& planes, const at::Tensor& filters, const at::Tensor& bias,
                                     const Finish& finish) const {
  const at::Tensor weights = filters.contiguous(), start = bias.defined() ? bias.contiguous() : bias;
  at::Tensor sums = at::empty({filters_, length_}, planes.options());
  at::Tensor result = at::empty(output_shape_, planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto taps = static_cast<int64_t>(taps_.size()), terms = group_channels * taps;
  std::vector<int64_t> offsets;
  for (int64_t channel = 0; channel < group_channels; ++channel)
    for (const Tap& tap : taps_) offsets.push_back((tap.phase * channels_ + channel) * length_ + tap.offset);
  const float* from = planes.const_data_ptr<float>() + front_;
  const float* factors = weights.const_data_ptr<float>();
  const float* starts = start.defined() ? start.const_data_ptr<float>() : nullptr;
  float* to = sums.mutable_data_ptr<float>() + front_;
  for_each_stretch(positions(), [&](int64_t begin, int64_t end) {
    for (int64_t group = 0; group < groups_; ++group) {
      const Sources sources{from + group * group_channels * length_, offsets.data(), terms};
      for (int64_t first = 0; first < group_filters; first += kRows) {
        const int64_t filter = group * group_filters + first, rows = std::min<int64_t>(kRows, group_filters - first);
        kBands[rows - 1](sources, begin, end, factors + filter * terms, terms, starts ? starts + filter : nullptr,
                         to + filter * length_, length_);
        for (int64_t row = filter; finish && row < filter + rows; ++row)
          finish(to + row * length_ + begin, row * length_ + front_ + begin, end - begin);
      }
    }
  });
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, samples_ * filters_, 16, [&](int64_t begin, int64_t end) {
    for (int64_t picture = begin; picture < end; ++picture) {
      const float* in = to + picture % filters_ * length_ + row_start(picture / filters_, 0);
      copy_rows(in, columns_.pitch, out + picture * rows_.output * columns_.output, columns_.output, rows_.output,
                columns_.output);
    }
  });
  return result;
}

at::Tensor PlaneConvolution::pack_gradient(const at::Tensor& gradient, const Finish& finish) const {
  const at::Tensor dense = gradient.contiguous();
  at::Tensor planes = at::empty({filters_, length_}, dense.options());
  const float* from = dense.const_data_ptr<float>();
  float* to = planes.mutable_data_ptr<float>();
  at::parallel_for(0, filters_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t filter = begin; filter < end; ++filter) {
      float* out = to + filter * length_;
      std::fill(out, out + length_, 0.0f);
      for (int64_t sample = 0; sample < samples_; ++sample)
        copy_rows(from + (sample * filters_ + filter) * rows_.output * columns_.output, columns_.output,
                  out + front_ + row_start(sample, 0), columns_.pitch, rows_.output, columns_.output);
      if (finish) finish(out + front_, filter * length_ + front_, positions());
    }
  });
  return planes;
}

at::Tensor PlaneConvolution::bias_gradient(const at::Tensor& gradient_planes) const { return gradient_planes.sum(1); }

at::Tensor PlaneConvolution::filter_gradient(const at::Tensor& gradient_planes, const at::Tensor& input_planes) const {
  at::Tensor result = at::zeros(filter_shape_, gradient_planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto taps = static_cast<int64_t>(taps_.size()), terms = group_channels * taps;
  std::vector<int64_t> offsets;
  for (int64_t channel = 0; channel < group_channels; ++channel)
    for (const Tap& tap : taps_) offsets.push_back((tap.phase * channels_ + channel) * length_ + tap.offset);
  const float* gradients = gradient_planes.const_data_ptr<float>() + front_;
  const float* inputs = input_planes.const_data_ptr<float>() + front_;
  float* sums = result.mutable_data_ptr<float>();
  const int64_t blocks = (group_filters + kRows - 1) / kRows;
  at::parallel_for(0, groups_ * blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t begin = 0; begin < positions(); begin += kStretch) {
      const int64_t end = std::min(positions(), begin + kStretch);
      for (int64_t block = first; block < last; ++block) {
        const int64_t group = block / blocks, row = block % blocks * kRows;
        const int64_t filter = group * group_filters + row, rows = std::min<int64_t>(kRows, group_filters - row);
        for (int64_t term = 0; term < terms; term += 3)
          kDots[rows - 1][std::min<int64_t>(3, terms - term) - 1](
              gradients + filter * length_, length_, inputs + group * group_channels * length_, offsets.data() + term,
              begin, end, sums + filter * terms + term, terms);
      }
    }
  });
  return result;
}

void PlaneConvolution::unpack_phase(const float* planes, int64_t phase, float* result) const {
  const int64_t row_phase = phase / columns_.stride, column_phase = phase % columns_.stride;
  const auto [first_row, row_count] = rows_.content(row_phase);
  const auto [first_column, column_count] = columns_.content(column_phase);
  const int64_t start_row = first_row, start_column = first_column, rows = row_count, columns = column_count;
  at::parallel_for(0, samples_ * channels_, 16, [&](int64_t begin, int64_t end) {
    for (int64_t picture = begin; picture < end; ++picture) {
      const float* in = planes + picture % channels_ * length_ + start_column;
      const int64_t sample = picture / channels_, row = start_row * rows_.stride + row_phase - rows_.begin;
      const float* from = in + row_start(sample, start_row);
      float* to = result + (picture * rows_.input + row) * columns_.input + start_column * columns_.stride +
                  column_phase - columns_.begin;
      if (columns_.stride == 1) {
        copy_rows(from, columns_.pitch, to, columns_.input * rows_.stride, rows, columns);
        continue;
      }
      for (int64_t i = 0; i < rows; ++i, from += columns_.pitch, to += columns_.input * rows_.stride)
        for_each_strided(columns, columns_.stride, [from, to](int64_t far, int64_t near) { to[far] = from[near]; });
    }
  });
}

at::Tensor PlaneConvolution::input_gradient(const at::Tensor& gradient_planes, const at::Tensor& filters) const {
  const at::Tensor weights = filters.contiguous();
  at::Tensor result = at::empty(input_shape_, gradient_planes.options());
  at::Tensor sums = at::empty({channels_, length_}, gradient_planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto taps = static_cast<int64_t>(taps_.size());
  const float* gradients = gradient_planes.const_data_ptr<float>() + front_;
  const float* factors = weights.const_data_ptr<float>();
  float* to = sums.mutable_data_ptr<float>() + front_;
  for (int64_t phase = 0; phase < phases(); ++phase) {
    // Per channel, the filters' factors in the order of the sum: taps of this phase, then filters.
    std::vector<int64_t> offsets, sources;
    for (int64_t tap = 0; tap < taps; ++tap) {
      if (taps_[tap].phase != phase) continue;
      for (int64_t filter = 0; filter < group_filters; ++filter) {
        offsets.push_back(filter * length_ - taps_[tap].offset);
        sources.push_back(filter * group_channels * taps + tap);
      }
    }
    const auto terms = static_cast<int64_t>(offsets.size());
    std::vector<float> turned(channels_ * terms);
    for (int64_t channel = 0; channel < channels_; ++channel) {
      const int64_t group = channel / group_channels;
      const float* own = factors + (group * group_filters * group_channels + channel % group_channels) * taps;
      for (int64_t term = 0; term < terms; ++term) turned[channel * terms + term] = own[sources[term]];
    }
    for_each_stretch(positions(), [&](int64_t begin, int64_t end) {
      for (int64_t group = 0; group < groups_; ++group) {
        const Sources rows{gradients + group * group_filters * length_, offsets.data(), terms};
        for (int64_t first = 0; first < group_channels; first += kRows) {
          const int64_t channel = group * group_channels + first,
                        count = std::min<int64_t>(kRows, group_channels - first);
          kBands[count - 1](rows, begin, end, turned.data() + channel * terms, terms, nullptr, to + channel * length_,
                            length_);
        }
      }
    });
    unpack_phase(to, phase, result.mutable_data_ptr<float>());
  }
  return result;
}

}  // namespace espq
