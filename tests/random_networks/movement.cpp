// Nodes that pick, join and rearrange elements.
#include <numeric>

#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::integers;
using test::text;

bool draw_concat(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4, 4, 5});
  if (!x) return false;
  Random& random = d.random;
  const int64_t axis = d.axis(x->rank()), plain = axis < 0 ? axis + x->rank() : axis;
  std::vector<std::string> inputs{x->name};
  const int64_t count = random.integer(1, 3);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<std::string> fitting;
    for (const Value& value : d.state().values) {
      Shape shape = value.shape;
      if (value.dtype != at::kFloat || value.rank() != x->rank()) continue;
      shape[static_cast<size_t>(plain)] = x->shape[static_cast<size_t>(plain)];
      if (shape == x->shape) fitting.push_back(value.name);
    }
    Shape shape = x->shape;
    shape[static_cast<size_t>(plain)] = random.integer(1, 5);
    const double choice = random.real(0, 1);
    inputs.push_back(choice < 0.5   ? random.pick(fitting)
                     : choice < 0.8 ? d.constant(random.normal(shape, random.pick({0.2, 1.0, 4.0})))
                                    : d.graph_input(shape).name);
  }
  if (random.chance(0.4)) std::swap(inputs.front(), inputs.back());
  d.node("Concat", inputs, {integer("axis", axis)});
  return true;
}

bool draw_split(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  const int64_t axis = d.axis(x->rank()), size = x->shape[static_cast<size_t>(axis < 0 ? axis + x->rank() : axis)];
  const int64_t parts = random.integer(1, std::min<int64_t>(3, size));
  Attributes attributes;
  if (axis != 0 || random.chance(0.5)) attributes.push_back(integer("axis", axis));
  if (random.chance(0.55)) {
    std::vector<int64_t> sizes(static_cast<size_t>(parts), 1);
    for (int64_t i = parts; i < size; ++i) ++sizes[static_cast<size_t>(random.integer(0, parts - 1))];
    d.node("Split", {x->name, d.integers(sizes)}, attributes, parts);
    return true;
  }
  if (d.opset() < 18 && size % parts != 0) return false;
  if (d.opset() >= 18) attributes.push_back(integer("num_outputs", parts));
  d.node("Split", {x->name}, attributes, parts);
  return true;
}

bool draw_slice(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  const int64_t count = random.integer(1, x->rank());
  std::vector<int64_t> all(static_cast<size_t>(x->rank())), starts, ends, axes, steps;
  std::iota(all.begin(), all.end(), 0);
  const bool leading = random.chance(0.2), plain_steps = random.chance(0.5);
  for (int64_t i = 0; i < count; ++i) {
    const size_t place = leading ? 0 : static_cast<size_t>(random.integer(0, static_cast<int64_t>(all.size()) - 1));
    const int64_t axis = all[place], size = x->shape[static_cast<size_t>(axis)];
    all.erase(all.begin() + static_cast<int64_t>(place));
    int64_t start = random.integer(0, size - 1), end = random.integer(start + 1, size), step = random.integer(1, 2);
    if (plain_steps) step = 1;
    if (!plain_steps && random.chance(0.3)) {
      step = -random.integer(1, 2);
      std::swap(start, end);
      --start, --end;  // end may be -1, which has to be said as "before the first"
      end = end < 0 ? (random.chance(0.5) ? INT64_MIN + 1 : -size - 1) : end;
    } else if (end == size && random.chance(0.5)) {
      end = random.pick<int64_t>({INT64_MAX, INT32_MAX, size + 3});
    } else if (end < size && random.chance(0.3)) {
      end -= size;
    }
    starts.push_back(random.chance(0.3) ? start - size : start);
    ends.push_back(end), steps.push_back(step);
    axes.push_back(!leading && random.chance(0.3) ? axis - x->rank() : axis);
  }
  std::vector<std::string> inputs{x->name, d.integers(starts), d.integers(ends), "", ""};
  if (!leading || random.chance(0.3)) inputs[3] = d.integers(axes);
  if (!plain_steps) inputs[4] = d.integers(steps);
  d.node("Slice", inputs);
  return true;
}

bool draw_gather(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  const int64_t axis = d.axis(x->rank()), size = x->shape[static_cast<size_t>(axis < 0 ? axis + x->rank() : axis)];
  const Shape shape = random.pick<Shape>({{}, {1}, {3}, {size}, {2, 2}});
  std::vector<int64_t> indices(static_cast<size_t>(c10::multiply_integers(shape)));
  const bool negative = random.chance(0.25);
  for (int64_t& index : indices) index = random.integer(negative ? -size : 0, size - 1);
  Attributes attributes;
  if (axis != 0) attributes.push_back(integer("axis", axis));
  d.node("Gather", {x->name, d.constant(at::tensor(indices, at::kLong).reshape(shape))}, attributes);
  return true;
}

bool draw_pad(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  std::string mode = random.pick<std::string>({"constant", "constant", "edge", "reflect", "wrap"});
  if (mode == "wrap" && (random.chance(0.7) || !d.needs_opset(19))) mode = "reflect";
  const auto rank = static_cast<size_t>(x->rank());
  std::vector<int64_t> pads(2 * rank);
  const bool crops = mode == "constant" && random.chance(0.15);
  for (size_t i = rank > 2 && random.chance(0.7) ? 2 : 0; i < rank; ++i) {
    const int64_t most = mode == "constant" ? 3 : std::min<int64_t>(2, x->shape[i] - 1);
    pads[i] = random.integer(0, most), pads[i + rank] = random.integer(0, most);
    if (crops && x->shape[i] > 2) pads[i + (random.chance(0.5) ? rank : 0)] = -1;
  }
  std::vector<std::string> inputs{x->name, "", "", ""};
  if (random.chance(0.1) && d.opset() >= 18) {
    std::vector<int64_t> axes(rank);
    std::iota(axes.begin(), axes.end(), random.chance(0.5) ? 0 : -x->rank());
    inputs[3] = d.integers(axes);
  }
  inputs[1] = d.integers(pads);
  if (mode == "constant" && random.chance(0.5))
    inputs[2] = d.constant(at::scalar_tensor(random.pick({0.0, 0.5, -1.0, 1.3}), at::kFloat));
  Attributes attributes;
  if (mode != "constant" || random.chance(0.5)) attributes.push_back(text("mode", mode));
  d.node("Pad", inputs, attributes);
  return true;
}

bool draw_where(Drawing& d, std::string_view) {
  const auto x = d.operand();
  if (!x) return false;
  Random& random = d.random;
  std::string condition;
  if (const auto flags = d.existing(at::kBool); flags && flags->shape == x->shape && random.chance(0.7))
    condition = flags->name;
  else
    condition = d.constant(random.uniform(x->shape, -1, 1) > 0);
  const auto other = d.existing_for(x->shape);
  const std::string second = other && random.chance(0.5) ? other->name
                             : random.chance(0.5)        ? d.constant(at::scalar_tensor(random.real(-2, 2), at::kFloat))
                                                         : d.constant(random.normal(x->shape));
  const bool swapped = random.chance(0.4);
  d.node("Where", {condition, swapped ? second : x->name, swapped ? x->name : second});
  return true;
}

bool draw_gather_elements(Drawing& d, std::string_view type) {
  const auto x = d.operand({1, 2, 3});
  if (!x) return false;
  Random& random = d.random;
  const int64_t axis = d.axis(x->rank()), plain = axis < 0 ? axis + x->rank() : axis;
  const int64_t size = x->shape[static_cast<size_t>(plain)];
  Shape shape = x->shape;
  const bool scatters = type == "ScatterElements";
  if (scatters) shape[static_cast<size_t>(plain)] = random.integer(1, size);
  at::Tensor indices = at::empty(shape, at::kLong);
  // Two updates of one element have no order: indices along the axis are distinct.
  indices = (at::arange(shape[static_cast<size_t>(plain)]) + random.integer(0, size - 1)).remainder(size);
  Shape line(shape.size(), 1);
  line[static_cast<size_t>(plain)] = shape[static_cast<size_t>(plain)];
  indices = indices.reshape(line).expand(shape).contiguous();
  std::vector<std::string> inputs{x->name, d.constant(indices)};
  Attributes attributes{integer("axis", axis)};
  if (scatters) {
    inputs.push_back(d.constant(random.normal(shape)));
    if (random.chance(0.3)) attributes.push_back(text("reduction", random.pick<std::string>({"add", "mul"})));
  }
  d.node(std::string(type), inputs, attributes);
  return true;
}

bool draw_nd(Drawing& d, std::string_view type) {
  const auto x = d.operand({2, 3, 4});
  if (!x) return false;
  Random& random = d.random;
  const int64_t depth = random.integer(1, x->rank()), first = x->shape[0];
  const int64_t count = random.integer(1, std::min<int64_t>(first, 3));
  at::Tensor indices = at::empty({count, depth}, at::kLong);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t k = 0; k < depth; ++k)
      indices[i][k] = k == 0 ? i : random.integer(0, x->shape[static_cast<size_t>(k)] - 1);
  std::vector<std::string> inputs{x->name, d.constant(indices)};
  Attributes attributes;
  if (type == "ScatterND") {
    Shape shape{count};
    shape.insert(shape.end(), x->shape.begin() + depth, x->shape.end());
    inputs.push_back(d.constant(random.normal(shape)));
    if (random.chance(0.4))
      attributes.push_back(text("reduction", random.pick<std::string>({"add", "mul", "max", "min"})));
  }
  d.node(std::string(type), inputs, attributes);
  return true;
}

bool draw_reverse_sequence(Drawing& d, std::string_view) {
  const auto x = d.operand({2, 3, 4});
  if (!x) return false;
  const int64_t batch_axis = d.random.integer(0, 1), time_axis = 1 - batch_axis;
  std::vector<int64_t> lengths(static_cast<size_t>(x->shape[static_cast<size_t>(batch_axis)]));
  for (int64_t& length : lengths) length = d.random.integer(1, x->shape[static_cast<size_t>(time_axis)]);
  Attributes attributes;
  if (batch_axis != 1 || d.random.chance(0.5))
    attributes = {integer("batch_axis", batch_axis), integer("time_axis", time_axis)};
  d.node("ReverseSequence", {x->name, d.integers(lengths)}, attributes);
  return true;
}

bool draw_top_k(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3});
  if (!x) return false;
  const int64_t axis = d.axis(x->rank()), size = x->shape[static_cast<size_t>(axis < 0 ? axis + x->rank() : axis)];
  Attributes attributes{integer("axis", axis)};
  if (d.random.chance(0.3)) attributes.push_back(integer("largest", 0));
  d.node("TopK", {x->name, d.integers({d.random.integer(1, size)})}, attributes, 2);
  return true;
}

bool draw_one_hot(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2});
  if (!x || x->lowest < 0) return false;
  constexpr int64_t kInt64 = 7;
  d.node("Cast", {x->name}, {integer("to", kInt64)});
  d.node("OneHot", {fmt::format("n{}_Cast_y", d.nodes()), d.integers({4}), d.constant(at::tensor({0.0f, 1.0f}))},
         {integer("axis", d.random.integer(-1, 1))});
  return true;
}

bool draw_cumulative_sum(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.3)) attributes.push_back(integer("exclusive", 1));
  if (d.random.chance(0.3)) attributes.push_back(integer("reverse", 1));
  d.node("CumSum", {x->name, d.constant(at::scalar_tensor(d.axis(x->rank()), at::kLong))}, attributes);
  return true;
}

bool draw_triangle(Drawing& d, std::string_view) {
  const auto x = d.operand({2, 3, 4});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.5)) attributes.push_back(integer("upper", d.random.integer(0, 1)));
  std::vector<std::string> inputs{x->name};
  if (d.random.chance(0.5)) inputs.push_back(d.constant(at::scalar_tensor(d.random.integer(-2, 2), at::kLong)));
  d.node("Trilu", inputs, attributes);
  return true;
}

bool draw_non_zero(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2});
  if (!x) return false;
  d.node("NonZero", {x->name});
  return true;
}

}  // namespace

std::vector<NodeDrawer> movement_drawers() {
  return {{"Concat", draw_concat, 14},
          {"Split", draw_split, 10},
          {"Slice", draw_slice, 14},
          {"Gather", draw_gather, 10},
          {"Pad", draw_pad, 14},
          {"Where", draw_where, 5},
          {"ScatterND", draw_nd},
          {"ReverseSequence", draw_reverse_sequence},
          {"GatherElements", draw_gather_elements, 1},
          {"GatherND", draw_nd, 1},
          {"ScatterElements", draw_gather_elements, 1},
          {"TopK", draw_top_k, 1},
          {"OneHot", draw_one_hot, 1},
          {"NonZero", draw_non_zero, 1},
          {"CumSum", draw_cumulative_sum, 1},
          {"Trilu", draw_triangle, 1}};
}

}  // namespace espq::random_networks
