// Operators that change shape, order or dtype, and those that make tensors from shapes.
#include <ATen/ExpandUtils.h>

#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

/// What a Reshape gives for another number of samples than the network was written for: exporters put their batch of
/// one into the constant, so the axes behind the first keep their recorded sizes and the first grows along. nullopt
/// when the input does not differ from its recorded shape in the first axis alone.
std::optional<Shape> shape_for_batch(const Operation& operation, const at::Tensor& value) {
  const auto is_known = [](const Variable* variable) {
    return variable && variable->shape() && !variable->shape()->empty();
  };
  const Variable *input = operation.input(0), *output = operation.outputs().empty() ? nullptr : operation.output();
  if (!is_known(input) || !is_known(output) || value.dim() == 0) return std::nullopt;
  const int64_t recorded = input->shape()->front(), given = value.size(0);
  if (recorded == given || recorded == 0 || value.sizes().slice(1) != at::IntArrayRef(*input->shape()).slice(1))
    return std::nullopt;
  Shape shape = *output->shape();
  user_check(shape[0] * given % recorded == 0,
             "operation '{}' (Reshape): {} samples instead of {} do not fit a first axis of {}", operation.name(),
             given, recorded, shape[0]);
  shape[0] = shape[0] * given / recorded;
  return shape;
}

Tensors reshape(const ForwardContext& context, const Tensors& in) {
  if (!context.lowered)
    if (const auto shape = shape_for_batch(context.operation, in[0])) return one(in[0].reshape(*shape));
  std::vector<int64_t> shape = to_integers(in[1]);
  if (context.operation.int_attribute("allowzero") == 0) {
    for (size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] != 0) continue;
      user_check(static_cast<int64_t>(i) < in[0].dim(),
                 "operation '{}' (Reshape): entry {} of the new shape copies an axis that the input does not have",
                 context.operation.name(), i);
      shape[i] = in[0].size(static_cast<int64_t>(i));
    }
  }
  return one(in[0].reshape(shape));
}

Tensors flatten(const ForwardContext& context, const Tensors& in) {
  int64_t axis = context.operation.int_attribute("axis");
  const int64_t rank = in[0].dim();
  if (axis != rank) axis = wrap_axis(context.operation, axis, rank);
  int64_t rows = 1, columns = 1;
  for (int64_t i = 0; i < rank; ++i) (i < axis ? rows : columns) *= in[0].size(i);
  return one(in[0].reshape({rows, columns}));
}

Tensors squeeze(const ForwardContext& context, const Tensors& in) {
  std::vector<int64_t> axes;
  if (has_input(in, 1)) {
    axes = wrap_axes(context.operation, to_integers(in[1]), in[0].dim());
  } else {
    for (int64_t i = 0; i < in[0].dim(); ++i)
      if (in[0].size(i) == 1) axes.push_back(i);
  }
  Shape shape;
  for (int64_t i = 0; i < in[0].dim(); ++i) {
    if (std::find(axes.begin(), axes.end(), i) == axes.end()) {
      shape.push_back(in[0].size(i));
    } else {
      user_check(in[0].size(i) == 1, "operation '{}' (Squeeze): axis {} has size {}, only axes of size 1 can go",
                 context.operation.name(), i, in[0].size(i));
    }
  }
  return one(in[0].reshape(shape));
}

Tensors unsqueeze(const ForwardContext& context, const Tensors& in) {
  const std::vector<int64_t> given = to_integers(in[1]);
  const int64_t rank = in[0].dim() + static_cast<int64_t>(given.size());
  const std::vector<int64_t> axes = wrap_axes(context.operation, given, rank);
  Shape shape;
  int64_t next = 0;
  for (int64_t i = 0; i < rank; ++i) {
    shape.push_back(std::find(axes.begin(), axes.end(), i) != axes.end() ? 1 : in[0].size(next++));
  }
  return one(in[0].reshape(shape));
}

Tensors transpose(const ForwardContext& context, const Tensors& in) {
  std::vector<int64_t> reversed(in[0].dim());
  for (size_t i = 0; i < reversed.size(); ++i) reversed[i] = static_cast<int64_t>(reversed.size() - 1 - i);
  return one(in[0].permute(context.operation.ints_attribute("perm", reversed)));
}

Tensors identity(const ForwardContext&, const Tensors& in) { return one(in[0]); }

/// Inference only: the input passes and the mask keeps everything.
Tensors dropout(const ForwardContext&, const Tensors& in) {
  return {in[0], at::ones(in[0].sizes(), in[0].options().dtype(at::kBool).requires_grad(false))};
}

Tensors expand(const ForwardContext&, const Tensors& in) {
  return one(in[0].expand(at::infer_size(in[0].sizes(), to_integers(in[1]))));
}

Tensors tile(const ForwardContext&, const Tensors& in) { return one(in[0].repeat(to_integers(in[1]))); }

Tensors cast(const ForwardContext& context, const Tensors& in) {
  return one(in[0].to(dtype_of_onnx(context.operation, context.operation.int_attribute("to"))));
}

Tensors cast_like(const ForwardContext&, const Tensors& in) { return one(in[0].to(in[1].scalar_type())); }

Tensors shape_of(const ForwardContext& context, const Tensors& in) {
  const int64_t rank = in[0].dim();
  const auto bound = [&](int64_t value) { return std::clamp<int64_t>(value < 0 ? value + rank : value, 0, rank); };
  const int64_t start = bound(context.operation.int_attribute("start", 0));
  const int64_t end = bound(context.operation.int_attribute("end", rank));
  const at::IntArrayRef sizes = in[0].sizes();
  return one(at::tensor(sizes.slice(start, std::max<int64_t>(end - start, 0)), at::kLong));
}

Tensors size_of(const ForwardContext&, const Tensors& in) { return one(at::scalar_tensor(in[0].numel(), at::kLong)); }

Tensors constant_of_shape(const ForwardContext& context, const Tensors& in) {
  const auto found = context.operation.attributes().find("value");
  const at::Tensor value =
      found == context.operation.attributes().end() ? at::zeros({1}) : std::get<at::Tensor>(found->second);
  return one(value.reshape({}).expand(to_integers(in[0])).contiguous());
}

Tensors range(const ForwardContext& context, const Tensors& in) {
  const double start = to_doubles(in[0]).at(0), limit = to_doubles(in[1]).at(0), delta = to_doubles(in[2]).at(0);
  user_check(delta != 0, "operation '{}' (Range): delta is 0", context.operation.name());
  const auto count = std::max<int64_t>(0, static_cast<int64_t>(std::ceil((limit - start) / delta)));
  const at::Tensor steps = at::arange(count, in[0].options());
  return one(in[0].reshape({}) + steps * in[2].reshape({}));
}

// ---------------------------------------------------------------------------------------------- definitions
/// Moves values without arithmetic: the output shares the scale of operand 0.
constexpr QuantizationRule kMoves{.quantizable = true, .passive = true};

/// Every axis counts from the rank with one axis more, however many are added.
const Limit kAxesFromEnd{.what = "several axes that count from the end",
                         .remedy = "count axes from the front",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           const auto axes = integer_constant(operation.input(1));
                           return axes && axes->size() > 1 && has_negative(operation.input(1));
                         }};

Operators reshaping() {
  return {
      {.name = "Reshape",
       .inputs = {{"data"}, index_operand("shape")},
       .outputs = {{"output"}},
       .attributes = {stated(integer("allowzero", 0))},
       .forward = reshape,
       .quantization = kMoves,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1>("a shape that the network computes")}}},
      {.name = "Flatten",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {integer("axis", 1)},
       .forward = flatten,
       .quantization = kMoves,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Squeeze",
       .inputs = {{"data"}, optional(index_operand("axes"))},
       .outputs = {{"output"}},
       .forward = squeeze,
       .quantization = kMoves,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1>("axes that the network computes")}}},
      {.name = "Unsqueeze",
       .inputs = {{"data"}, index_operand("axes")},
       .outputs = {{"output"}},
       .forward = unsqueeze,
       .quantization = kMoves,
       .chip = {.board = board_on_codes,
                .kernels = kAllWidths,
                .limits = {needs_constants<1>("axes that the network computes"), kAxesFromEnd}}},
      {.name = "Transpose",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {stated(integers("perm"))},
       .forward = transpose,
       .quantization = kMoves,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Identity",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .forward = identity,
       .quantization = {.quantizable = true, .passive = true, .table_int8 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
      {.name = "Dropout",
       .inputs = {{"data"}, optional(index_operand("ratio")), optional(index_operand("training_mode"))},
       .outputs = {{"output"}, optional("mask")},
       .attributes = {integer("seed")},
       .forward = dropout,
       .quantization = {.passive = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = board_on_codes}},
  };
}

Operators making() {
  return {
      {.name = "Expand",
       .inputs = {{"data"}, index_operand("shape")},
       .outputs = {{"output"}},
       .forward = expand,
       .chip = {.board = board_on_codes}},
      {.name = "Tile",
       .inputs = {{"data"}, index_operand("repeats")},
       .outputs = {{"output"}},
       .forward = tile,
       .chip = {.board = board_on_codes}},
      {.name = "Cast",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {required(integer("to")), integer("saturate"), text("round_mode")},
       .forward = cast,
       .quantization = {.table_int8 = true},
       .layout = LayoutRule::Elementwise,
       .chip = {.board = board_on_values}},
      {.name = "CastLike",
       .inputs = {{"data"}, index_operand("target_type")},
       .outputs = {{"output"}},
       .attributes = {integer("saturate"), text("round_mode")},
       .forward = cast_like,
       .layout = LayoutRule::Elementwise,
       .chip = {.board = board_on_values}},
      {.name = "Shape",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .attributes = {integer("start"), integer("end")},
       .forward = shape_of,
       .quantization = {.float_output = true},
       .chip = {.board = board_on_codes}},
      {.name = "Size",
       .inputs = {{"data"}},
       .outputs = {{"output"}},
       .forward = size_of,
       .quantization = {.float_output = true},
       .chip = {.board = board_on_codes}},
      {.name = "ConstantOfShape",
       .inputs = {index_operand("shape")},
       .outputs = {{"output"}},
       .attributes = {{.name = "value", .type = AttributeSpec::Type::Tensor}},
       .forward = constant_of_shape,
       .chip = {.board = board_on_codes}},
      {.name = "Range",
       .inputs = {index_operand("start"), index_operand("limit"), index_operand("delta")},
       .outputs = {{"output"}},
       .forward = range,
       .chip = {.board = board_on_codes}},
  };
}

}  // namespace

Operators shape_operators() {
  Operators result = reshaping();
  for (OperatorDefinition& more : making()) result.push_back(std::move(more));
  return result;
}

}  // namespace espq
