#include "core/ops/kernels/integer_convolution.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "core/support/error.h"
#include "core/support/vector_clones.h"

namespace espq {
namespace {

/// Output positions worked on at a time: what they read stays in the cache while all filters pass.
constexpr int64_t kLine = 48;
/// Products that are worth a thread.
constexpr int64_t kProducts = 1 << 19;
constexpr int64_t kMostSums = int64_t{12} * 2 * 16;  ///< of a tile: no tile of any instruction set has more

ESPQ_CLONES void to_integers(const float* from, int16_t* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int16_t>(static_cast<int32_t>(from[i]));
}

/// totals[i] += sums of whole weights.
ESPQ_CLONES void add_whole(const int32_t* sums, double* totals, int64_t count) {
  for (int64_t i = 0; i < count; ++i) totals[i] += static_cast<double>(sums[i]);
}

/// totals[row][vector][lane] += 256 * high + low; the halves' vectors take turns.
ESPQ_CLONES void add_halves(const int32_t* sums, double* totals, int64_t vectors, int64_t lanes) {
  for (int64_t vector = 0; vector < vectors; ++vector, sums += 2 * lanes, totals += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane)
      totals[lane] += 256.0 * static_cast<double>(sums[lane]) + static_cast<double>(sums[lanes + lane]);
}

/// As few parts of at most `most` vectors as possible, and no part of one where two would do.
std::vector<int> parts_of(int64_t vectors, int most) {
  std::vector<int> parts;
  while (vectors > 0) {
    const auto part = static_cast<int>(
        vectors > most && vectors < int64_t{2} * most ? (vectors + 1) / 2 : std::min<int64_t>(vectors, most));
    parts.push_back(part);
    vectors -= part;
  }
  return parts;
}

}  // namespace

bool IntegerConvolution::supports(const Window& window, int64_t groups, const at::Tensor& filters) {
  const auto negative = [](int64_t value) { return value < 0; };
  return integer_kernels() && window.rank() <= 2 && filters.numel() > 0 &&
         filters.abs().max().item<double>() <= 32768 &&
         std::none_of(window.begin.begin(), window.begin.end(), negative) &&
         std::none_of(window.end.begin(), window.end.end(), negative) &&
         (groups == 1 || filters.size(0) / groups >= integer_kernels()->lanes);
}

IntegerConvolution::IntegerConvolution(const Window& window, int64_t groups, const at::Tensor& filters,
                                       double input_limit, const IntegerKernels* kernels)
    : window_(window),
      groups_(groups),
      filters_(filters.size(0) / groups),
      channels_(filters.size(1)),
      kernel_rows_(window.rank() == 2 ? window.kernel[0] : 1),
      kernel_columns_(window.rank() >= 1 ? window.kernel.back() : 1),
      kernels_(kernels ? kernels : integer_kernels()) {
  const at::Tensor ordered =
      filters.reshape({filters.size(0), channels_, -1}).transpose(1, 2).to(at::kInt).contiguous();
  const auto* first = ordered.const_data_ptr<int32_t>();
  const std::vector<int32_t> weights(first, first + ordered.numel());
  const auto wide = [](int32_t weight) { return std::abs(weight) > 128; };
  halves_ = std::any_of(weights.begin(), weights.end(), wide) &&
            largest_sum(weights) > std::numeric_limits<int32_t>::max() / input_limit;
  make_pieces(weights, input_limit);
  make_blocks(weights);
}

int64_t IntegerConvolution::padding(const std::vector<int64_t>& sides, size_t axis) const {
  // The axes count from the last one, as 1-D windows have no rows.
  return axis < window_.rank() ? sides[window_.rank() - 1 - axis] : 0;
}

int64_t IntegerConvolution::place_of_weight(const Stretch& stretch, int64_t number) const {
  // Stretches over a row of taps run through the pixels' channels; their last pair may lack its second number.
  const int64_t place = stretch.first + number, tap = stretch.column + place / channels_;
  if (tap >= kernel_columns_) return -1;
  if (place >= channels_ && (groups_ > 1 || (window_.rank() > 0 && window_.dilations.back() > 1))) return -1;
  return (stretch.row * kernel_columns_ + tap) * channels_ + place % channels_;
}

double IntegerConvolution::largest_sum(const std::vector<int32_t>& weights) const {
  double largest = 0;
  const auto terms = static_cast<int64_t>(weights.size()) / (groups_ * filters_);
  for (auto weight = weights.begin(); weight != weights.end();) {
    double high = 0, low = 0;
    for (const auto end = weight + terms; weight != end; ++weight) {
      high += std::abs(halves_ ? high_half(*weight) : *weight);
      low += halves_ ? std::abs(low_half(*weight)) : 0;
    }
    largest = std::max({largest, high, low});
  }
  return largest;
}

void IntegerConvolution::make_pieces(const std::vector<int32_t>& weights, double input_limit) {
  // Stretches of the whole sum first: taps of a row lie side by side unless something is between them.
  const bool side_by_side = groups_ == 1 && (window_.rank() == 0 || window_.dilations.back() == 1);
  Piece whole;
  for (int64_t row = 0; row < kernel_rows_; ++row)
    for (int64_t column = 0; column < (side_by_side ? 1 : kernel_columns_); ++column)
      whole.push_back({row, column, 0, ((side_by_side ? kernel_columns_ : 1) * channels_ + 1) / 2});
  const double most = std::numeric_limits<int32_t>::max() / input_limit;
  if (largest_sum(weights) <= most) {
    pieces_ = {std::move(whole)};
    return;
  }
  const int64_t terms = kernel_rows_ * kernel_columns_ * channels_;
  std::vector<double> high(groups_ * filters_), low(high.size());
  pieces_.emplace_back();
  for (const Stretch& stretch : whole) {
    Stretch part{stretch.row, stretch.column, 0, 0};
    for (int64_t pair = 0; pair < stretch.pairs; ++pair) {
      const int64_t places[] = {place_of_weight(stretch, 2 * pair), place_of_weight(stretch, 2 * pair + 1)};
      const auto add = [&](bool fresh) {
        bool fits = true;
        for (size_t filter = 0; filter < high.size(); ++filter) {
          if (fresh) high[filter] = low[filter] = 0;
          for (const int64_t place : places) {
            const int32_t value = place < 0 ? 0 : weights[static_cast<int64_t>(filter) * terms + place];
            high[filter] += halves_ ? std::abs(high_half(value)) : std::abs(value);
            low[filter] += halves_ ? std::abs(low_half(value)) : 0;
          }
          fits = fits && high[filter] <= most && low[filter] <= most;
        }
        return fits;
      };
      if (!add(false)) {
        if (part.pairs > 0) pieces_.back().push_back(part);
        part = {stretch.row, stretch.column, 2 * pair, 0};
        pieces_.emplace_back();
        internal_check(add(true), "two products of 16-bit codes leave 32 bits");
      }
      ++part.pairs;
    }
    pieces_.back().push_back(part);
  }
}

void IntegerConvolution::make_blocks(const std::vector<int32_t>& weights) {
  const int64_t lanes = kernels_->lanes, per_channel = halves_ ? 2 : 1;
  const int64_t terms = kernel_rows_ * kernel_columns_ * channels_;
  const int most = IntegerKernels::kMostVectors / static_cast<int>(per_channel);
  for (int64_t group = 0; group < groups_; ++group) {
    int64_t column = 0;
    for (const int part : parts_of((filters_ + lanes - 1) / lanes, most)) {
      Block block{group, column, std::min(part * lanes, filters_ - column), part * static_cast<int>(per_channel)};
      for (const Piece& piece : pieces_) {
        block.weights.push_back(static_cast<int64_t>(weights_.size()));
        std::vector<int64_t> places;  // of a filter's weights, in the order of the sum
        for (const Stretch& stretch : piece)
          for (int64_t number = 0; number < 2 * stretch.pairs; ++number)
            places.push_back(place_of_weight(stretch, number));
        const auto pairs = static_cast<int64_t>(places.size()) / 2, pitch = 2 * block.vectors * lanes;
        weights_.resize(weights_.size() + pairs * pitch);
        int16_t* to = weights_.data() + block.weights.back();
        for (int64_t lane = 0; lane < block.vectors * lanes; ++lane) {
          const int64_t vector = lane / lanes, channel = column + vector / per_channel * lanes + lane % lanes;
          if (channel >= filters_) continue;
          const int32_t* own = weights.data() + (group * filters_ + channel) * terms;
          for (int64_t i = 0; i < 2 * pairs; ++i) {
            const int32_t value = places[i] < 0 ? 0 : own[places[i]];
            const int32_t half = !halves_ ? value : vector % 2 == 0 ? high_half(value) : low_half(value);
            to[i / 2 * pitch + 2 * lane + i % 2] = static_cast<int16_t>(half);
          }
        }
      }
      blocks_.push_back(std::move(block));
      column += part * lanes;
    }
  }
}

IntegerConvolution::Sizes IntegerConvolution::sizes(const at::Tensor& input) const {
  const auto along = [&](size_t axis, int64_t length) {
    const int64_t padded = length + padding(window_.begin, axis) + padding(window_.end, axis);
    const size_t index = window_.rank() - 1 - axis;
    const int64_t reach = axis < window_.rank() ? window_.reach(index) : 1;
    const int64_t stride = axis < window_.rank() ? window_.strides[index] : 1;
    return std::pair{padded, (padded - reach) / stride + 1};
  };
  const int64_t height = window_.rank() == 2 ? input.size(2) : 1, width = window_.rank() > 0 ? input.size(-1) : 1;
  const auto [padded_height, rows] = along(1, height);
  const auto [padded_width, columns] = along(0, width);
  return {input.size(0), height, width, padded_height, padded_width, rows, columns};
}

at::Tensor IntegerConvolution::pack(const at::Tensor& input, const Sizes& sizes) const {
  const int64_t channels = groups_ * channels_, row_numbers = sizes.padded_width * channels;
  const at::Tensor rows = input.movedim(1, -1).contiguous();
  at::Tensor packed = at::empty({sizes.samples * sizes.padded_height * row_numbers + 2}, at::kShort);
  const float* from = rows.const_data_ptr<float>();
  auto* to = packed.mutable_data_ptr<int16_t>();
  const int64_t above = padding(window_.begin, 1), left = padding(window_.begin, 0) * channels;
  const int64_t filled = sizes.input_width * channels, right = row_numbers - left - filled;
  at::parallel_for(0, sizes.samples * sizes.padded_height,
                   std::max<int64_t>(1, 32768 / std::max<int64_t>(1, row_numbers)), [&](int64_t begin, int64_t end) {
                     for (int64_t line = begin; line < end; ++line) {
                       int16_t* out = to + line * row_numbers;
                       const int64_t sample = line / sizes.padded_height, row = line % sizes.padded_height - above;
                       if (row < 0 || row >= sizes.input_height) {
                         std::fill_n(out, row_numbers, int16_t{0});
                         continue;
                       }
                       std::fill_n(out, left, int16_t{0});
                       to_integers(from + (sample * sizes.input_height + row) * filled, out + left, filled);
                       std::fill_n(out + left + filled, right, int16_t{0});
                     }
                   });
  to[packed.numel() - 2] = to[packed.numel() - 1] = 0;
  return packed;
}

at::Tensor IntegerConvolution::result(const Sizes& sizes, at::ScalarType type) const {
  at::Tensor memory = at::empty({sizes.samples, sizes.height, sizes.width, groups_ * filters_}, type);
  memory = memory.permute({0, 3, 1, 2});
  return window_.rank() == 2 ? memory : window_.rank() == 1 ? memory.squeeze(2) : memory.squeeze(3).squeeze(2);
}

template <typename Store>
void IntegerConvolution::for_each_tile(const at::Tensor& packed, const Sizes& sizes, const Store& store) const {
  const int64_t channels = groups_ * channels_, lanes = kernels_->lanes;
  const int64_t stride_y = window_.rank() == 2 ? window_.strides[0] : 1;
  const int64_t stride_x = window_.rank() > 0 ? window_.strides.back() : 1;
  const int64_t dilation_y = window_.rank() == 2 ? window_.dilations[0] : 1;
  const int64_t dilation_x = window_.rank() > 0 ? window_.dilations.back() : 1;
  std::vector<std::vector<int64_t>> offsets(pieces_.size()), pairs(pieces_.size());
  int64_t terms = 0;
  for (size_t piece = 0; piece < pieces_.size(); ++piece)
    for (const Stretch& stretch : pieces_[piece]) {
      offsets[piece].push_back(
          (stretch.row * dilation_y * sizes.padded_width + stretch.column * dilation_x) * channels + stretch.first);
      pairs[piece].push_back(stretch.pairs);
      terms += stretch.pairs;
    }
  // Positions follow each other at one distance within a row, and everywhere where nothing is padded or left out.
  const bool one_row = sizes.height == sizes.padded_height && sizes.width == sizes.padded_width && stride_x == 1;
  const int64_t row_length = one_row ? sizes.samples * sizes.height * sizes.width : sizes.width;
  const int64_t rows = one_row ? 1 : sizes.samples * sizes.height;
  const int64_t lines = (row_length + kLine - 1) / kLine, pitch = stride_x * channels;
  const auto* numbers = packed.const_data_ptr<int16_t>();
  const int64_t grain = std::max<int64_t>(1, kProducts / std::max<int64_t>(1, 2 * terms * filters_ * groups_ * kLine));
  at::parallel_for(0, rows * lines, grain, [&](int64_t begin, int64_t end) {
    int32_t sums[kMostSums];
    double totals[kMostSums];
    for (int64_t index = begin; index < end; ++index) {
      const int64_t row = index / lines, start = index % lines * kLine, count = std::min(kLine, row_length - start);
      const int64_t sample = one_row ? 0 : row / sizes.height, y = one_row ? 0 : row % sizes.height;
      const int16_t* first =
          numbers + (sample * sizes.padded_height + y * stride_y) * sizes.padded_width * channels + start * pitch;
      const int64_t position = row * row_length + start;
      for (const Block& block : blocks_) {
        const auto& choices = kernels_->tiles[block.vectors - 1];
        for (int64_t done = 0; done < count;) {
          // The last tile may overlap the one before it: fewer rows at a time would cost more.
          const int64_t left = count - done;
          size_t choice = 0;
          while (choice + 1 < choices.size() && choices[choice + 1].rows >= left) ++choice;
          if (choices[choice].rows > count)
            while (choices[choice].rows > left) ++choice;
          const int64_t tile_rows = choices[choice].rows;
          if (tile_rows > left) done = count - tile_rows;
          const int16_t* from = first + done * pitch + block.group * channels_;
          const int64_t columns = block.vectors * lanes;
          for (size_t piece = 0; piece < pieces_.size(); ++piece) {
            const IntegerTerms part{offsets[piece].data(), pairs[piece].data(),
                                    static_cast<int64_t>(offsets[piece].size())};
            choices[choice].tile(from, pitch, part, weights_.data() + block.weights[piece], sums);
            if (pieces_.size() == 1) break;
            if (piece == 0) std::fill_n(totals, tile_rows * columns, 0.0);
            if (halves_)
              add_halves(sums, totals, tile_rows * block.vectors / 2, lanes);
            else
              add_whole(sums, totals, tile_rows * columns);
          }
          const int64_t channel = block.group * filters_ + block.column;
          const bool single = pieces_.size() == 1;
          store(IntegerSums{.integers = sums,
                            .doubles = single ? nullptr : totals,
                            .rows = tile_rows,
                            .pitch = single || !halves_ ? columns : columns / 2,
                            .lanes = single && halves_ ? lanes : 0,
                            .first = channel,
                            .columns = block.columns},
                (position + done) * groups_ * filters_ + channel);
          done += tile_rows;
        }
      }
    }
  });
}

at::Tensor IntegerConvolution::run(const at::Tensor& input, const Finish& finish) const {
  const Sizes shape = sizes(input);
  at::Tensor output = result(shape, at::kFloat);
  auto* out = static_cast<float*>(output.mutable_data_ptr());
  for_each_tile(pack(input, shape), shape,
                [&](const IntegerSums& sums, int64_t place) { finish(sums, out + place, groups_ * filters_); });
  return output;
}

at::Tensor IntegerConvolution::sums(const at::Tensor& input) const {
  const Sizes shape = sizes(input);
  at::Tensor output = result(shape, at::kDouble);
  auto* out = static_cast<double*>(output.mutable_data_ptr());
  for_each_tile(pack(input, shape), shape, [&](const IntegerSums& sums, int64_t place) {
    for (int64_t row = 0; row < sums.rows; ++row) copy_sums(sums, row, out + place + row * groups_ * filters_);
  });
  return output;
}

}  // namespace espq
