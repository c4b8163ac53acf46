#include "passes/lowering/permutation.h"

#include <algorithm>
#include <numeric>

#include "core/support/error.h"

namespace espq::lowering {

Permutation identity(size_t rank) {
  Permutation result(rank);
  std::iota(result.begin(), result.end(), 0);
  return result;
}

bool is_identity(const Permutation& permutation) { return permutation == identity(permutation.size()); }

Permutation compose(const Permutation& outer, const Permutation& inner) {
  internal_check(outer.size() == inner.size(), "permutations of different rank");
  Permutation result(inner.size());
  for (size_t i = 0; i < inner.size(); ++i) result[i] = outer[inner[i]];
  return result;
}

Permutation inverse(const Permutation& permutation) {
  Permutation result(permutation.size());
  for (size_t i = 0; i < permutation.size(); ++i) result[permutation[i]] = static_cast<int>(i);
  return result;
}

int64_t position_of(int64_t axis, const Permutation& permutation) {
  const auto found = std::find(permutation.begin(), permutation.end(), static_cast<int>(axis));
  internal_check(found != permutation.end(), "axis outside the permutation");
  return found - permutation.begin();
}

Shape permuted(const Shape& shape, const Permutation& permutation) {
  internal_check(shape.size() == permutation.size(), "permutation and shape differ in rank");
  Shape result;
  for (int axis : permutation) result.push_back(shape[axis]);
  return result;
}

Permutation channels_last(size_t rank) {
  if (rank == 4) return {0, 2, 3, 1};
  if (rank == 3) return {0, 2, 1};
  return {};
}

std::vector<int64_t> to_attribute(const Permutation& permutation) { return {permutation.begin(), permutation.end()}; }

}  // namespace espq::lowering
