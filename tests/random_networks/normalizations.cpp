// Reductions and normalizations.
#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::integers;
using test::real;

bool draw_reduction(Drawing& d, std::string_view type) {
  const auto x = d.operand({1, 2, 3, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  if (type == "ReduceLogSum" && x->lowest <= 0) return false;
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < x->rank(); ++i)
    if (random.chance(0.45)) axes.push_back(random.chance(0.3) ? i - x->rank() : i);
  if (x->rank() == 4 && random.chance(0.25)) axes = {2, 3};
  const bool all = random.chance(0.12);
  if (!all && axes.empty()) axes = {d.axis(x->rank())};
  std::vector<std::string> inputs{x->name};
  Attributes attributes;
  if (!all) {
    if (d.opset() >= 18 || type == "ReduceSum")
      inputs.push_back(d.integers(axes));
    else
      attributes.push_back(integers("axes", axes));
  }
  if (random.chance(0.7)) attributes.push_back(integer("keepdims", random.integer(0, 1)));
  if (all && d.opset() >= 18 && random.chance(0.2)) attributes.push_back(integer("noop_with_empty_axes", 1));
  d.node(std::string(type), inputs, attributes);
  return true;
}

bool draw_position(Drawing& d, std::string_view type) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  d.node(std::string(type), {x->name},
         {integer("axis", d.axis(x->rank())), integer("keepdims", d.random.integer(0, 1))});
  return true;
}

bool draw_layer_normalization(Drawing& d, std::string_view type) {
  if (type == "RMSNormalization" && !d.needs_opset(23)) return false;
  const auto x = d.operand({2, 3, 3, 4});
  if (!x) return false;
  const int64_t axis = d.random.chance(0.6) ? -1 : d.axis(x->rank());
  const Shape shape(x->shape.begin() + (axis < 0 ? axis + x->rank() : axis), x->shape.end());
  if (c10::multiply_integers(shape) < 2) return false;
  std::vector<std::string> inputs{x->name, d.constant(d.random.uniform(shape, 0.3, 1.7))};
  if (type == "LayerNormalization" && d.random.chance(0.7)) inputs.push_back(d.constant(d.random.normal(shape, 0.5)));
  Attributes attributes;
  if (axis != -1 || d.random.chance(0.3)) attributes.push_back(integer("axis", axis));
  if (d.random.chance(0.3)) attributes.push_back(real("epsilon", 1e-3f));
  d.node(std::string(type), inputs, attributes);
  return true;
}

bool draw_lp_normalization(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 3, 4});
  if (!x) return false;
  Attributes attributes;
  if (d.random.chance(0.6)) attributes.push_back(integer("axis", d.axis(x->rank())));
  if (d.random.chance(0.5)) attributes.push_back(integer("p", d.random.integer(1, 2)));
  d.node("LpNormalization", {x->name}, attributes);
  return true;
}

bool draw_channel_normalization(Drawing& d, std::string_view type) {
  const bool batch = type == "BatchNormalization", group = type == "GroupNormalization";
  if (group && !d.needs_opset(21)) return false;
  const auto x = d.operand(batch ? std::vector<int64_t>{2, 3, 4, 4} : std::vector<int64_t>{3, 4, 4});
  if (!x) return false;
  if (!batch && x->elements() / x->shape[0] / x->shape[1] < 2) return false;
  const int64_t channels = x->shape[1];
  std::vector<std::string> inputs{x->name, d.constant(d.random.uniform({channels}, 0.3, 1.7)),
                                  d.constant(d.random.normal({channels}, 0.5))};
  if (batch) {
    inputs.push_back(d.constant(d.random.normal({channels}, 0.5)));
    inputs.push_back(d.constant(d.random.uniform({channels}, 0.3, 2)));
  }
  Attributes attributes;
  if (d.random.chance(0.4)) attributes.push_back(real("epsilon", 1e-3f));
  if (group) {
    std::vector<int64_t> divisors;
    for (int64_t i = 1; i <= channels; ++i)
      if (channels % i == 0) divisors.push_back(i);
    attributes.push_back(integer("num_groups", d.random.pick(divisors)));
  }
  d.node(std::string(type), inputs, attributes);
  return true;
}

bool draw_response_normalization(Drawing& d, std::string_view) {
  const auto x = d.operand({3, 4});
  if (!x) return false;
  d.node("LRN", {x->name}, {integer("size", d.random.pick<int64_t>({1, 3, 5}))});
  return true;
}

}  // namespace

std::vector<NodeDrawer> normalization_drawers() {
  std::vector<NodeDrawer> drawers{{"LayerNormalization", draw_layer_normalization, 6},
                                  {"RMSNormalization", draw_layer_normalization},
                                  {"LpNormalization", draw_lp_normalization},
                                  {"BatchNormalization", draw_channel_normalization, 6},
                                  {"InstanceNormalization", draw_channel_normalization},
                                  {"GroupNormalization", draw_channel_normalization},
                                  {"LRN", draw_response_normalization, 1},
                                  {"ArgMax", draw_position, 1}};
  for (const char* type : {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"})
    drawers.push_back({type, draw_reduction, 6});
  for (const char* type : {"ReduceL1", "ReduceSumSquare", "ReduceL2", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp"})
    drawers.push_back({type, draw_reduction, 3});
  return drawers;
}

}  // namespace espq::random_networks
