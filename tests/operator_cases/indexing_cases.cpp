// Operators that read and write at positions which other tensors hold.
#include <algorithm>
#include <numeric>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

void add_gathering(Cases& cases) {
  cases.push_back(
      {.type = "GatherElements",
       .what = "positions of their own for every column",
       .operands = {data({3, 4}), given({2, 4}, {0, 2, 1, -1, 2, 0, -3, 1}, at::kLong)},
       .reference = one([](const Arrays& in) {
         return filled({2, 4}, [&](const Index& i) { return in[0]({(static_cast<int64_t>(in[1](i)) + 3) % 3, i[1]}); });
       })});
  cases.push_back({.type = "GatherND",
                   .what = "rows of a matrix of vectors",
                   .operands = {data({3, 2, 4}), given({3, 2}, {0, 1, 2, 0, -1, -1}, at::kLong)},
                   .reference = one([](const Arrays& in) {
                     return filled({3, 4}, [&](const Index& i) {
                       const auto position = [&](int64_t k, int64_t size) {
                         return (static_cast<int64_t>(in[1]({i[0], k})) + size) % size;
                       };
                       return in[0]({position(0, 3), position(1, 2), i[1]});
                     });
                   })});
}

void add_scattering(Cases& cases) {
  for (const bool sums : {false, true}) {
    const AttributeMap reduction{{"reduction", std::string(sums ? "add" : "none")}};
    cases.push_back({.type = "ScatterElements",
                     .what = sums ? "sums" : "replaces",
                     .operands = {data({3, 4}), given({1, 4}, {2, 0, 1, -1}, at::kLong), data({1, 4})},
                     .attributes = reduction,
                     .reference = one([sums](const Arrays& in) {
                       return filled({3, 4}, [&](const Index& i) {
                         const bool hit = (static_cast<int64_t>(in[1]({0, i[1]})) + 3) % 3 == i[0];
                         return hit ? in[2]({0, i[1]}) + (sums ? in[0](i) : 0) : in[0](i);
                       });
                     })});
    cases.push_back({.type = "ScatterND",
                     .what = sums ? "sums" : "replaces",
                     .operands = {data({4, 5}), given({2, 1}, {3, 1}, at::kLong), data({2, 5})},
                     .attributes = reduction,
                     .reference = one([sums](const Arrays& in) {
                       return filled({4, 5}, [&](const Index& i) {
                         if (i[0] % 2 == 0) return in[0](i);
                         return in[2]({i[0] == 3 ? 0 : 1, i[1]}) + (sums ? in[0](i) : 0);
                       });
                     }),
                     .chip = kExact});
  }
}

void add_sorting(Cases& cases) {
  cases.push_back({.type = "TopK",
                   .what = "three largest of each row",
                   .operands = {data({4, 7}), integers({3})},
                   .reference =
                       [](const Arrays& in) {
                         Array values{{4, 3}, {}}, positions{{4, 3}, {}};
                         for (int64_t row = 0; row < 4; ++row) {
                           std::vector<int64_t> order(7);
                           std::iota(order.begin(), order.end(), 0);
                           std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
                             return in[0]({row, a}) > in[0]({row, b});
                           });
                           for (int k = 0; k < 3; ++k) {
                             values.values.push_back(in[0]({row, order[k]}));
                             positions.values.push_back(static_cast<double>(order[k]));
                           }
                         }
                         return Arrays{values, positions};
                       },
                   .results = 2});
  cases.push_back({.type = "NonZero",
                   .what = "positions in row-major order",
                   .operands = {given({2, 3}, {0, 1.5, 0, -1, 0, 2}, at::kFloat, false)},
                   .reference = one([](const Arrays&) {
                     return Array{{2, 3}, {0, 1, 1, 1, 0, 2}};
                   }),
                   .differentiable = false});
  cases.push_back({.type = "OneHot",
                   .what = "new first axis, one position from the end",
                   .operands = {given({4}, {0, 2, -1, 1}, at::kLong, false), integers({3}), given({2}, {-1, 5})},
                   .attributes = {{"axis", int64_t{0}}},
                   .reference = one([](const Arrays& in) {
                     return filled({3, 4}, [&](const Index& i) {
                       return (static_cast<int64_t>(in[0]({i[1]})) + 3) % 3 == i[0] ? 5.0 : -1.0;
                     });
                   }),
                   .differentiable = false});
  for (const bool upper : {true, false})
    cases.push_back(
        {.type = "Trilu",
         .what = upper ? "upper, beside the diagonal" : "lower",
         .operands = upper ? std::vector{data({2, 4, 5}), number(1, at::kLong)} : std::vector{data({2, 4, 5})},
         .attributes = {{"upper", int64_t{upper}}},
         .reference = one([upper](const Arrays& in) {
           return filled({2, 4, 5}, [&](const Index& i) {
             return (upper ? i[2] - i[1] >= 1 : i[2] - i[1] <= 0) ? in[0](i) : 0.0;
           });
         })});
}

}  // namespace

void add_indexing_cases(Cases& cases) {
  add_gathering(cases);
  add_scattering(cases);
  add_sorting(cases);
}

}  // namespace espq::test
