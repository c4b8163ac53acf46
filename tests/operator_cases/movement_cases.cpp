// Operators that join, cut, turn and repeat: every element of the result is one of an operand.
#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

void add(Cases& cases, const char* type, const char* what, std::vector<Operand> operands, AttributeMap attributes,
         std::function<Array(const Arrays&)> reference, ChipResult chip = kExact) {
  cases.push_back({.type = type,
                   .what = what,
                   .operands = std::move(operands),
                   .attributes = std::move(attributes),
                   .reference = one(std::move(reference)),
                   .chip = std::move(chip)});
}

void add_joining(Cases& cases) {
  add(cases, "Concat", "three tensors, channels", {data({1, 2, 3, 4}), data({1, 3, 3, 4}), data({1, 1, 3, 4})},
      {{"axis", int64_t{1}}}, [](const Arrays& in) {
        return filled({1, 6, 3, 4}, [&](const Index& i) {
          return i[1] < 2 ? in[0](i) : i[1] < 5 ? in[1](with(i, 1, i[1] - 2)) : in[2](with(i, 1, i[1] - 5));
        });
      });
  cases.push_back({.type = "Split",
                   .what = "given sizes",
                   .operands = {data({1, 7, 3, 2}), integers({2, 5})},
                   .attributes = {{"axis", int64_t{1}}},
                   .reference =
                       [](const Arrays& in) {
                         return Arrays{
                             filled({1, 2, 3, 2}, [&](const Index& i) { return in[0](i); }),
                             filled({1, 5, 3, 2}, [&](const Index& i) { return in[0](with(i, 1, i[1] + 2)); })};
                       },
                   .results = 2,
                   .chip = kExact});
}

void add_picking(Cases& cases) {
  add(cases, "Slice", "steps, negative positions",
      {data({1, 6, 5, 4}), integers({1, -1}), integers({6, -9}), integers({1, -2}), integers({2, -2})}, {},
      [](const Arrays& in) {
        return filled({1, 3, 3, 4}, [&](const Index& i) { return in[0]({0, 1 + 2 * i[1], 4 - 2 * i[2], i[3]}); });
      });
  add(cases, "Gather", "matrix of positions, some from the end",
      {data({3, 5, 2}), given({2, 2}, {0, 4, -1, 2}, at::kLong)}, {{"axis", int64_t{1}}}, [](const Arrays& in) {
        const int64_t positions[2][2] = {{0, 4}, {4, 2}};
        return filled({3, 2, 2, 2}, [&](const Index& i) { return in[0]({i[0], positions[i[1]][i[2]], i[3]}); });
      });
  const auto pad = [&](const char* mode, std::function<double(const Array&, int64_t, int64_t)> element) {
    const bool constant = std::string(mode) == "constant";
    std::vector<Operand> operands{data({1, 2, 4, 5}), integers({0, 0, 1, 2, 0, 0, 3, 1})};
    if (constant) operands.push_back(number(0.5));
    add(cases, "Pad", mode, std::move(operands), {{"mode", std::string(mode)}},
        [element = std::move(element)](const Arrays& in) {
          return filled({1, 2, 8, 8}, [&](const Index& i) {
            const Array plane = filled({4, 5}, [&](const Index& k) { return in[0]({0, i[1], k[0], k[1]}); });
            return element(plane, i[2] - 1, i[3] - 2);
          });
        });
  };
  pad("constant", [](const Array& plane, int64_t y, int64_t x) {
    return y >= 0 && y < 4 && x >= 0 && x < 5 ? plane({y, x}) : 0.5;
  });
  pad("edge", [](const Array& plane, int64_t y, int64_t x) {
    return plane({std::clamp<int64_t>(y, 0, 3), std::clamp<int64_t>(x, 0, 4)});
  });
  pad("reflect", [](const Array& plane, int64_t y, int64_t x) {
    return plane({y > 3 ? 6 - y : std::abs(y), x > 4 ? 8 - x : std::abs(x)});
  });
}

void add_turning(Cases& cases) {
  add(cases, "Transpose", "four axes", {data({2, 3, 4, 5})}, {{"perm", Ints{2, 0, 3, 1}}}, [](const Arrays& in) {
    return filled({4, 2, 5, 3}, [&](const Index& i) { return in[0]({i[1], i[3], i[0], i[2]}); });
  });
  for (const bool columns_first : {false, true})
    add(cases, "DepthToSpace", columns_first ? "channels of one output together" : "blocks first", {data({1, 8, 2, 3})},
        {{"blocksize", int64_t{2}}, {"mode", std::string(columns_first ? "CRD" : "DCR")}},
        [columns_first](const Arrays& in) {
          return filled({1, 2, 4, 6}, [&](const Index& i) {
            const int64_t block = i[2] % 2 * 2 + i[3] % 2;
            return in[0]({0, columns_first ? i[1] * 4 + block : block * 2 + i[1], i[2] / 2, i[3] / 2});
          });
        });
  add(cases, "SpaceToDepth", "2x2 blocks", {data({1, 2, 4, 6})}, {{"blocksize", int64_t{2}}},
      [](const Arrays& in) {
        return filled({1, 8, 2, 3}, [&](const Index& i) {
          const int64_t block = i[1] / 2;
          return in[0]({0, i[1] % 2, i[2] * 2 + block / 2, i[3] * 2 + block % 2});
        });
      },
      {.why = "the chip orders the new channels channel by channel", .compared = false});
  add(cases, "ReverseSequence", "one length per row", {data({3, 5, 2}), integers({1, 3, 5})},
      {{"batch_axis", int64_t{0}}, {"time_axis", int64_t{1}}}, [](const Arrays& in) {
        return filled({3, 5, 2}, [&](const Index& i) {
          const int64_t length = 2 * i[0] + 1;
          return in[0]({i[0], i[1] < length ? length - 1 - i[1] : i[1], i[2]});
        });
      });
}

}  // namespace

void add_movement_cases(Cases& cases) {
  add_joining(cases);
  add_picking(cases);
  add_turning(cases);
}

}  // namespace espq::test
