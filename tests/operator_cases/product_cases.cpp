// Sums of products: Conv, ConvTranspose, Gemm, MatMul, written as loops over every index.
#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

/// Geometry of a convolution of any number of spatial axes.
struct Window {
  Ints strides, dilations, begin, end;
  int64_t groups = 1;

  AttributeMap attributes() const {
    Ints pads = begin;
    pads.insert(pads.end(), end.begin(), end.end());
    return {{"strides", strides}, {"dilations", dilations}, {"pads", pads}, {"group", groups}};
  }
};

Array convolved(const Window& window, const Array& x, const Array& filters, const Array* bias) {
  const size_t rank = x.shape.size() - 2;
  Ints shape{x.size(0), filters.size(0)};
  for (size_t axis = 0; axis < rank; ++axis)
    shape.push_back((x.shape[axis + 2] + window.begin[axis] + window.end[axis] -
                     window.dilations[axis] * (filters.shape[axis + 2] - 1) - 1) /
                        window.strides[axis] +
                    1);
  const int64_t outputs_per_group = filters.size(0) / window.groups;
  Ints taps = filters.shape;
  taps[0] = 1;
  return filled(shape, [&](const Index& out) {
    double sum = bias ? (*bias)({out[1]}) : 0;
    for_each_index(taps, [&](const Index& tap) {
      Index at{out[0], out[1] / outputs_per_group * filters.size(1) + tap[1]}, weight{out[1], tap[1]};
      for (size_t axis = 0; axis < rank; ++axis) {
        const int64_t position =
            out[axis + 2] * window.strides[axis] - window.begin[axis] + tap[axis + 2] * window.dilations[axis];
        if (position < 0 || position >= x.shape[axis + 2]) return;
        at.push_back(position);
        weight.push_back(tap[axis + 2]);
      }
      sum += x(at) * filters(weight);
    });
    return sum;
  });
}

/// Every element of the input adds its filter to the output, at distances of the strides.
Array convolved_transposed(const Window& window, const Array& x, const Array& filters, const Array* bias) {
  const size_t rank = x.shape.size() - 2;
  Ints shape{x.size(0), filters.size(1) * window.groups};
  for (size_t axis = 0; axis < rank; ++axis)
    shape.push_back((x.shape[axis + 2] - 1) * window.strides[axis] +
                    window.dilations[axis] * (filters.shape[axis + 2] - 1) + 1 - window.begin[axis] - window.end[axis]);
  Array result = filled(shape, [&](const Index& index) { return bias ? (*bias)({index[1]}) : 0.0; });
  const auto element = [&](const Index& index) -> double* {
    size_t offset = 0;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (index[axis] < 0 || index[axis] >= shape[axis]) return nullptr;
      offset = offset * shape[axis] + index[axis];
    }
    return &result.values[offset];
  };
  const int64_t inputs_per_group = x.size(1) / window.groups;
  Ints taps = filters.shape;
  taps[0] = 1;
  for_each_index(x.shape, [&](const Index& in) {
    for_each_index(taps, [&](const Index& tap) {
      Index to{in[0], in[1] / inputs_per_group * filters.size(1) + tap[1]}, weight = tap;
      weight[0] = in[1];
      for (size_t axis = 0; axis < rank; ++axis)
        to.push_back(in[axis + 2] * window.strides[axis] + tap[axis + 2] * window.dilations[axis] - window.begin[axis]);
      if (double* sum = element(to)) *sum += x(in) * filters(weight);
    });
  });
  return result;
}

using Convolution = Array (*)(const Window&, const Array&, const Array&, const Array*);

OperatorCase convolution(const char* type, Convolution formula, const char* what, Shape input, Shape filters,
                         int64_t bias, const Window& window, ChipResult chip = kExact) {
  std::vector<Operand> operands{data(std::move(input)), weight(std::move(filters))};
  if (bias > 0) operands.push_back(weight({bias}));
  return {.type = type,
          .what = what,
          .operands = std::move(operands),
          .attributes = window.attributes(),
          .reference =
              one([=](const Arrays& in) { return formula(window, in[0], in[1], in.size() > 2 ? &in[2] : nullptr); }),
          .chip = std::move(chip)};
}

void add_convolutions(Cases& cases) {
  const auto conv = [&](const char* what, Shape input, Shape filters, int64_t bias, const Window& window,
                        ChipResult chip = kExact) {
    cases.push_back(
        convolution("Conv", convolved, what, std::move(input), std::move(filters), bias, window, std::move(chip)));
  };
  conv("3x3, padded, bias", {1, 3, 6, 5}, {17, 3, 3, 3}, 17, {{1, 1}, {1, 1}, {1, 1}, {1, 1}});
  conv("1x1 without bias", {1, 5, 4, 4}, {16, 5, 1, 1}, 0, {{1, 1}, {1, 1}, {0, 0}, {0, 0}});
  conv("stride, dilation, uneven padding", {1, 2, 9, 8}, {8, 2, 3, 2}, 8, {{2, 1}, {1, 2}, {1, 0}, {2, 1}});
  conv("one group per channel", {1, 16, 5, 6}, {16, 1, 3, 3}, 16, {{1, 1}, {1, 1}, {1, 1}, {1, 1}, 16});
  conv("1-D", {1, 3, 11}, {6, 3, 4}, 6, {{2}, {1}, {1}, {2}});
  conv("3-D", {1, 2, 3, 4, 3}, {2, 2, 2, 2, 2}, 2, {{1, 1, 1}, {1, 1, 1}, {0, 1, 0}, {0, 0, 1}},
       {.why = "the chip convolves lines and planes", .compared = false});
  conv("two groups", {1, 4, 4, 4}, {6, 2, 3, 3}, 6, {{1, 1}, {1, 1}, {1, 1}, {1, 1}, 2},
       {.why = "the chip has one group or one per channel", .compared = false});
  const auto transposed = [&](const char* what, Shape input, Shape filters, int64_t bias, const Window& window,
                              ChipResult chip = kExact) {
    cases.push_back(convolution("ConvTranspose", convolved_transposed, what, std::move(input), std::move(filters), bias,
                                window, std::move(chip)));
  };
  transposed("stride 2, bias", {1, 3, 4, 3}, {3, 5, 3, 2}, 5, {{2, 2}, {1, 1}, {0, 0}, {0, 0}});
  transposed("cropped, dilated", {1, 2, 5, 4}, {2, 3, 3, 3}, 0, {{2, 1}, {1, 2}, {1, 2}, {0, 1}});
}

Array product(const Array& a, const Array& b) {
  Ints shape = a.rank() > b.rank() ? a.shape : b.shape;
  for (size_t i = 0; i + 2 < shape.size(); ++i) {  // batches are broadcast
    const auto extent = [&](const Array& x) {
      const size_t skipped = shape.size() - x.shape.size();
      return i < skipped ? int64_t{1} : x.shape[i - skipped];
    };
    shape[i] = std::max(extent(a), extent(b));
  }
  shape[shape.size() - 2] = a.size(-2);
  shape.back() = b.size(-1);
  const auto element = [&](const Array& x, const Index& out, int64_t row, int64_t column) {
    Index index = out;
    index[index.size() - 2] = row;
    index.back() = column;
    return broadcast_element(x, index);
  };
  return filled(shape, [&](const Index& out) {
    double sum = 0;
    for (int64_t k = 0; k < a.size(-1); ++k)
      sum += element(a, out, out[out.size() - 2], k) * element(b, out, k, out.back());
    return sum;
  });
}

Array transposed(const Array& x) {
  return filled({x.size(1), x.size(0)}, [&](const Index& i) { return x({i[1], i[0]}); });
}

void add_matrices(Cases& cases) {
  for (const bool turned : {false, true})
    cases.push_back({.type = "Gemm",
                     .what = turned ? "filters as rows" : "filters as columns, no bias",
                     .operands = turned ? std::vector{data({3, 9}), weight({17, 9}), weight({17})}
                                        : std::vector{data({3, 9}), weight({9, 17})},
                     .attributes = {{"transB", int64_t{turned}}},
                     .reference = one([turned](const Arrays& in) {
                       Array sums = product(in[0], turned ? transposed(in[1]) : in[1]);
                       if (!turned) return sums;
                       return broadcast(sums, in[2], [](double a, double b) { return a + b; });
                     }),
                     .chip = kExact});
  cases.push_back({.type = "Gemm",
                   .what = "turned operand, factors",
                   .operands = {data({9, 3}), weight({9, 5}), weight({5})},
                   .attributes = {{"transA", int64_t{1}}, {"alpha", 0.5f}, {"beta", -2.0f}},
                   .reference = one([](const Arrays& in) {
                     return broadcast(product(transposed(in[0]), in[1]), in[2],
                                      [](double a, double b) { return a / 2 - 2 * b; });
                   }),
                   .chip = {.why = "the simplifier brings it into the chip's form", .compared = false}});
  const auto matmul = [&](const char* what, Operand a, Operand b, ChipResult chip = kExact) {
    cases.push_back({.type = "MatMul",
                     .what = what,
                     .operands = {std::move(a), std::move(b)},
                     .reference = one([](const Arrays& in) { return product(in[0], in[1]); }),
                     .chip = std::move(chip)});
  };
  matmul("constant matrix", data({1, 4, 9}), weight({9, 16}));
  matmul("two activations", data({2, 3, 8}), data({2, 8, 17}));
  matmul("batches that are broadcast", data({2, 1, 3, 4}), data({3, 4, 5}),
         {.why = "the chip multiplies batches of one shape", .compared = false});
}

}  // namespace

void add_product_cases(Cases& cases) {
  add_convolutions(cases);
  add_matrices(cases);
}

}  // namespace espq::test
