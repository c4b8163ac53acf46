#include "core/ops/kernels/plane_kernels.h"

#include <iterator>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espq {

#if defined(__x86_64__)
namespace avx2 {
namespace {
#define ESPQ_TARGET __attribute__((target("avx2,fma")))
using Vector = __m256;
constexpr int64_t kLanes = 8;
// 16 registers: at most 12 sums.
constexpr int kVectors[] = {8, 4, 3, 3}, kSources[] = {9, 4, 3, 3};

ESPQ_TARGET inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
ESPQ_TARGET inline void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
ESPQ_TARGET inline Vector spread(float value) { return _mm256_set1_ps(value); }
ESPQ_TARGET inline Vector sum_of(Vector a, Vector b) { return _mm256_add_ps(a, b); }
ESPQ_TARGET inline Vector with_product(Vector a, Vector b, Vector sum) { return _mm256_fmadd_ps(a, b, sum); }
ESPQ_TARGET inline float sum_of_lanes(Vector value) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
#include "core/ops/kernels/plane_tiles.h"
#undef ESPQ_TARGET
}  // namespace
}  // namespace avx2

namespace avx512 {
namespace {
#define ESPQ_TARGET __attribute__((target("avx512f,avx512vl,avx512dq,fma")))
using Vector = __m512;
constexpr int64_t kLanes = 16;
// 32 registers: at most 24 sums.
constexpr int kVectors[] = {8, 8, 6, 6, 4, 4, 3, 3}, kSources[] = {9, 9, 6, 6, 3, 3, 3, 3};

ESPQ_TARGET inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
ESPQ_TARGET inline void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
ESPQ_TARGET inline Vector spread(float value) { return _mm512_set1_ps(value); }
ESPQ_TARGET inline Vector sum_of(Vector a, Vector b) { return _mm512_add_ps(a, b); }
ESPQ_TARGET inline Vector with_product(Vector a, Vector b, Vector sum) { return _mm512_fmadd_ps(a, b, sum); }
ESPQ_TARGET inline float sum_of_lanes(Vector value) {
  // GCC 12 warns about its own intrinsics that split a vector.
  const __m256 lower = __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 upper = __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15);
  return avx2::sum_of_lanes(_mm256_add_ps(lower, upper));
}
#include "core/ops/kernels/plane_tiles.h"
#undef ESPQ_TARGET
}  // namespace
}  // namespace avx512

const std::vector<const PlaneKernels*>& plane_kernels() {
  static const std::vector<const PlaneKernels*> usable = [] {
    std::vector<const PlaneKernels*> result;
    const bool avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512) result.push_back(&avx512::kKernels);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) result.push_back(&avx2::kKernels);
    return result;
  }();
  return usable;
}
#else
const std::vector<const PlaneKernels*>& plane_kernels() {
  static const std::vector<const PlaneKernels*> none;
  return none;
}
#endif

}  // namespace espq
