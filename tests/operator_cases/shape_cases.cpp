// Operators that change the shape or the type, tensors made from shapes, and changes of the grid.
#include <algorithm>

#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

/// The elements of operand 0 in another shape.
void add_reshaped(Cases& cases, const char* type, const char* what, Shape from, Shape to,
                  std::vector<Operand> more = {}, AttributeMap attributes = {}, ChipResult chip = kExact) {
  std::vector<Operand> operands{data(std::move(from))};
  operands.insert(operands.end(), more.begin(), more.end());
  cases.push_back({.type = type,
                   .what = what,
                   .operands = std::move(operands),
                   .attributes = std::move(attributes),
                   .reference = one([to = std::move(to)](const Arrays& in) { return reshaped(in[0], to); }),
                   .chip = std::move(chip)});
}

void add_reshaping(Cases& cases) {
  add_reshaped(cases, "Reshape", "copied and inferred axes", {2, 3, 4, 5}, {2, 20, 3}, {integers({0, -1, 3})});
  add_reshaped(cases, "Flatten", "second axis", {2, 3, 4, 5}, {6, 20}, {}, {{"axis", int64_t{2}}});
  add_reshaped(cases, "Squeeze", "given axes", {1, 3, 1, 5}, {1, 3, 5}, {integers({-2})});
  add_reshaped(cases, "Squeeze", "all axes of size 1", {1, 3, 1, 5}, {3, 5});
  add_reshaped(cases, "Unsqueeze", "in front and behind", {3, 5}, {1, 3, 5, 1}, {integers({0, -1})});
  add_reshaped(cases, "Dropout", "does nothing at inference", {2, 3}, {2, 3});
  add_reshaped(cases, "RequantizeLinear", "keeps the value", {2, 30}, {2, 30}, {number(0.25)}, {},
               {.why = "its grids come from lowering", .compared = false});
}

void add_repeating(Cases& cases) {
  cases.push_back({.type = "Expand",
                   .what = "a row and a new axis",
                   .operands = {data({3, 1}), integers({2, 1, 4})},
                   .reference = one([](const Arrays& in) {
                     return filled({2, 3, 4}, [&](const Index& i) { return in[0]({i[1], 0}); });
                   })});
  cases.push_back({.type = "Tile",
                   .what = "both axes",
                   .operands = {data({2, 3}), integers({2, 3})},
                   .reference = one([](const Arrays& in) {
                     return filled({4, 9}, [&](const Index& i) { return in[0]({i[0] % 2, i[1] % 3}); });
                   })});
}

void add_types(Cases& cases) {
  const auto truncated = one([](const Arrays& in) { return mapped(in[0], [](double x) { return std::trunc(x); }); });
  cases.push_back({.type = "Cast",
                   .what = "float to int64",
                   .operands = {data({4, 5}, -9, 9)},
                   .attributes = {{"to", int64_t{7}}},
                   .reference = truncated,
                   .differentiable = false});
  cases.push_back({.type = "CastLike",
                   .what = "float to int64",
                   .operands = {data({4, 5}, -9, 9), integers({1})},
                   .reference = truncated,
                   .differentiable = false});
}

void add_made_tensors(Cases& cases) {
  const auto add = [&](const char* type, const char* what, std::vector<Operand> operands, Array result,
                       AttributeMap attributes = {}) {
    cases.push_back({.type = type,
                     .what = what,
                     .operands = std::move(operands),
                     .attributes = std::move(attributes),
                     .reference = one([result = std::move(result)](const Arrays&) { return result; }),
                     .differentiable = false});
  };
  add("Shape", "middle axes", {data({2, 3, 4, 5})}, {{2}, {3, 4}}, {{"start", int64_t{1}}, {"end", int64_t{-1}}});
  add("Size", "all axes", {data({2, 3, 4})}, {{}, {24}});
  add("ConstantOfShape", "a value of its own", {integers({2, 2})}, {{2, 2}, {7, 7, 7, 7}},
      {{"value", at::full({1}, 7, at::kLong)}});
  add("Range", "downwards", {number(5, at::kLong), number(-2, at::kLong), number(-3, at::kLong)}, {{3}, {5, 2, -1}});
}

/// ONNX's affine quantization of a float model that holds integers.
void add_grids(Cases& cases) {
  cases.push_back(
      {.type = "QuantizeLinear",
       .what = "int8 with a zero point per channel",
       .operands = {data({2, 3, 4}), given({3}, {0.25, 0.03125, 0.0625}), given({3}, {3, -4, 0}, at::kChar)},
       .attributes = {{"axis", int64_t{1}}},
       .reference = one([](const Arrays& in) {
         return filled({2, 3, 4}, [&](const Index& i) {
           const double code = std::nearbyint(in[0](i) / in[1]({i[1]})) + in[2]({i[1]});
           return std::clamp(code, -128.0, 127.0);
         });
       }),
       .differentiable = false,
       .chip = {.why = "its grids come from lowering", .compared = false}});
  cases.push_back(
      {.type = "DequantizeLinear",
       .what = "int8 per tensor",
       .operands = {{.shape = {2, 12}, .low = -128, .high = 128, .dtype = at::kChar},
                    number(0.125),
                    given({}, {5}, at::kChar)},
       .reference = one([](const Arrays& in) { return mapped(in[0], [](double code) { return (code - 5) / 8; }); }),
       .differentiable = false,
       .chip = {.why = "its grids come from lowering", .compared = false}});
}

}  // namespace

void add_shape_cases(Cases& cases) {
  add_reshaping(cases);
  add_repeating(cases);
  add_types(cases);
  add_made_tensors(cases);
  add_grids(cases);
}

}  // namespace espq::test
