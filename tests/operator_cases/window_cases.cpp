// Pools, zeros between samples, and Resize.
#include <algorithm>
#include <limits>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

struct Pool {
  Ints kernel, strides, begin, end;
  AttributeMap attributes(AttributeMap more = {}) const {
    Ints pads = begin;
    pads.insert(pads.end(), end.begin(), end.end());
    more.insert({{"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}});
    return more;
  }
};

/// `function` of what each window covers, padding left out.
Array pooled(const Pool& pool, const Array& x, double (*function)(const std::vector<double>&, int64_t area)) {
  const size_t rank = pool.kernel.size();
  Ints shape{x.size(0), x.size(1)};
  int64_t area = 1;
  for (size_t axis = 0; axis < rank; ++axis) {
    shape.push_back((x.shape[axis + 2] + pool.begin[axis] + pool.end[axis] - pool.kernel[axis]) / pool.strides[axis] +
                    1);
    area *= pool.kernel[axis];
  }
  return filled(shape, [&](const Index& out) {
    std::vector<double> covered;
    for_each_index(pool.kernel, [&](const Index& tap) {
      Index at{out[0], out[1]};
      for (size_t axis = 0; axis < rank; ++axis) {
        at.push_back(out[axis + 2] * pool.strides[axis] - pool.begin[axis] + tap[axis]);
        if (at.back() < 0 || at.back() >= x.shape[axis + 2]) return;
      }
      covered.push_back(x(at));
    });
    return function(covered, area);
  });
}

double largest(const std::vector<double>& values, int64_t) { return *std::max_element(values.begin(), values.end()); }
double sum(const std::vector<double>& values) {
  double result = 0;
  for (const double value : values) result += value;
  return result;
}

const ChipResult kReciprocal{.codes = 0.52, .why = "the chip multiplies by a rounded reciprocal of the area"};

void add_pools(Cases& cases) {
  const std::vector<std::tuple<const char*, Shape, Pool>> pools = {
      {"2x2", {1, 16, 6, 8}, {{2, 2}, {2, 2}, {0, 0}, {0, 0}}},
      {"overlapping windows with padding", {1, 3, 7, 5}, {{3, 2}, {2, 1}, {1, 0}, {1, 1}}},
      {"1-D", {1, 4, 9}, {{3}, {2}, {1}, {0}}}};
  for (const auto& [what, shape, pool] : pools) {
    cases.push_back({.type = "MaxPool",
                     .what = what,
                     .operands = {data(shape)},
                     .attributes = pool.attributes(),
                     .reference = one([pool = pool](const Arrays& in) { return pooled(pool, in[0], largest); }),
                     .chip = kExact});
    cases.push_back({.type = "AveragePool",
                     .what = std::string(what) + ", padding counts",
                     .operands = {data(shape)},
                     .attributes = pool.attributes({{"count_include_pad", int64_t{1}}}),
                     .reference = one([pool = pool](const Arrays& in) {
                       return pooled(pool, in[0], [](const std::vector<double>& values, int64_t area) {
                         return sum(values) / static_cast<double>(area);
                       });
                     }),
                     .chip = kReciprocal});
  }
  const Pool padded = std::get<Pool>(pools[1]);
  cases.push_back({.type = "AveragePool",
                   .what = "padding does not count",
                   .operands = {data({1, 3, 7, 5})},
                   .attributes = padded.attributes(),
                   .reference = one([padded](const Arrays& in) {
                     return pooled(padded, in[0], [](const std::vector<double>& values, int64_t) {
                       return sum(values) / static_cast<double>(values.size());
                     });
                   }),
                   .chip = {.why = "the chip divides by the whole area", .compared = false}});
  cases.push_back(
      {.type = "GlobalMaxPool",
       .what = "plane",
       .operands = {data({1, 5, 4, 3})},
       .reference = one([](const Arrays& in) {
         return reduced(in[0], {2, 3}, true, [](const std::vector<double>& values) { return largest(values, 0); });
       })});
  cases.push_back({.type = "GlobalAveragePool",
                   .what = "plane",
                   .operands = {data({1, 16, 4, 3})},
                   .reference = one([](const Arrays& in) {
                     return reduced(in[0], {2, 3}, true, [](const std::vector<double>& values) {
                       return sum(values) / static_cast<double>(values.size());
                     });
                   }),
                   .chip = kReciprocal});
}

void add_insert_zeros(Cases& cases) {
  cases.push_back({.type = "InsertZeros",
                   .what = "uneven strides, zeros behind",
                   .operands = {data({1, 3, 3, 4})},
                   .attributes = {{"stride", Ints{2, 3}}, {"output_padding", Ints{1, 0}}},
                   .reference = one([](const Arrays& in) {
                     return filled({1, 3, 6, 10}, [&](const Index& i) {
                       const bool sample = i[2] % 2 == 0 && i[2] / 2 < 3 && i[3] % 3 == 0;
                       return sample ? in[0]({i[0], i[1], i[2] / 2, i[3] / 3}) : 0.0;
                     });
                   }),
                   .chip = kExact});
}

/// Interpolation between the two samples around a position; positions beyond the border repeat the last sample.
double between(const std::function<double(int64_t)>& sample, int64_t size, double position) {
  const double below = std::floor(position), part = position - below;
  const auto at = [&](double i) { return sample(std::clamp<int64_t>(static_cast<int64_t>(i), 0, size - 1)); };
  return at(below) * (1 - part) + at(below + 1) * part;
}

void add_resizes(Cases& cases) {
  const auto add = [&](const char* what, AttributeMap attributes, std::function<Array(const Arrays&)> reference,
                       ChipResult chip) {
    cases.push_back({.type = "Resize",
                     .what = what,
                     .operands = {data({1, 4, 3, 5}), omitted(), given({4}, {1, 1, 2, 2})},
                     .attributes = std::move(attributes),
                     .reference = one(std::move(reference)),
                     .chip = std::move(chip)});
  };
  const auto text = [](const char* value) { return std::string(value); };
  add(
      "nearest, every sample twice",
      {{"mode", text("nearest")},
       {"coordinate_transformation_mode", text("asymmetric")},
       {"nearest_mode", text("floor")}},
      [](const Arrays& in) {
        return filled({1, 4, 6, 10}, [&](const Index& i) { return in[0]({i[0], i[1], i[2] / 2, i[3] / 2}); });
      },
      kExact);
  add("linear, half pixel", {{"mode", text("linear")}, {"coordinate_transformation_mode", text("half_pixel")}},
      [](const Arrays& in) {
        return filled({1, 4, 6, 10}, [&](const Index& i) {
          const auto row = [&](int64_t y) {
            return between(
                [&](int64_t x) {
                  return in[0]({i[0], i[1], y, x});
                },
                5, (static_cast<double>(i[3]) + 0.5) / 2 - 0.5);
          };
          return between(row, 3, (static_cast<double>(i[2]) + 0.5) / 2 - 0.5);
        });
      },
      {});
}

}  // namespace

void add_window_cases(Cases& cases) {
  add_pools(cases);
  add_insert_zeros(cases);
  add_resizes(cases);
}

}  // namespace espq::test
