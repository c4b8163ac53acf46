#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace espq::test {

using Index = std::vector<int64_t>;

/// A tensor in plain C++ and double: what the operators' references compute with, so that no expected number comes from
/// the library that computes the results.
struct Array {
  std::vector<int64_t> shape;
  std::vector<double> values;  ///< row-major

  double operator()(const Index& index) const;
  int64_t rank() const { return static_cast<int64_t>(shape.size()); }
  /// Negative axes count from the end.
  int64_t size(int64_t axis) const { return shape.at(axis < 0 ? axis + rank() : axis); }
};
using Arrays = std::vector<Array>;

/// Calls `function(index)` for every index of the shape, in row-major order.
void for_each_index(const std::vector<int64_t>& shape, const std::function<void(const Index&)>& function);
/// The array whose element at an index is `function(index)`.
Array filled(std::vector<int64_t> shape, const std::function<double(const Index&)>& function);
/// `function` of every element.
Array mapped(const Array& x, const std::function<double(double)>& function);
/// `function` of the elements of two arrays that are broadcast as NumPy does.
Array broadcast(const Array& a, const Array& b, const std::function<double(double, double)>& function);
/// Element of `x` that stands at `index` of a result to whose shape `x` is broadcast.
double broadcast_element(const Array& x, const Index& index);
/// `function` of all elements along `axes` (empty = all), in row-major order.
Array reduced(const Array& x, const std::vector<int64_t>& axes, bool keep_dims,
              const std::function<double(const std::vector<double>&)>& function);
/// `function` of every line along `axis`, which gives as many elements.
Array along(const Array& x, int64_t axis,
            const std::function<std::vector<double>(const std::vector<double>&)>& function);
/// The same elements in another shape.
Array reshaped(Array x, std::vector<int64_t> shape);
/// `index` with `axis` set to `position`.
Index with(Index index, int64_t axis, int64_t position);

}  // namespace espq::test
