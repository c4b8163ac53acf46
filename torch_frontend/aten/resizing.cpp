#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

/// Scale per spatial axis where the program gives one: LibTorch then uses it for the positions, too.
std::vector<double> given_scales(const Call& call, size_t axes) {
  if (call.has("scale_factors")) return call.numbers("scale_factors");
  static constexpr std::string_view names[][3] = {
      {"scales"}, {"scales_h", "scales_w"}, {"scales_d", "scales_h", "scales_w"}};
  std::vector<double> result;
  for (size_t axis = 0; axis < axes; ++axis)
    if (call.has(names[axes - 1][axis])) result.push_back(call.number(names[axes - 1][axis]));
  return result;
}

void resize(Call& call, const std::string& mode, const std::string& coordinates, const std::string& nearest = "floor") {
  const std::string_view operand = call.has("self") ? "self" : "input";
  const Shape from = call.shape(operand), to = call.output_shape();
  const size_t axes = from.size() - 2;
  const std::vector<double> scales = given_scales(call, axes);
  AttributeMap attributes{{"mode", mode}, {"coordinate_transformation_mode", coordinates}};
  if (mode == "nearest") attributes["nearest_mode"] = nearest;
  if (mode == "cubic") attributes["cubic_coeff_a"] = -0.75f;
  Call::Variables operands{call.tensor(operand), nullptr, nullptr, nullptr};
  if (scales.size() == axes && coordinates != "align_corners") {
    std::vector<float> all{1, 1};
    for (const double scale : scales) all.push_back(static_cast<float>(scale));
    operands[2] = call.parameter("scales", at::tensor(all, at::kFloat));
    operands.pop_back();
  } else {
    operands[3] = call.parameter("sizes", to);
  }
  call.result("Resize", operands, std::move(attributes));
}

void nearest(Call& call) { resize(call, "nearest", "asymmetric"); }
/// Source position of the middle of the output element.
void nearest_exact(Call& call) { resize(call, "nearest", "half_pixel", "round_prefer_ceil"); }

std::string coordinates(const Call& call) { return call.flag("align_corners") ? "align_corners" : "half_pixel"; }
void linear(Call& call) {
  call.check(!call.has("antialias"), "antialias is not supported");
  resize(call, "linear", coordinates(call));
}
void cubic(Call& call) { resize(call, "cubic", coordinates(call)); }

}  // namespace

void add_resizing(Table& table) {
  for (const char* name : {"upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"})
    table[name] = {nearest, Family::Movement};
  for (const char* name : {"_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"})
    table[name] = {nearest_exact, Family::Movement};
  for (const char* name : {"upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"})
    table[name] = {linear, Family::Product};
  table["upsample_bicubic2d"] = {cubic, Family::Product};
}

}  // namespace espq::torch_frontend
