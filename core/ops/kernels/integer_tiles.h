// No include guard: integer_kernels.cpp includes this once per instruction set, inside a namespace that has
// ESPQ_TARGET, Vector with its functions, and kLanes.

/// R rows by V vectors of columns.
template <int R, int V>
ESPQ_TARGET void tile(const int16_t* first, int64_t pitch, const IntegerTerms& terms, const int16_t* weights,
                      int32_t* sums) {
  Vector partial[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) partial[r][v] = zero();
  for (int64_t stretch = 0; stretch < terms.stretches; ++stretch) {
    const int16_t* row = first + terms.offsets[stretch];
    const int64_t pairs = terms.pairs[stretch];
    for (int64_t pair = 0; pair < pairs; ++pair, row += 2, weights += kLanes * 2 * V) {
      Vector factors[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) factors[v] = load(weights + kLanes * 2 * v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Vector numbers = spread_pair(row + r * pitch);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) partial[r][v] = with_products(numbers, factors[v], partial[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(sums + kLanes * (int64_t{r} * V + v), partial[r][v]);
}

template <int V, int... R>
IntegerKernels::Choices choices(std::integer_sequence<int, R...>) {
  return {IntegerKernels::Choice{R, tile<R, V>}...};
}

/// One vector of channels, P output positions.
template <int H, int P>
ESPQ_TARGET void depthwise(const int16_t* first, int64_t step, const DepthwiseTerms& terms, const int16_t* weights,
                           int32_t* sums, int64_t pitch) {
  Vector partial[P][H];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) partial[p][h] = zero();
  for (int64_t term = 0; term < terms.count; ++term, weights += kLanes * 2 * H) {
    const int16_t* numbers = first + 2 * terms.offsets[term];
    Vector factors[H];
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) factors[h] = load(weights + kLanes * 2 * h);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const Vector values = load(numbers + step * 2 * p);
#pragma GCC unroll 2
      for (int h = 0; h < H; ++h) partial[p][h] = with_products(values, factors[h], partial[p][h]);
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int h = 0; h < H; ++h) store(sums + p * pitch + h * kLanes, partial[p][h]);
}

/// As many rows at a time as there are registers for sums, and fewer for what is left over.
const IntegerKernels& kernels() {
  static const IntegerKernels all = [] {
    IntegerKernels table{.lanes = kLanes, .depthwise = {}, .tiles = {}};
    table.depthwise[0][0] = depthwise<1, 1>;
    table.depthwise[0][1] = depthwise<1, IntegerKernels::kPositions>;
    table.depthwise[1][0] = depthwise<2, 1>;
    table.depthwise[1][1] = depthwise<2, IntegerKernels::kPositions>;
    table.tiles[0] = choices<1>(std::integer_sequence<int, 12, 8, 6, 4, 3, 2, 1>());
    if constexpr (kRegisters == 16) {
      table.tiles[1] = choices<2>(std::integer_sequence<int, 6, 4, 3, 2, 1>());
      table.tiles[2] = choices<3>(std::integer_sequence<int, 4, 3, 2, 1>());
      table.tiles[3] = choices<4>(std::integer_sequence<int, 2, 1>());
    } else {
      table.tiles[1] = choices<2>(std::integer_sequence<int, 12, 8, 6, 4, 3, 2, 1>());
      table.tiles[2] = choices<3>(std::integer_sequence<int, 8, 6, 4, 3, 2, 1>());
      table.tiles[3] = choices<4>(std::integer_sequence<int, 6, 4, 3, 2, 1>());
    }
    return table;
  }();
  return all;
}
