#include "core/ops/kernels/integer_kernels.h"

#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espq {

void copy_sums(const IntegerSums& sums, int64_t row, double* out) {
  for (int64_t column = 0; column < sums.columns; ++column) {
    if (sums.doubles) {
      out[column] = sums.doubles[row * sums.pitch + column];
    } else if (sums.lanes == 0) {
      out[column] = sums.integers[row * sums.pitch + column];
    } else {
      const int64_t vector = column / sums.lanes, lane = column % sums.lanes;
      const int32_t* high = sums.integers + row * sums.pitch + vector * 2 * sums.lanes + lane;
      out[column] = 256.0 * high[0] + high[sums.lanes];
    }
  }
}

#if defined(__x86_64__)
namespace avx2 {
namespace {
#define ESPQ_TARGET __attribute__((target("avx2")))
using Vector = __m256i;
constexpr int64_t kLanes = 8, kRegisters = 16;

ESPQ_TARGET inline Vector zero() { return _mm256_setzero_si256(); }
ESPQ_TARGET inline Vector load(const int16_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const Vector*>(from));
}
ESPQ_TARGET inline void store(int32_t* to, Vector value) { _mm256_storeu_si256(reinterpret_cast<Vector*>(to), value); }
/// Both numbers of a pair in every lane.
ESPQ_TARGET inline Vector spread_pair(const int16_t* pair) {
  int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm256_set1_epi32(both);
}
ESPQ_TARGET inline Vector with_products(Vector a, Vector b, Vector sum) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
#include "core/ops/kernels/integer_tiles.h"
#undef ESPQ_TARGET
}  // namespace
}  // namespace avx2

namespace avx512 {
namespace {
#define ESPQ_TARGET __attribute__((target("avx512f,avx512bw")))
using Vector = __m512i;
constexpr int64_t kLanes = 16, kRegisters = 32;

ESPQ_TARGET inline Vector zero() { return _mm512_setzero_si512(); }
ESPQ_TARGET inline Vector load(const int16_t* from) { return _mm512_loadu_si512(from); }
ESPQ_TARGET inline void store(int32_t* to, Vector value) { _mm512_storeu_si512(to, value); }
ESPQ_TARGET inline Vector spread_pair(const int16_t* pair) {
  int32_t both;
  std::memcpy(&both, pair, sizeof both);
  return _mm512_set1_epi32(both);
}
ESPQ_TARGET inline Vector with_products(Vector a, Vector b, Vector sum) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
#include "core/ops/kernels/integer_tiles.h"
#undef ESPQ_TARGET
}  // namespace
}  // namespace avx512

namespace vnni {
namespace {
#define ESPQ_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
using avx512::kLanes, avx512::kRegisters, avx512::Vector;
using avx512::load, avx512::spread_pair, avx512::store, avx512::zero;
ESPQ_TARGET inline Vector with_products(Vector a, Vector b, Vector sum) { return _mm512_dpwssd_epi32(sum, a, b); }
#include "core/ops/kernels/integer_tiles.h"
#undef ESPQ_TARGET
}  // namespace
}  // namespace vnni

const std::vector<const IntegerKernels*>& all_integer_kernels() {
  static const std::vector<const IntegerKernels*> usable = [] {
    std::vector<const IntegerKernels*> result;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (wide && __builtin_cpu_supports("avx512vnni")) result.push_back(&vnni::kernels());
    if (wide) result.push_back(&avx512::kernels());
    if (__builtin_cpu_supports("avx2")) result.push_back(&avx2::kernels());
    return result;
  }();
  return usable;
}
#else
const std::vector<const IntegerKernels*>& all_integer_kernels() {
  static const std::vector<const IntegerKernels*> none;
  return none;
}
#endif

const IntegerKernels* integer_kernels() {
  return all_integer_kernels().empty() ? nullptr : all_integer_kernels().front();
}

}  // namespace espq
