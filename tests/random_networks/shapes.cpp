// Nodes that change the shape, make tensors of a shape or change the type.
#include <numeric>

#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::integers;
using test::tensor;

bool draw_reshape(Drawing& d, std::string_view) {
  const auto x = d.operand();
  if (!x) return false;
  Random& random = d.random;
  int64_t left = x->elements();
  std::vector<int64_t> shape;
  const int64_t rank = random.integer(1, 4);
  for (int64_t i = 0; i + 1 < rank; ++i) {
    std::vector<int64_t> divisors;
    for (int64_t k = 1; k <= left; ++k)
      if (left % k == 0) divisors.push_back(k);
    shape.push_back(i == 0 && x->rank() > 0 && left % x->shape[0] == 0 && random.chance(0.6) ? x->shape[0]
                                                                                             : random.pick(divisors));
    left /= shape.back();
  }
  shape.push_back(left);
  if (random.chance(0.4)) shape[static_cast<size_t>(random.integer(0, rank - 1))] = -1;
  // 0 = as in the operand
  for (size_t i = 0; i < shape.size() && i < x->shape.size(); ++i)
    if (shape[i] == x->shape[i] && random.chance(0.15)) shape[i] = 0;
  d.node("Reshape", {x->name, d.integers(shape)});
  return true;
}

bool draw_flatten(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.5)) attributes.push_back(integer("axis", d.random.integer(-x->rank(), x->rank())));
  d.node("Flatten", {x->name}, attributes);
  return true;
}

bool draw_squeeze(Drawing& d, std::string_view) {
  const auto x = d.operand();
  if (!x) return false;
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < x->rank(); ++i)
    if (x->shape[static_cast<size_t>(i)] == 1 && d.random.chance(0.6))
      axes.push_back(d.random.chance(0.3) ? i - x->rank() : i);
  if (axes.empty() && d.random.chance(0.8)) return false;
  std::vector<std::string> inputs{x->name};
  if (!axes.empty()) inputs.push_back(d.integers(axes));
  d.node("Squeeze", inputs);
  return true;
}

bool draw_unsqueeze(Drawing& d, std::string_view) {
  const auto x = d.operand({0, 1, 2, 3, 4});
  if (!x) return false;
  std::vector<int64_t> axes{d.random.integer(-x->rank() - 1, x->rank())};
  if (x->rank() < 3 && d.random.chance(0.3)) axes = {0, x->rank() + 1};
  d.node("Unsqueeze", {x->name, d.integers(axes)});
  return true;
}

bool draw_transpose(Drawing& d, std::string_view) {
  const auto x = d.operand({2, 3, 4, 4, 4, 5});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.85)) {
    std::vector<int64_t> order(static_cast<size_t>(x->rank()));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i-- > 1;)
      std::swap(order[i], order[static_cast<size_t>(d.random.integer(0, static_cast<int64_t>(i)))]);
    if (x->rank() == 4 && d.random.chance(0.4))
      order = d.random.chance(0.5) ? std::vector<int64_t>{0, 2, 3, 1} : std::vector<int64_t>{0, 3, 1, 2};
    attributes.push_back(integers("perm", order));
  }
  d.node("Transpose", {x->name}, attributes);
  return true;
}

bool draw_same(Drawing& d, std::string_view type) {
  const auto x = d.operand();
  if (!x) return false;
  d.node(std::string(type), {x->name});
  return true;
}

bool draw_expand(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  Shape shape = x->shape;
  bool grows = false;
  for (int64_t& size : shape)
    if (size == 1 && d.random.chance(0.7)) size = d.random.integer(2, 4), grows = true;
  if (d.random.chance(0.1) && shape.size() < 4) shape.insert(shape.begin(), 2), grows = true;
  if (!grows && d.random.chance(0.7)) return false;
  // A size of 1 asks for the operand's.
  if (!grows) shape.assign(shape.size(), 1);
  d.node("Expand", {x->name, d.integers(shape)});
  return true;
}

bool draw_tile(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  std::vector<int64_t> repeats(static_cast<size_t>(x->rank()), 1);
  for (int64_t& count : repeats)
    if (d.random.chance(0.4)) count = d.random.integer(1, 3);
  d.node("Tile", {x->name, d.integers(repeats)});
  return true;
}

bool draw_cast(Drawing& d, std::string_view type) {
  std::optional<Value> x = d.random.chance(0.5) ? d.existing(d.random.pick({at::kBool, at::kLong})) : std::nullopt;
  if (!x) x = d.operand();
  if (!x) return false;
  constexpr int64_t kFloat = 1, kInt8 = 3, kInt32 = 6, kInt64 = 7, kBool = 9;
  if (type == "CastLike") {
    const at::Tensor like = at::zeros({1}, d.random.pick({at::kFloat, at::kFloat, at::kBool, at::kLong}));
    d.node("CastLike", {x->name, d.constant(like)});
    return true;
  }
  const bool whole = x->dtype != at::kFloat;
  d.node("Cast", {x->name},
         {integer("to", whole ? d.random.pick({kFloat, kFloat, kInt64})
                              : d.random.pick({kFloat, kInt32, kInt64, kBool, kInt8}))});
  return true;
}

bool draw_shape(Drawing& d, std::string_view type) {
  const auto x = d.operand();
  if (!x || x->rank() == 0) return false;
  Attributes attributes;
  if (type == "Shape" && d.random.chance(0.3)) attributes.push_back(integer("start", d.random.integer(-x->rank(), 0)));
  if (type == "Shape" && d.random.chance(0.3)) attributes.push_back(integer("end", x->rank()));
  d.node(std::string(type), {x->name}, attributes);
  return true;
}

/// A constant made by a node; something reads it that reads the network, too.
bool draw_made(Drawing& d, std::string_view type) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  const std::string made = fmt::format("n{}_{}_y", d.nodes() + 1, type);
  if (type == "Range") {
    const int64_t size = x->shape.back();
    d.node("Range",
           {d.constant(at::scalar_tensor(0.0, at::kFloat)), d.constant(at::scalar_tensor(0.5 * size, at::kFloat)),
            d.constant(at::scalar_tensor(0.5, at::kFloat))});
  } else {
    d.node("ConstantOfShape", {d.integers(x->shape)},
           {tensor("value", at::full({1}, d.random.real(-2, 2), at::kFloat))});
  }
  d.node(d.random.pick<std::string>({"Add", "Mul", "Sub"}), {x->name, made});
  return true;
}

}  // namespace

std::vector<NodeDrawer> shape_drawers() {
  return {{"Reshape", draw_reshape, 10}, {"Flatten", draw_flatten},         {"Squeeze", draw_squeeze},
          {"Unsqueeze", draw_unsqueeze}, {"Transpose", draw_transpose, 12}, {"Identity", draw_same, 2},
          {"Dropout", draw_same, 2},     {"Expand", draw_expand, 6},        {"Tile", draw_tile, 6},
          {"Cast", draw_cast, 3},        {"CastLike", draw_cast, 2},        {"Shape", draw_shape, 1},
          {"Size", draw_shape, 1},       {"ConstantOfShape", draw_made, 2}, {"Range", draw_made, 2}};
}

}  // namespace espq::random_networks
