#include "core/ops/kernels/plane_convolution.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>

#include "core/quant/grid_rows.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// Positions worked on at a time: what they need of all channels stays in the cache.
constexpr int64_t kStretch = 384;
/// The same where sums run over positions, and every stretch ends with adding up lanes.
constexpr int64_t kSumStretch = 1536;
/// Multiplications that are worth a thread.
constexpr int64_t kProducts = 1 << 19;

int64_t rounded_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

template <int64_t Columns>
void copy_rows_of(const float* from, int64_t from_pitch, float* to, int64_t to_pitch, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row)
    std::memcpy(to + row * to_pitch, from + row * from_pitch, Columns * sizeof(float));
}

/// Copies rows; without gaps on either side they are one. Rows of small pictures are too short for memcpy's start-up.
void copy_rows(const float* from, int64_t from_pitch, float* to, int64_t to_pitch, int64_t rows, int64_t columns) {
  if (from_pitch == columns && to_pitch == columns) {
    std::copy_n(from, rows * columns, to);
    return;
  }
  if (columns == 4) return copy_rows_of<4>(from, from_pitch, to, to_pitch, rows);
  if (columns == 8) return copy_rows_of<8>(from, from_pitch, to, to_pitch, rows);
  if (columns == 16) return copy_rows_of<16>(from, from_pitch, to, to_pitch, rows);
  for (int64_t row = 0; row < rows; ++row, from += from_pitch, to += to_pitch) {
    int64_t column = 0;
    for (; column + 8 <= columns; column += 8) std::memcpy(to + column, from + column, 8 * sizeof(float));
    for (; column < columns; ++column) to[column] = from[column];
  }
}

ESPQ_CLONES void take_every_second(const float* __restrict from, float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[2 * i];
}

void take_every(int64_t stride, const float* from, float* to, int64_t count) {
  if (stride == 2) return take_every_second(from, to, count);
  for (int64_t i = 0; i < count; ++i) to[i] = from[stride * i];
}

void put_every(int64_t stride, const float* from, float* to, int64_t count) {
  if (stride == 2) {
    for (int64_t i = 0; i < count; ++i) to[2 * i] = from[i];
  } else {
    for (int64_t i = 0; i < count; ++i) to[stride * i] = from[i];
  }
}

/// As few parts of at most `most` as possible, of nearly one size.
struct Parts {
  int64_t total, count, size;

  Parts(int64_t all, int64_t most) : total(all), count((all + most - 1) / most), size((all + count - 1) / count) {}
  int64_t begin(int64_t part) const { return part * size; }
  int64_t length(int64_t part) const { return std::min(size, total - begin(part)); }
};

/// How many pieces of work, of `cost` each, are worth a thread of `worth`.
int64_t grain(int64_t worth, int64_t cost) { return std::max<int64_t>(1, worth / std::max<int64_t>(cost, 1)); }

/// function(begin, end) for stretches of `count` positions, side by side; `products` per position.
template <typename Function>
void for_each_stretch(int64_t count, int64_t products, const Function& function) {
  const int64_t stretches = (count + kStretch - 1) / kStretch;
  at::parallel_for(0, stretches, grain(kProducts, products * kStretch), [&](int64_t first, int64_t last) {
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
  return !plane_kernels().empty() && window.rank() <= 2 && fits(input) && fits(filters) && input.numel() > 0 &&
         filters.numel() > 0 && std::none_of(window.begin.begin(), window.begin.end(), negative) &&
         std::none_of(window.end.begin(), window.end.end(), negative);
}

PlaneConvolution::PlaneConvolution(const Window& window, int64_t groups, at::IntArrayRef input, at::IntArrayRef filters,
                                   const PlaneKernels* kernels)
    : kernels_(kernels ? kernels : plane_kernels().front()),
      samples_(input[0]),
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
  front_ = rounded_up(reach, kPlaneLanes);
  length_ = front_ + rounded_up(positions(), kPlaneLanes) + rounded_up(reach, kPlaneLanes) + kPlaneLanes;
  dense_ = samples_ == 1 && taps_.size() == 1 && rows_.dense() && columns_.dense() && positions() % kPlaneLanes == 0;
  if (dense_) length_ = positions();
  for (int64_t channel = 0; channel < channels_ / groups_; ++channel)
    for (const Tap& tap : taps_) sources_.push_back((tap.phase * channels_ + channel) * length_ + tap.offset);
}

void PlaneConvolution::clear_around(float* plane, int64_t rows, int64_t columns) const {
  const bool dense = rows == rows_.pitch && columns == columns_.pitch;
  float *const first = plane + front_, *const end = plane + length_;
  std::fill(plane, dense ? first : end, 0.0f);
  if (dense) std::fill(first + positions(), end, 0.0f);
}

at::Tensor PlaneConvolution::pack_input(const at::Tensor& input) const {
  const at::Tensor dense = input.contiguous();
  if (dense_) return dense.view({1, channels_, length_});
  at::Tensor planes = at::empty({phases(), channels_, length_}, dense.options());
  const float* from = dense.const_data_ptr<float>();
  float* to = planes.mutable_data_ptr<float>();
  at::parallel_for(0, phases() * channels_, grain(kRowGrain, length_), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t phase = plane / channels_, channel = plane % channels_;
      const int64_t row_phase = phase / columns_.stride, column_phase = phase % columns_.stride;
      const auto [first_row, row_count] = rows_.content(row_phase);
      const auto [first_column, column_count] = columns_.content(column_phase);
      float* out = to + plane * length_;
      clear_around(out, row_count, column_count);
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
          take_every(columns_.stride, in, at, column_count);
      }
    }
  });
  return planes;
}

void PlaneConvolution::forward(const at::Tensor& planes, const at::Tensor& filters, const at::Tensor& bias,
                               const Finish& finish, const at::Tensor& result) const {
  const at::Tensor weights = filters.contiguous(), start = bias.defined() ? bias.contiguous() : bias;
  const at::Tensor sums = dense_ ? result : at::empty({filters_, length_}, planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto terms = static_cast<int64_t>(sources_.size());
  const float* from = planes.const_data_ptr<float>() + front_;
  const float* factors = weights.const_data_ptr<float>();
  const float* starts = start.defined() ? start.const_data_ptr<float>() : nullptr;
  float* to = sums.mutable_data_ptr<float>() + front_;
  const Parts tiles(group_filters, kernels_->rows);
  for_each_stretch(positions(), filters_ * terms, [&](int64_t begin, int64_t end) {
    for (int64_t group = 0; group < groups_; ++group) {
      const PlaneSources sources{from + group * group_channels * length_, sources_.data(), terms};
      for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t filter = group * group_filters + tiles.begin(tile), rows = tiles.length(tile);
        kernels_->band[rows - 1](sources, begin, end, factors + filter * terms, terms,
                                 starts ? starts + filter : nullptr, to + filter * length_, length_);
        for (int64_t row = filter; finish && row < filter + rows; ++row)
          finish(to + row * length_ + begin, row * length_ + front_ + begin, end - begin);
      }
    }
  });
  if (dense_) return;
  float* out = result.mutable_data_ptr<float>();
  at::parallel_for(0, samples_ * filters_, grain(kRowGrain, rows_.output * columns_.output),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t picture = begin; picture < end; ++picture) {
                       const float* in = to + picture % filters_ * length_ + row_start(picture / filters_, 0);
                       copy_rows(in, columns_.pitch, out + picture * rows_.output * columns_.output, columns_.output,
                                 rows_.output, columns_.output);
                     }
                   });
}

at::Tensor PlaneConvolution::pack_gradient(const at::Tensor& gradient, const Finish& finish) const {
  const at::Tensor dense = gradient.contiguous();
  if (dense_ && !finish) return dense.view({filters_, length_});
  at::Tensor planes = at::empty({filters_, length_}, dense.options());
  const float* from = dense.const_data_ptr<float>();
  float* to = planes.mutable_data_ptr<float>();
  at::parallel_for(0, filters_, grain(kRowGrain, length_), [&](int64_t begin, int64_t end) {
    for (int64_t filter = begin; filter < end; ++filter) {
      float* out = to + filter * length_;
      clear_around(out, rows_.output, columns_.output);
      for (int64_t sample = 0; sample < samples_; ++sample)
        copy_rows(from + (sample * filters_ + filter) * rows_.output * columns_.output, columns_.output,
                  out + front_ + row_start(sample, 0), columns_.pitch, rows_.output, columns_.output);
      if (finish) finish(out + front_, filter * length_ + front_, positions());
    }
  });
  return planes;
}

at::Tensor PlaneConvolution::bias_gradient(const at::Tensor& gradient_planes) const {
  at::Tensor result = at::empty({filters_}, gradient_planes.options());
  const float* gradients = gradient_planes.const_data_ptr<float>();
  float* sums = result.mutable_data_ptr<float>();
  at::parallel_for(0, filters_, grain(kRowGrain, length_), [&](int64_t first, int64_t last) {
    for (int64_t filter = first; filter < last; ++filter) {
      double sum = 0;
      for (int64_t begin = 0; begin < length_; begin += kSumStretch)
        sum += kernels_->sum(gradients + filter * length_ + begin, std::min(kSumStretch, length_ - begin));
      sums[filter] = static_cast<float>(sum);
    }
  });
  return result;
}

at::Tensor PlaneConvolution::filter_gradient(const at::Tensor& gradient_planes, const at::Tensor& input_planes) const {
  at::Tensor result = at::zeros(filter_shape_, gradient_planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto terms = static_cast<int64_t>(sources_.size());
  const float* gradients = gradient_planes.const_data_ptr<float>() + front_;
  const float* inputs = input_planes.const_data_ptr<float>() + front_;
  float* sums = result.mutable_data_ptr<float>();
  // Every sum is one piece's own, so that the number of threads does not decide in which order it is added up.
  const Parts tiles(group_filters, kernels_->rows), sources(terms, kernels_->sources[tiles.size - 1]);
  const int64_t pieces = groups_ * tiles.count * sources.count;
  const int64_t worth = grain(kProducts, tiles.size * sources.size * positions());
  at::parallel_for(0, pieces, worth, [&](int64_t first, int64_t last) {
    for (int64_t begin = 0; begin < positions(); begin += kSumStretch) {
      const int64_t end = std::min(positions(), begin + kSumStretch);
      for (int64_t piece = first; piece < last; ++piece) {
        const int64_t block = piece / sources.count, source = piece % sources.count, tile = block % tiles.count;
        const int64_t group = block / tiles.count, filter = group * group_filters + tiles.begin(tile);
        const int64_t term = sources.begin(source);
        kernels_->dots[tiles.length(tile) - 1][sources.length(source) - 1](
            gradients + filter * length_, length_, inputs + group * group_channels * length_, sources_.data() + term,
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
  at::parallel_for(0, samples_ * channels_, grain(kRowGrain, rows * columns), [&](int64_t begin, int64_t end) {
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
        put_every(columns_.stride, from, to, columns);
    }
  });
}

void PlaneConvolution::input_gradient(const at::Tensor& gradient_planes, const at::Tensor& filters,
                                      const at::Tensor& result) const {
  const at::Tensor weights = filters.contiguous();
  const at::Tensor sums = dense_ ? result : at::empty({channels_, length_}, gradient_planes.options());
  const int64_t group_channels = channels_ / groups_, group_filters = filters_ / groups_;
  const auto taps = static_cast<int64_t>(taps_.size());
  const float* gradients = gradient_planes.const_data_ptr<float>() + front_;
  const float* factors = weights.const_data_ptr<float>();
  float* to = sums.mutable_data_ptr<float>() + front_;
  const Parts tiles(group_channels, kernels_->rows);
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
    for_each_stretch(positions(), channels_ * terms, [&](int64_t begin, int64_t end) {
      for (int64_t group = 0; group < groups_; ++group) {
        const PlaneSources rows{gradients + group * group_filters * length_, offsets.data(), terms};
        for (int64_t tile = 0; tile < tiles.count; ++tile) {
          const int64_t channel = group * group_channels + tiles.begin(tile), count = tiles.length(tile);
          kernels_->band[count - 1](rows, begin, end, turned.data() + channel * terms, terms, nullptr,
                                    to + channel * length_, length_);
        }
      }
    });
    if (!dense_) unpack_phase(to, phase, result.mutable_data_ptr<float>());
  }
}

}  // namespace espq
