// Pools, Resize and the operators that trade space for depth.
#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::integers;
using test::real;
using test::text;

bool draw_pool(Drawing& d, std::string_view type) {
  const auto x = d.operand(d.random.chance(0.03) ? std::vector<int64_t>{5} : std::vector<int64_t>{3, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  const bool maximum = type == "MaxPool";
  const size_t axes = x->shape.size() - 2;
  const bool padded = random.chance(0.4), dilated = maximum && random.chance(0.15), strided = random.chance(0.7);
  const std::string auto_pad =
      random.chance(0.15) ? random.pick<std::string>({"SAME_UPPER", "SAME_LOWER", "VALID"}) : "";
  std::vector<int64_t> kernel, strides, dilations, pads(2 * axes);
  for (size_t i = 0; i < axes; ++i) {
    const int64_t size = x->shape[i + 2];
    kernel.push_back(random.integer(1, std::min<int64_t>(4, size)));
    strides.push_back(random.integer(1, 3));
    dilations.push_back(dilated && (kernel[i] - 1) * 2 + 1 <= size ? 2 : 1);
    const int64_t most = kernel[i] - 1;  // the standard's implementations refuse windows that see nothing but padding
    if (padded) pads[i] = random.integer(0, most), pads[i + axes] = random.integer(0, most);
  }
  if (!auto_pad.empty()) pads.assign(2 * axes, 0);
  Attributes attributes{integers("kernel_shape", kernel)};
  if (strided) attributes.push_back(integers("strides", strides));
  if (padded && auto_pad.empty()) attributes.push_back(integers("pads", pads));
  if (!auto_pad.empty()) attributes.push_back(text("auto_pad", auto_pad));
  if (dilated) attributes.push_back(integers("dilations", dilations));
  if (auto_pad.empty() && random.chance(0.25)) attributes.push_back(integer("ceil_mode", 1));
  if (!maximum && random.chance(0.5)) attributes.push_back(integer("count_include_pad", 1));
  if (!maximum && random.chance(0.04) && d.needs_opset(19))
    attributes.push_back(integers("dilations", std::vector<int64_t>(axes, 1)));
  d.node(std::string(type), {x->name}, attributes, maximum && random.chance(0.02) ? 2 : 1);
  return true;
}

bool draw_global_pool(Drawing& d, std::string_view type) {
  const auto x = d.operand({3, 4, 4, 4, 5});
  if (!x) return false;
  Attributes attributes;
  if (type == "GlobalLpPool") attributes.push_back(integer("p", d.random.integer(1, 2)));
  d.node(std::string(type), {x->name}, attributes);
  return true;
}

Attributes resize_attributes(Drawing& d, std::string& mode) {
  Random& random = d.random;
  mode = random.pick<std::string>({"nearest", "nearest", "linear", "linear", "cubic"});
  Attributes attributes{text("mode", mode)};
  std::vector<std::string> coordinates{"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"};
  if (random.chance(0.1) && d.needs_opset(19)) coordinates = {"half_pixel_symmetric"};
  if (random.chance(0.8)) attributes.push_back(text("coordinate_transformation_mode", random.pick(coordinates)));
  if (mode == "nearest" && random.chance(0.8))
    attributes.push_back(
        text("nearest_mode", random.pick<std::string>({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})));
  if (mode == "cubic" && random.chance(0.3)) attributes.push_back(real("cubic_coeff_a", -0.5f));
  if (mode == "cubic" && random.chance(0.1)) attributes.push_back(integer("exclude_outside", 1));
  if (mode != "nearest" && random.chance(0.03) && d.needs_opset(18)) attributes.push_back(integer("antialias", 1));
  return attributes;
}

bool draw_resize(Drawing& d, std::string_view) {
  const auto x = d.operand({3, 4, 4, 4, 4});
  if (!x) return false;
  Random& random = d.random;
  std::string mode;
  Attributes attributes = resize_attributes(d, mode);
  const bool by_scale = random.chance(0.6), with_axes = random.chance(0.1) && d.opset() >= 18;
  std::vector<float> scales{1, 1};
  std::vector<int64_t> sizes{x->shape[0], x->shape[1]};
  for (size_t i = 2; i < x->shape.size(); ++i) {
    scales.push_back(random.pick({0.5f, 1.0f, 1.5f, 2.0f, 2.0f, 2.0f, 3.0f, 4.0f, 0.75f, 1.7f}));
    sizes.push_back(random.integer(1, 2 * x->shape[i] + 1));
  }
  if (!with_axes && random.chance(0.03)) scales[1] = 2, sizes[1] *= 2;
  if (with_axes) {
    std::vector<int64_t> axes;
    for (int64_t i = 2; i < x->rank(); ++i) axes.push_back(random.chance(0.5) ? i : i - x->rank());
    attributes.push_back(integers("axes", axes));
    scales.erase(scales.begin(), scales.begin() + 2);
    sizes.erase(sizes.begin(), sizes.begin() + 2);
  }
  if (by_scale)
    d.node("Resize", {x->name, "", d.constant(at::tensor(scales, at::kFloat))}, attributes);
  else
    d.node("Resize", {x->name, "", "", d.integers(sizes)}, attributes);
  return true;
}

bool draw_blocks(Drawing& d, std::string_view type) {
  auto x = d.operand({4});
  if (!x) return false;
  const bool to_space = type == "DepthToSpace";
  const int64_t block = d.random.integer(2, 3);
  const auto divides = [&](const Shape& shape) {
    return to_space ? shape[1] % (block * block) == 0 : shape[2] % block == 0 && shape[3] % block == 0;
  };
  if (!divides(x->shape)) {
    Shape shape = x->shape;
    if (to_space) {
      shape[1] = block * block * d.random.integer(1, 3);
    } else {
      shape[2] = block * d.random.integer(1, 4), shape[3] = block * d.random.integer(1, 4);
    }
    if (d.nodes() > 0) return false;
    x = d.graph_input(shape);
  }
  Attributes attributes{integer("blocksize", block)};
  if (to_space && d.random.chance(0.7)) attributes.push_back(text("mode", d.random.pick<std::string>({"DCR", "CRD"})));
  d.node(std::string(type), {x->name}, attributes);
  return true;
}

}  // namespace

std::vector<NodeDrawer> window_drawers() {
  return {{"MaxPool", draw_pool, 12},
          {"AveragePool", draw_pool, 12},
          {"GlobalMaxPool", draw_global_pool},
          {"GlobalAveragePool", draw_global_pool},
          {"GlobalLpPool", draw_global_pool, 1},
          {"Resize", draw_resize, 12},
          {"DepthToSpace", draw_blocks, 6},
          {"SpaceToDepth", draw_blocks, 6}};
}

}  // namespace espq::random_networks
