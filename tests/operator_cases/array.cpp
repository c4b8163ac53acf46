#include "tests/operator_cases/array.h"

#include <algorithm>
#include <stdexcept>

namespace espq::test {

double Array::operator()(const Index& index) const {
  if (index.size() != shape.size()) throw std::logic_error("a reference indexes an array of another rank");
  int64_t offset = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (index[axis] < 0 || index[axis] >= shape[axis]) throw std::logic_error("a reference leaves its array");
    offset = offset * shape[axis] + index[axis];
  }
  return values[offset];
}

void for_each_index(const std::vector<int64_t>& shape, const std::function<void(const Index&)>& function) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
  Index index(shape.size(), 0);
  while (true) {
    function(index);
    size_t axis = shape.size();
    while (axis > 0 && ++index[axis - 1] == shape[axis - 1]) index[--axis] = 0;
    if (axis == 0) return;
  }
}

Array filled(std::vector<int64_t> shape, const std::function<double(const Index&)>& function) {
  Array result{std::move(shape), {}};
  for_each_index(result.shape, [&](const Index& index) { result.values.push_back(function(index)); });
  return result;
}

Array mapped(const Array& x, const std::function<double(double)>& function) {
  Array result = x;
  for (double& value : result.values) value = function(value);
  return result;
}

double broadcast_element(const Array& x, const Index& index) {
  Index own;
  for (size_t axis = 0; axis < x.shape.size(); ++axis)
    own.push_back(x.shape[axis] == 1 ? 0 : index[index.size() - x.shape.size() + axis]);
  return x(own);
}

Array broadcast(const Array& a, const Array& b, const std::function<double(double, double)>& function) {
  std::vector<int64_t> shape = a.rank() > b.rank() ? a.shape : b.shape;
  const std::vector<int64_t>& other = a.rank() > b.rank() ? b.shape : a.shape;
  for (size_t i = 1; i <= other.size(); ++i) {
    int64_t& extent = shape[shape.size() - i];
    if (extent == 1) extent = other[other.size() - i];
  }
  return filled(shape, [&](const Index& i) { return function(broadcast_element(a, i), broadcast_element(b, i)); });
}

Array reduced(const Array& x, const std::vector<int64_t>& axes, bool keep_dims,
              const std::function<double(const std::vector<double>&)>& function) {
  std::vector<bool> goes(x.shape.size(), axes.empty());
  for (const int64_t axis : axes) goes[axis < 0 ? axis + x.rank() : axis] = true;
  std::vector<int64_t> outer = x.shape, inner = x.shape, shape;
  for (size_t axis = 0; axis < goes.size(); ++axis) {
    (goes[axis] ? outer : inner)[axis] = 1;
    if (keep_dims || !goes[axis]) shape.push_back(outer[axis]);
  }
  Array result{shape, {}};
  for_each_index(outer, [&](const Index& base) {
    std::vector<double> elements;
    for_each_index(inner, [&](const Index& step) {
      Index index = base;
      for (size_t axis = 0; axis < index.size(); ++axis) index[axis] += step[axis];
      elements.push_back(x(index));
    });
    result.values.push_back(function(elements));
  });
  return result;
}

Array along(const Array& x, int64_t axis,
            const std::function<std::vector<double>(const std::vector<double>&)>& function) {
  if (axis < 0) axis += x.rank();
  return filled(x.shape, [&](const Index& index) {
    std::vector<double> line;
    for (int64_t i = 0; i < x.size(axis); ++i) line.push_back(x(with(index, axis, i)));
    return function(line).at(index[axis]);
  });
}

Array reshaped(Array x, std::vector<int64_t> shape) {
  x.shape = std::move(shape);
  return x;
}

Index with(Index index, int64_t axis, int64_t position) {
  index[axis < 0 ? axis + static_cast<int64_t>(index.size()) : axis] = position;
  return index;
}

}  // namespace espq::test
