// Functions of one tensor, and of several that broadcast.
#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::real;
using test::text;

// ---------------------------------------------------------------------------------------------------- one operand
/// Parameters of a function, each left out now and then.
Attributes function_attributes(Drawing& d, std::string_view type) {
  Random& random = d.random;
  Attributes attributes;
  const auto maybe = [&](const char* name, double low, double high) {
    if (random.chance(0.6)) attributes.push_back(real(name, static_cast<float>(random.real(low, high))));
  };
  if (type == "LeakyRelu") maybe("alpha", -0.2, 0.6);
  if (type == "HardSigmoid") maybe("alpha", 0.05, 0.6), maybe("beta", 0.2, 0.8);
  if (type == "Elu" || type == "Celu") maybe("alpha", 0.2, 2);
  if (type == "Selu") maybe("alpha", 1, 2), maybe("gamma", 0.5, 1.5);
  if (type == "ThresholdedRelu") maybe("alpha", 0.1, 1.5);
  if (type == "Shrink") maybe("lambd", 0.1, 1), maybe("bias", 0, 0.5);
  if (type == "Swish") maybe("alpha", 0.5, 2);
  if (type == "Gelu" && random.chance(0.5))
    attributes.push_back(text("approximate", random.pick<std::string>({"none", "tanh"})));
  return attributes;
}

bool draw_function(Drawing& d, std::string_view type) {
  if (type == "Mish" && !d.needs_opset(18)) return false;
  if (type == "Gelu" && !d.needs_opset(20)) return false;
  if (type == "Swish" && !d.needs_opset(24)) return false;
  const auto x = d.operand();
  if (!x) return false;
  const bool outside =
      ((type == "Log" || type == "Sqrt" || type == "Reciprocal") && x->lowest < 0.02) ||
      ((type == "Asin" || type == "Acos" || type == "Atanh") && (x->lowest < -0.99 || x->highest > 0.99));
  if (type == "Acosh" && x->lowest < 1) return false;
  if (outside) {  // a Sigmoid brings everything to where these functions are defined
    d.node("Sigmoid", {x->name});
    d.node(std::string(type), {fmt::format("n{}_Sigmoid_y", d.nodes())});
    return true;
  }
  d.node(std::string(type), {x->name}, function_attributes(d, type));
  return true;
}

bool draw_logical_function(Drawing& d, std::string_view type) {
  const auto x = d.existing(type == "Not" ? at::kBool : at::kLong);
  if (!x || (type == "BitwiseNot" && !d.needs_opset(18))) return false;
  d.node(std::string(type), {x->name});
  return true;
}

bool draw_clip(Drawing& d, std::string_view) {
  const auto x = d.operand();
  if (!x) return false;
  Random& random = d.random;
  const auto bound = [&](double value) { return d.constant(at::scalar_tensor(value, at::kFloat)); };
  const double low = random.pick({0.0, 0.0, -1.0, -0.3}), high = random.pick({6.0, 1.0, 0.7, 3.0});
  d.node("Clip", {x->name, random.chance(0.8) ? bound(low) : "", random.chance(0.8) ? bound(high) : ""});
  return true;
}

bool draw_prelu(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  std::vector<Shape> shapes{{1}, {x->shape.back()}, {x->shape.begin() + 1, x->shape.end()}, x->shape};
  if (x->rank() > 2) {
    Shape channels(x->shape.size() - 1, 1);
    channels[0] = x->shape[1];
    shapes.insert(shapes.end(), 4, channels);
    channels.insert(channels.begin(), 1);
    shapes.push_back(channels);
  }
  const Shape shape = random.pick(shapes);
  const std::string slope = random.chance(0.95)
                                ? d.constant(random.uniform(shape, random.chance(0.3) ? -0.3 : 0.0, 0.6))
                                : d.graph_input(shape).name;
  d.node("PRelu", {x->name, slope});
  return true;
}

bool draw_softmax(Drawing& d, std::string_view type) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.75)) attributes.push_back(integer("axis", d.axis(x->rank())));
  d.node(std::string(type), {x->name}, attributes);
  return true;
}

// ---------------------------------------------------------------------------------------------------- several
/// Shapes that broadcast against `shape`, most of them without changing it.
Shape broadcast_shape(Drawing& d, const Shape& shape) {
  Random& random = d.random;
  const auto rank = static_cast<int64_t>(shape.size());
  switch (random.integer(0, 6)) {
    case 0:
      return {};
    case 1:
      return {1};
    case 2:
      if (rank < 3) break;
      {
        Shape channels(shape.size() - 1, 1);
        channels[0] = shape[1];
        if (random.chance(0.5)) channels.insert(channels.begin(), 1);
        return channels;
      }
    case 3: {
      if (rank == 0) break;
      Shape tail(shape.end() - random.integer(1, rank), shape.end());
      return tail;
    }
    case 4: {
      Shape some = shape;
      for (int64_t& size : some)
        if (random.chance(0.4)) size = 1;
      return some;
    }
    default:
      break;
  }
  return shape;
}

/// A second operand: something that exists, a constant, or a graph input.
std::string second_operand(Drawing& d, const Value& x, double away_from_zero = 0) {
  Random& random = d.random;
  if (const auto value = d.existing_for(x.shape); value && random.chance(0.35) && away_from_zero == 0)
    return value->name;
  const Shape shape = broadcast_shape(d, x.shape);
  if (away_from_zero > 0) {
    const at::Tensor sign = at::where(random.uniform(shape, -1, 1) > -0.5, 1.0f, -1.0f);
    return d.constant(random.uniform(shape, away_from_zero, 2) * sign);
  }
  if (random.chance(0.12)) return d.graph_input(shape).name;
  return d.constant(random.normal(shape, random.pick({0.1, 1.0, 1.0, 4.0})));
}

bool draw_binary(Drawing& d, std::string_view type) {
  const auto x = d.operand();
  if (!x) return false;
  Random& random = d.random;
  const bool divides = type == "Div" || type == "Mod";
  const bool swapped = random.chance(0.3) && (!divides || x->lowest > 0.05);
  const std::string other = second_operand(d, *x, divides && !swapped ? 0.2 : 0);
  Attributes attributes;
  if (type == "Mod") attributes.push_back(integer("fmod", 1));
  d.node(std::string(type), {swapped ? other : x->name, swapped ? x->name : other}, attributes);
  return true;
}

bool draw_pow(Drawing& d, std::string_view) {
  const auto x = d.operand();
  if (!x) return false;
  Random& random = d.random;
  if (random.chance(0.1)) {
    d.node("Pow", {d.constant(at::scalar_tensor(random.pick({2.0, 0.5, 1.5}), at::kFloat)), x->name});
    return true;
  }
  std::vector<double> exponents{2, 2, 2, 3, 1};
  if (x->lowest > 0.02) exponents.insert(exponents.end(), {0.5, -1, -0.5, 1.7});
  d.node("Pow", {x->name, d.constant(at::scalar_tensor(random.pick(exponents), at::kFloat))});
  return true;
}

bool draw_logic(Drawing& d, std::string_view type) {
  const bool bits = type.starts_with("Bitwise");
  if (bits && !d.needs_opset(18)) return false;
  const auto x = d.existing(bits ? at::kLong : at::kBool);
  if (!x) return false;
  const at::Tensor other = d.random.uniform(x->shape, -1, 1) > 0;
  d.node(std::string(type), {x->name, d.constant(bits ? other.to(at::kLong) : other)});
  return true;
}

bool draw_many(Drawing& d, std::string_view type) {
  const auto x = d.operand();
  if (!x) return false;
  std::vector<std::string> inputs{x->name};
  const int64_t more = d.random.pick<int64_t>({0, 1, 1, 1, 2, 3});
  for (int64_t i = 0; i < more; ++i) inputs.push_back(second_operand(d, *x));
  if (d.random.chance(0.4)) std::swap(inputs.front(), inputs.back());
  d.node(std::string(type), inputs);
  return true;
}

}  // namespace

std::vector<NodeDrawer> elementwise_drawers() {
  std::vector<NodeDrawer> drawers{
      {"Clip", draw_clip, 10},      {"PRelu", draw_prelu, 10},         {"Softmax", draw_softmax, 8},
      {"LogSoftmax", draw_softmax}, {"Add", draw_binary, 12},          {"Sub", draw_binary, 10},
      {"Mul", draw_binary, 12},     {"Div", draw_binary, 6},           {"Mod", draw_binary, 1},
      {"Pow", draw_pow, 6},         {"Not", draw_logical_function, 2}, {"BitwiseNot", draw_logical_function, 1}};
  for (const char* type : {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"})
    drawers.push_back({type, draw_function, 5});
  for (const char* type : {"Elu", "Gelu", "Swish", "Exp", "Log", "Sqrt", "Neg", "Abs", "Softplus", "Erf"})
    drawers.push_back({type, draw_function, 3});
  for (const char* type : {"Sin",  "Cos",  "Tan",      "Floor", "Ceil", "Round",           "Reciprocal",
                           "Sign", "Mish", "Softsign", "Selu",  "Celu", "ThresholdedRelu", "Shrink",
                           "Asin", "Acos", "Atan",     "Sinh",  "Cosh", "Asinh",           "Acosh",
                           "Atanh"})
    drawers.push_back({type, draw_function, 2});
  for (const char* type : {"IsNaN", "IsInf"}) drawers.push_back({type, draw_function, 1});
  for (const char* type : {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
    drawers.push_back({type, draw_binary, 2});
  for (const char* type : {"And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
    drawers.push_back({type, draw_logic, 1});
  for (const char* type : {"Max", "Min", "Sum", "Mean"}) drawers.push_back({type, draw_many, 6});
  return drawers;
}

}  // namespace espq::random_networks
