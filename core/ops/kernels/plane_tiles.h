// No include guard: plane_kernels.cpp includes this once per instruction set, inside a namespace that has ESPQ_TARGET,
// Vector with its functions, kVectors (per tile) and kSources, both by rows - 1.

/// out[m][p] = start[m] + sum over k of weights[m][k] * source k[p], for M rows and V vectors.
template <int M, int V>
ESPQ_TARGET void tile(const PlaneSources& sources, int64_t position, const float* weights, int64_t pitch,
                      const float* start, float* out, int64_t out_pitch) {
  Vector sums[M][V];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[m][v] = start ? spread(start[m]) : spread(0);
  for (int64_t k = 0; k < sources.count; ++k) {
    const float* source = sources.base + sources.offsets[k] + position;
    Vector values[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) values[v] = load(source + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Vector weight = spread(weights[m * pitch + k]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[m][v] = with_product(weight, values[v], sums[m][v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(out + m * out_pitch + position + v * kLanes, sums[m][v]);
}

/// The same for positions [begin, end), in tiles that get narrower towards the end.
template <int M, int V>
void band(const PlaneSources& sources, int64_t begin, int64_t end, const float* weights, int64_t pitch,
          const float* start, float* out, int64_t out_pitch) {
  int64_t position = begin;
  for (; end - position > (V - 1) * kLanes; position += V * kLanes)
    tile<M, V>(sources, position, weights, pitch, start, out, out_pitch);
  if constexpr (V > 1) band<M, (V > 3 ? V / 2 : V - 1)>(sources, position, end, weights, pitch, start, out, out_pitch);
}

/// sums[m][k] += sum over positions of row m * source k, for M rows and K sources.
template <int M, int K>
ESPQ_TARGET void dots(const float* rows, int64_t row_pitch, const float* base, const int64_t* offsets, int64_t begin,
                      int64_t end, float* sums, int64_t pitch) {
  Vector partial[M][K];
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) partial[m][k] = spread(0);
  for (int64_t position = begin; position < end; position += kLanes) {
    Vector values[K];
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) values[k] = load(base + offsets[k] + position);
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
      Vector row = load(rows + m * row_pitch + position);
      if constexpr (K > 1) asm("" : "+v"(row));  // else every product would load it again
#pragma GCC unroll 12
      for (int k = 0; k < K; ++k) partial[m][k] = with_product(row, values[k], partial[m][k]);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 12
    for (int k = 0; k < K; ++k) sums[m * pitch + k] += sum_of_lanes(partial[m][k]);
}

ESPQ_TARGET float sum(const float* row, int64_t count) {
  Vector partial[4] = {spread(0), spread(0), spread(0), spread(0)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) partial[v] = sum_of(partial[v], load(row + i + v * kLanes));
  for (; i < count; i += kLanes) partial[0] = sum_of(partial[0], load(row + i));
  return sum_of_lanes(sum_of(sum_of(partial[0], partial[1]), sum_of(partial[2], partial[3])));
}

template <int M, int... K>
constexpr void add_rows(PlaneKernels& kernels, std::integer_sequence<int, K...>) {
  kernels.band[M - 1] = band<M, kVectors[M - 1]>;
  kernels.sources[M - 1] = kSources[M - 1];
  ((kernels.dots[M - 1][K] = dots<M, K + 1>), ...);
}

template <int... M>
constexpr PlaneKernels all_rows(std::integer_sequence<int, M...>) {
  PlaneKernels kernels{.rows = sizeof...(M), .band = {}, .dots = {}, .sources = {}, .sum = sum};
  (add_rows<M + 1>(kernels, std::make_integer_sequence<int, kSources[M]>()), ...);
  return kernels;
}

constexpr PlaneKernels kKernels = all_rows(std::make_integer_sequence<int, std::size(kVectors)>());
