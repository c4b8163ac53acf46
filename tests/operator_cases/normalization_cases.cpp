// Normalizations: mean and variance of groups of elements.
#include <algorithm>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

constexpr double kEpsilon = 1e-3;
const AttributeMap kAttributes{{"epsilon", 1e-3f}};

/// (x - mean) / deviation within groups: all elements with the same `group(index)`.
Array normalized(const Array& x, int64_t groups, const std::function<int64_t(const Index&)>& group) {
  std::vector<double> sums(groups), squares(groups), counts(groups);
  for_each_index(x.shape, [&](const Index& i) {
    const int64_t g = group(i);
    sums[g] += x(i);
    squares[g] += x(i) * x(i);
    ++counts[g];
  });
  return filled(x.shape, [&](const Index& i) {
    const int64_t g = group(i);
    const double mean = sums[g] / counts[g];
    return (x(i) - mean) / std::sqrt(squares[g] / counts[g] - mean * mean + kEpsilon);
  });
}

/// x * scale + bias with one of each per channel.
Array affine(const Array& x, const Array& scale, const Array& bias) {
  return filled(x.shape, [&](const Index& i) { return x(i) * scale({i[1]}) + bias({i[1]}); });
}

/// Rows, their products with the factors and the sums with the offsets are rounded, and so are factors and offsets:
/// half a code each, of factors below one.
const ChipResult kSeveralRoundings{.codes = 2, .why = "LayerNormalization of rows, Mul and Add"};

void add_by_channel(Cases& cases) {
  cases.push_back({.type = "BatchNormalization",
                   .what = "statistics of the training",
                   .operands = {data({2, 3, 4, 2}), weight({3}), weight({3}), weight({3}), weight({3}, 0.5, 2)},
                   .attributes = kAttributes,
                   .reference = one([](const Arrays& in) {
                     return filled(in[0].shape, [&](const Index& i) {
                       const Index c{i[1]};
                       return (in[0](i) - in[3](c)) * in[1](c) / std::sqrt(in[4](c) + kEpsilon) + in[2](c);
                     });
                   }),
                   .chip = {.why = "the simplifier folds it", .compared = false}});
  cases.push_back({.type = "InstanceNormalization",
                   .what = "plane by plane",
                   .operands = {data({2, 3, 4, 2}), weight({3}), weight({3})},
                   .attributes = kAttributes,
                   .reference = one([](const Arrays& in) {
                     return affine(normalized(in[0], 6, [](const Index& i) { return i[0] * 3 + i[1]; }), in[1], in[2]);
                   }),
                   .chip = kSeveralRoundings});
  AttributeMap groups = kAttributes;
  groups["num_groups"] = int64_t{2};
  cases.push_back({.type = "GroupNormalization",
                   .what = "two groups",
                   .operands = {data({2, 4, 3, 2}), weight({4}), weight({4})},
                   .attributes = groups,
                   .reference = one([](const Arrays& in) {
                     return affine(normalized(in[0], 4, [](const Index& i) { return i[0] * 2 + i[1] / 2; }), in[1],
                                   in[2]);
                   }),
                   .chip = kSeveralRoundings});
}

/// Three neighbours: one in front, one behind. Four: one in front, two behind.
void add_over_channels(Cases& cases) {
  for (const int64_t size : {3, 4})
    cases.push_back({.type = "LRN",
                     .what = "squares of neighbouring channels",
                     .operands = {data({2, 5, 3, 2})},
                     .attributes = {{"size", size}, {"alpha", 0.5f}, {"beta", 0.75f}, {"bias", 2.0f}},
                     .reference = one([size](const Arrays& in) {
                       return filled(in[0].shape, [&](const Index& i) {
                         double squares = 0;
                         const int64_t first = i[1] - (size - 1) / 2, last = i[1] + size / 2;
                         for (int64_t c = std::max<int64_t>(first, 0); c <= std::min<int64_t>(last, 4); ++c)
                           squares += std::pow(in[0](with(i, 1, c)), 2);
                         return in[0](i) / std::pow(2 + 0.5 / static_cast<double>(size) * squares, 0.75);
                       });
                     })});
}

void add_by_row(Cases& cases) {
  cases.push_back({.type = "LayerNormalization",
                   .what = "last axis, gain and offset",
                   .operands = {data({2, 5, 12}), weight({12}, 0.5, 1.5), weight({12})},
                   .attributes = kAttributes,
                   .reference = one([](const Arrays& in) {
                     const Array rows = normalized(in[0], 10, [](const Index& i) { return i[0] * 5 + i[1]; });
                     return filled(rows.shape, [&](const Index& i) { return rows(i) * in[1]({i[2]}) + in[2]({i[2]}); });
                   }),
                   .chip = {.codes = 0.1, .why = "the chip's square root is five steps of Newton in float32"}});
  cases.push_back({.type = "RMSNormalization",
                   .what = "last axis",
                   .operands = {data({2, 5, 12}), weight({12}, 0.5, 1.5)},
                   .attributes = kAttributes,
                   .reference = one([](const Arrays& in) {
                     return filled(in[0].shape, [&](const Index& i) {
                       double squares = 0;
                       for (int64_t k = 0; k < 12; ++k) squares += std::pow(in[0](with(i, 2, k)), 2);
                       return in[0](i) * in[1]({i[2]}) / std::sqrt(squares / 12 + kEpsilon);
                     });
                   })});
  for (const int64_t order : {1, 2})
    for (const int64_t axis : {-1, 1})
      cases.push_back({.type = "LpNormalization",
                       .what = axis == 1 ? "channels" : "last axis",
                       .operands = {data({1, 6, 4, 5})},
                       .attributes = {{"p", order}, {"axis", axis}},
                       .reference = one([order, axis](const Arrays& in) {
                         return along(in[0], axis, [order](std::vector<double> line) {
                           double norm = 0;
                           for (const double value : line) norm += std::pow(std::abs(value), order);
                           if (order == 2) norm = std::sqrt(norm);
                           for (double& value : line) value /= norm;
                           return line;
                         });
                       })});
}

}  // namespace

void add_normalization_cases(Cases& cases) {
  add_by_channel(cases);
  add_over_channels(cases);
  add_by_row(cases);
}

}  // namespace espq::test
