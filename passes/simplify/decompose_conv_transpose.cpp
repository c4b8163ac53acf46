#include "passes/simplify/decompose_conv_transpose.h"

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// All the numbers of one transposed convolution, a value per spatial axis.
struct Geometry {
  size_t axes = 0;
  Shape kernel, strides, dilations, output_padding, begin, end;  // begin, end: padding of the ConvTranspose
};

std::optional<Shape> input_size(const Operation& operation, size_t axes) {
  const Variable* input = operation.input(0);
  if (!input->shape() || input->shape()->size() != axes + 2) return std::nullopt;
  return Shape(input->shape()->begin() + 2, input->shape()->end());
}

/// Padding that makes the output as large as `output` says.
void pad_to(Geometry& geometry, const Shape& input, const Shape& output, bool larger_half_behind) {
  for (size_t axis = 0; axis < geometry.axes; ++axis) {
    const int64_t total = geometry.strides[axis] * (input[axis] - 1) + geometry.output_padding[axis] +
                          geometry.dilations[axis] * (geometry.kernel[axis] - 1) + 1 - output[axis];
    const int64_t half = total / 2;
    geometry.begin[axis] = larger_half_behind ? half : total - half;
    geometry.end[axis] = total - geometry.begin[axis];
  }
}

Geometry geometry_of(const Operation& operation) {
  const at::Tensor& weight = operation.input(1)->value();
  Geometry geometry;
  geometry.axes = static_cast<size_t>(weight.dim()) - 2;
  geometry.kernel = Shape(weight.sizes().begin() + 2, weight.sizes().end());
  geometry.strides = operation.ints_attribute("strides", Shape(geometry.axes, 1));
  geometry.dilations = operation.ints_attribute("dilations", Shape(geometry.axes, 1));
  geometry.output_padding = operation.ints_attribute("output_padding", Shape(geometry.axes, 0));
  const Shape pads = operation.ints_attribute("pads", Shape(2 * geometry.axes, 0));
  const std::string automatic = operation.string_attribute("auto_pad", "NOTSET");
  user_check(
      pads.size() == 2 * geometry.axes && geometry.strides.size() == geometry.axes &&
          geometry.dilations.size() == geometry.axes && geometry.output_padding.size() == geometry.axes,
      "ConvTranspose '{}': pads, strides, dilations or output_padding do not fit a filter of {} spatial dimensions",
      operation.name(), geometry.axes);
  geometry.begin.assign(pads.begin(), pads.begin() + geometry.axes);
  geometry.end.assign(pads.begin() + geometry.axes, pads.end());
  const Shape wanted = operation.ints_attribute("output_shape", Shape{});
  const bool same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
  if (wanted.empty() && !same) {
    if (automatic == "VALID") geometry.begin = geometry.end = Shape(geometry.axes, 0);
    return geometry;
  }
  const auto input = input_size(operation, geometry.axes);
  user_check(input.has_value(), "ConvTranspose '{}': auto_pad and output_shape need a known input shape",
             operation.name());
  Shape output(geometry.axes);
  if (!wanted.empty())
    output.assign(wanted.end() - static_cast<int64_t>(geometry.axes), wanted.end());
  else
    for (size_t axis = 0; axis < geometry.axes; ++axis) output[axis] = (*input)[axis] * geometry.strides[axis];
  pad_to(geometry, *input, output, automatic == "SAME_UPPER");
  return geometry;
}

/// [Cin, Cout / g, k...] -> [Cout, Cin / g, k...] with the spatial axes flipped.
at::Tensor convolution_weight(const at::Tensor& weight, int64_t group) {
  Shape grouped{group, weight.size(0) / group};
  grouped.insert(grouped.end(), weight.sizes().begin() + 1, weight.sizes().end());
  Shape spatial, result{weight.size(1) * group, weight.size(0) / group};
  for (int64_t axis = 2; axis < weight.dim(); ++axis) {
    spatial.push_back(axis);
    result.push_back(weight.size(axis));
  }
  return weight.flip(spatial).reshape(grouped).transpose(1, 2).reshape(result).contiguous();
}

Variable& insert_zeros(Graph& graph, Operation& consumer, const Geometry& geometry) {
  Operation& operation =
      graph.insert_before(consumer, 0, "InsertZeros", free_operation_name(graph, consumer.name() + "/InsertZeros"),
                          {{"stride", geometry.strides}, {"output_padding", geometry.output_padding}});
  const Variable* source = operation.input(0);
  Variable& result = *operation.output();
  if (source->shape()) {
    Shape shape = *source->shape();
    for (size_t axis = 0; axis < geometry.axes; ++axis)
      shape[axis + 2] = (shape[axis + 2] - 1) * geometry.strides[axis] + 1 + geometry.output_padding[axis];
    result.set_shape(std::move(shape));
  }
  return result;
}

/// Drops `begin[i]` samples in front and `end[i]` behind along spatial axis i.
void crop(Graph& graph, Operation& consumer, const Shape& begin, const Shape& end) {
  const Variable* source = consumer.input(0);
  Shape starts, ends, axes, steps;
  std::optional<Shape> shape = source->shape();
  for (size_t axis = 0; axis < begin.size(); ++axis) {
    if (begin[axis] == 0 && end[axis] == 0) continue;
    starts.push_back(begin[axis]);
    ends.push_back(end[axis] == 0 ? std::numeric_limits<int64_t>::max() : -end[axis]);
    axes.push_back(static_cast<int64_t>(axis) + 2);
    steps.push_back(1);
    if (shape) (*shape)[axis + 2] -= begin[axis] + end[axis];
  }
  const std::string name = free_operation_name(graph, consumer.name() + "/Crop");
  Operation& slice = graph.insert_before(consumer, 0, "Slice", name);
  const std::pair<const char*, const Shape*> operands[] = {
      {"_starts", &starts}, {"_ends", &ends}, {"_axes", &axes}, {"_steps", &steps}};
  for (const auto& [suffix, list] : operands)
    graph.append_input(slice, &graph.add_parameter(free_variable_name(graph, name + suffix), integer_tensor(*list)));
  slice.output()->set_shape(shape);
}

void decompose(Graph& graph, Operation& operation) {
  Geometry geometry = geometry_of(operation);
  const int64_t group = operation.int_attribute("group", 1);
  const bool upsamples =
      std::any_of(geometry.strides.begin(), geometry.strides.end(), [](int64_t s) { return s != 1; });
  if (upsamples) insert_zeros(graph, operation, geometry);
  Shape pads(2 * geometry.axes), crop_begin(geometry.axes), crop_end(geometry.axes);
  bool crops = false;
  for (size_t axis = 0; axis < geometry.axes; ++axis) {
    const int64_t reach = geometry.dilations[axis] * (geometry.kernel[axis] - 1);
    const int64_t begin = reach - geometry.begin[axis];
    const int64_t end = reach - geometry.end[axis] + (upsamples ? 0 : geometry.output_padding[axis]);
    pads[axis] = std::max<int64_t>(begin, 0);
    pads[axis + geometry.axes] = std::max<int64_t>(end, 0);
    crop_begin[axis] = std::max<int64_t>(-begin, 0);
    crop_end[axis] = std::max<int64_t>(-end, 0);
    crops |= begin < 0 || end < 0;
  }
  if (crops) crop(graph, operation, crop_begin, crop_end);
  set_constant(graph, operation, 1, convolution_weight(operation.input(1)->value(), group),
               operation.name() + "_weight");
  become(graph, operation, "Conv", std::vector<Variable*>(operation.inputs()),
         {{"strides", Shape(geometry.axes, 1)},
          {"pads", pads},
          {"dilations", geometry.dilations},
          {"group", group},
          {"kernel_shape", geometry.kernel}});
}

}  // namespace

PassReport decompose_conv_transpose(Graph& graph) {
  PassReport report{"decompose_conv_transpose"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "ConvTranspose") continue;
    if (!operation->input(1) || !operation->input(1)->is_parameter()) continue;
    decompose(graph, *operation);
    report.count("ConvTranspose became InsertZeros and Conv", operation->name());
  }
  return report;
}

}  // namespace espq
