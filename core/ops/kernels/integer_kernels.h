#pragma once
#include <cstdint>
#include <vector>

namespace espq {

/// Products of 16-bit integers, two at a time, summed in 32 bits: the inner loop of IntegerProduct.
///
/// Rows (output positions) are pixels of `pitch` numbers; a sum runs over stretches of pairs that lie side by side at
/// the same offsets from every row's first number. Columns (output channels) come in blocks of vectors, whose weights
/// lie pair by pair.
struct IntegerTerms {
  const int64_t* offsets;  ///< of the stretches, in numbers from a row's first
  const int64_t* pairs;    ///< of each stretch
  int64_t stretches;
};

/// Products of one channel each: numbers and weights lie as pairs, channels innermost.
struct DepthwiseTerms {
  const int64_t* offsets;  ///< of every pair from an output position's first, in pairs
  int64_t count;
};

/// Sums of some output positions, one row of numbers each, `pitch` apart.
struct IntegerSums {
  const int32_t* integers;  ///< whole sums, or vectors of `lanes` sums of high and of low halves by turns
  const double* doubles;    ///< whole sums that 32 bits do not hold; nullptr: `integers`
  int64_t rows, pitch;
  int64_t lanes;           ///< 0: whole sums
  int64_t first, columns;  ///< output channels
};

/// Row `row` of sums as float64, which holds every one.
void copy_sums(const IntegerSums& sums, int64_t row, double* out);

/// A weight of 16 bits is 256 * high + low, low being one of 8 bits.
inline int32_t low_half(int32_t weight) { return static_cast<int8_t>(static_cast<uint8_t>(weight & 0xff)); }
inline int32_t high_half(int32_t weight) { return (weight - low_half(weight)) / 256; }

struct IntegerKernels {
  static constexpr int kMostVectors = 4;

  /// sums[row * pitch_out + column] = sum over terms of number * weight, for `rows` rows and a block of vectors;
  /// weights[(term * columns + column) * 2 + half].
  using Tile = void (*)(const int16_t* first, int64_t pitch, const IntegerTerms& terms, const int16_t* weights,
                        int32_t* sums);
  /// Rows that one call takes, by the number of vectors: the largest first, 0 behind the last.
  struct Choice {
    int64_t rows;
    Tile tile;
  };
  using Choices = std::vector<Choice>;

  /// sums[position * pitch + half * lanes + channel] for one vector of channels and 1 or kPositions output positions
  /// whose pairs lie `step` pairs apart; weights[(term * halves + half) * lanes + channel] are pairs, too.
  static constexpr int kPositions = 4;
  using Depthwise = void (*)(const int16_t* first, int64_t step, const DepthwiseTerms& terms, const int16_t* weights,
                             int32_t* sums, int64_t pitch);

  int64_t lanes;              ///< columns of one vector
  Depthwise depthwise[2][2];  ///< by halves - 1 and by whether there are kPositions
  Choices tiles[kMostVectors];
};

/// What this processor runs fastest; nullptr where nothing is better than floating-point numbers.
const IntegerKernels* integer_kernels();
/// Everything that this processor can run.
const std::vector<const IntegerKernels*>& all_integer_kernels();

}  // namespace espq
