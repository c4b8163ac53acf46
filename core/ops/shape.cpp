// Operators that change shape, order or dtype, and those that make tensors from shapes.
#include <ATen/ExpandUtils.h>

#include "core/ops/arguments.h"
#include "core/ops/entry.h"
#include "core/ops/families.h"
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

// ---------------------------------------------------------------------------------------------- table

OperatorDefinition definition(std::string_view name, ForwardFunction forward, ChipSupport chip) {
  OperatorDefinition result;
  result.name = name;
  result.inputs = {{"data"}};
  result.outputs = {{"output"}};
  result.forward = forward;
  result.board = board_on_codes;
  result.layout = LayoutRule::Restores;
  result.chip = chip;
  return result;
}

/// Moves values without arithmetic: the output shares the scale of operand 0.
OperatorDefinition passive(OperatorDefinition entry, bool quantizable = true) {
  entry.quantization.quantizable = quantizable;
  entry.quantization.passive = true;
  return entry;
}

void add_reshaping(Registry& registry) {
  OperatorDefinition entry = passive(definition("Reshape", reshape, kAllWidths));
  entry.inputs = {{"data"}, index_operand("shape")};
  entry.attributes = {integer("allowzero", 0)};
  registry.add(std::move(entry));

  entry = passive(definition("Flatten", flatten, kAllWidths));
  entry.attributes = {integer("axis", 1)};
  registry.add(std::move(entry));

  entry = passive(definition("Squeeze", squeeze, kAllWidths));
  entry.inputs = {{"data"}, index_operand("axes", true)};
  registry.add(std::move(entry));

  entry = passive(definition("Unsqueeze", unsqueeze, kAllWidths));
  entry.inputs = {{"data"}, index_operand("axes")};
  registry.add(std::move(entry));

  entry = passive(definition("Transpose", transpose, kAllWidths));
  entry.attributes = {{.name = "perm", .type = Type::Ints}};
  registry.add(std::move(entry));

  entry = passive(definition("Identity", identity, kAllWidths));
  entry.layout = LayoutRule::Follows;
  entry.quantization.table_int8 = true;
  registry.add(std::move(entry));

  entry = passive(definition("Dropout", dropout, kUnregistered), false);
  entry.inputs = {{"data"}, index_operand("ratio", true), index_operand("training_mode", true)};
  entry.outputs = {{"output"}, {.name = "mask", .optional = true}};
  entry.attributes = {{.name = "seed", .type = Type::Int}};
  entry.layout = LayoutRule::Follows;
  registry.add(std::move(entry));
}

void add_repeating(Registry& registry) {
  OperatorDefinition entry = definition("Expand", expand, kUnregistered);
  entry.inputs = {{"data"}, index_operand("shape")};
  registry.add(std::move(entry));

  entry = definition("Tile", tile, kUnregistered);
  entry.inputs = {{"data"}, index_operand("repeats")};
  registry.add(std::move(entry));
}

void add_casts(Registry& registry) {
  OperatorDefinition entry = definition("Cast", cast, kUnregistered);
  entry.attributes = {{.name = "to", .type = Type::Int, .required = true},
                      {.name = "saturate", .type = Type::Int},
                      {.name = "round_mode", .type = Type::String}};
  entry.layout = LayoutRule::Follows;
  entry.board = board_on_values;
  entry.quantization.table_int8 = true;
  registry.add(std::move(entry));

  entry = definition("CastLike", cast_like, kUnregistered);
  entry.inputs = {{"data"}, index_operand("target_type")};
  entry.attributes = {{.name = "saturate", .type = Type::Int}, {.name = "round_mode", .type = Type::String}};
  entry.board = board_on_values;
  entry.layout = LayoutRule::Follows;
  registry.add(std::move(entry));
}

void add_makers(Registry& registry) {
  OperatorDefinition entry = definition("Shape", shape_of, kUnregistered);
  entry.attributes = {{.name = "start", .type = Type::Int}, {.name = "end", .type = Type::Int}};
  entry.quantization.float_output = true;
  registry.add(std::move(entry));

  entry = definition("Size", size_of, kUnregistered);
  entry.quantization.float_output = true;
  registry.add(std::move(entry));

  entry = definition("ConstantOfShape", constant_of_shape, kUnregistered);
  entry.inputs = {index_operand("shape")};
  entry.attributes = {{.name = "value", .type = Type::Tensor}};
  registry.add(std::move(entry));

  entry = definition("Range", range, kUnregistered);
  entry.inputs = {index_operand("start"), index_operand("limit"), index_operand("delta")};
  registry.add(std::move(entry));
}

}  // namespace

void register_shape_operators(Registry& registry) {
  add_reshaping(registry);
  add_repeating(registry);
  add_casts(registry);
  add_makers(registry);
}

}  // namespace espq
