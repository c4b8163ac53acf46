// Reduce operators, Softmax, and sums along an axis.
#include <algorithm>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

using Values = std::vector<double>;

double sum(const Values& values, double (*function)(double)) {
  double result = 0;
  for (const double value : values) result += function(value);
  return result;
}

double same(double x) { return x; }
double square(double x) { return x * x; }

struct Reducer {
  const char* type;
  double (*function)(const Values&);
  ChipResult chip;
  double low = -2, high = 2;
};

std::vector<Reducer> reducers() {
  return {
      {"ReduceMean", [](const Values& v) { return sum(v, same) / static_cast<double>(v.size()); }, {}},
      {"ReduceSum", [](const Values& v) { return sum(v, same); }, kExact},
      {"ReduceMax", [](const Values& v) { return *std::max_element(v.begin(), v.end()); }, kExact},
      {"ReduceMin", [](const Values& v) { return *std::min_element(v.begin(), v.end()); }, kExact},
      {"ReduceL1", [](const Values& v) { return sum(v, [](double x) { return std::abs(x); }); }, kExact},
      {"ReduceSumSquare", [](const Values& v) { return sum(v, square); }, kExact},
      {"ReduceL2",
       [](const Values& v) { return std::sqrt(sum(v, square)); },
       {.codes = 0.1, .why = "the chip's square root is five steps of Newton in float32"}},
      {"ReduceProd",
       [](const Values& v) {
         double product = 1;
         for (const double value : v) product *= value;
         return product;
       },
       {},
       0.5,
       1.5},
      {"ReduceLogSum", [](const Values& v) { return std::log2(sum(v, same)) * M_LN2; }, {}, 0.25, 2},
      {"ReduceLogSumExp", [](const Values& v) { return std::log(sum(v, [](double x) { return std::exp(x); })); }, {}}};
}

}  // namespace

void add_reduction_cases(Cases& cases) {
  const std::vector<std::tuple<const char*, Ints, bool>> ways = {
      {"plane, axes stay", {2, 3}, true}, {"channels, axis goes", {1}, false}, {"last axis from the end", {-1}, true}};
  for (const Reducer& reducer : reducers())
    for (const auto& [what, axes, keep] : ways)
      cases.push_back({.type = reducer.type,
                       .what = what,
                       .operands = {data({1, 4, 3, 5}, reducer.low, reducer.high), integers(axes)},
                       .attributes = {{"keepdims", int64_t{keep}}},
                       .reference = one([axes = axes, keep = keep, function = reducer.function](const Arrays& in) {
                         return reduced(in[0], axes, keep, function);
                       }),
                       .chip = reducer.chip});
  for (const int64_t axis : {-1, 1}) {
    const auto softmax = [axis](const Array& x, bool logarithm) {
      return along(x, axis, [&](const Values& line) {
        const double total = sum(line, [](double value) { return std::exp(value); });
        Values result;
        for (const double value : line) result.push_back(logarithm ? value - std::log(total) : std::exp(value) / total);
        return result;
      });
    };
    const std::string what = axis == 1 ? "channels" : "last axis";
    cases.push_back({.type = "Softmax",
                     .what = what,
                     .operands = {data({1, 6, 3, 5})},
                     .attributes = {{"axis", axis}},
                     .reference = one([softmax](const Arrays& in) { return softmax(in[0], false); })});
    cases.push_back({.type = "LogSoftmax",
                     .what = what,
                     .operands = {data({1, 6, 3, 5})},
                     .attributes = {{"axis", axis}},
                     .reference = one([softmax](const Arrays& in) { return softmax(in[0], true); })});
  }
  for (const bool exclusive : {false, true})
    cases.push_back({.type = "CumSum",
                     .what = exclusive ? "from the end, without the element itself" : "from the front",
                     .operands = {data({2, 6}), number(1, at::kLong)},
                     .attributes = {{"exclusive", int64_t{exclusive}}, {"reverse", int64_t{exclusive}}},
                     .reference = one([exclusive](const Arrays& in) {
                       return filled(in[0].shape, [&](const Index& i) {
                         double total = 0;
                         for (int64_t k = 0; k < 6; ++k)
                           if (exclusive ? k > i[1] : k <= i[1]) total += in[0]({i[0], k});
                         return total;
                       });
                     })});
}

}  // namespace espq::test
