#pragma once
#include <cstdint>
#include <vector>

namespace espq {

/// Rows that one sum runs over: row k starts at base + offsets[k].
struct PlaneSources {
  const float* base;
  const int64_t* offsets;
  int64_t count;
};

/// The inner loops of PlaneConvolution for one instruction set. Tables are indexed by rows - 1 (and sources - 1).
struct PlaneKernels {
  static constexpr int64_t kMostRows = 8, kMostSources = 9;

  /// out[m][p] = start[m] (0 for nullptr) + sum over k of weights[m][k] * source k[p] for p in [begin, end); the result
  /// may go on for kPlaneLanes - 1 positions more.
  using Band = void (*)(const PlaneSources& sources, int64_t begin, int64_t end, const float* weights, int64_t pitch,
                        const float* start, float* out, int64_t out_pitch);
  /// sums[m][k] += sum over [begin, end), to the next multiple of kPlaneLanes, of row m * source k.
  using Dots = void (*)(const float* rows, int64_t row_pitch, const float* base, const int64_t* offsets, int64_t begin,
                        int64_t end, float* sums, int64_t pitch);
  /// The sum of a row of whole vectors of kPlaneLanes.
  using Sum = float (*)(const float* row, int64_t count);

  int64_t rows;  ///< that one call takes at most
  Band band[kMostRows];
  Dots dots[kMostRows][kMostSources];
  int64_t sources[kMostRows];  ///< that one call of `dots` takes at most, by the number of rows
  Sum sum;
};

/// Planes are laid out for vectors of so many floats, whatever the instruction set.
constexpr int64_t kPlaneLanes = 16;

/// What this processor can run, the fastest first.
const std::vector<const PlaneKernels*>& plane_kernels();

}  // namespace espq
