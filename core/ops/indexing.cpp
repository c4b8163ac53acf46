// Operators that read or write elements at computed positions.
#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// Indices in [0, size): negative ones count from the end.
at::Tensor wrapped(const at::Tensor& indices, int64_t size, const at::Tensor& like) {
  const at::Tensor index = indices.to(like.device(), at::kLong);
  return at::where(index < 0, index + size, index);
}

Tensors gather_elements(const ForwardContext& context, const Tensors& in) {
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim());
  return one(at::gather(in[0], axis, wrapped(in[1], in[0].size(axis), in[0])));
}

/// Positions of index tuples (last axis of `indices`) in `data` seen as [outer, inner] from axis `first` on.
at::Tensor linear_positions(const at::Tensor& data, const at::Tensor& indices, int64_t first) {
  const int64_t depth = indices.size(-1);
  at::Tensor result = at::zeros(indices.sizes().slice(0, indices.dim() - 1), indices.options().dtype(at::kLong));
  for (int64_t i = 0; i < depth; ++i) {
    result = result * data.size(first + i) + wrapped(indices.select(-1, i), data.size(first + i), data);
  }
  return result;
}

Tensors gather_nd(const ForwardContext& context, const Tensors& in) {
  const int64_t batch = context.operation.int_attribute("batch_dims"), depth = in[1].size(-1);
  const at::Tensor& data = in[0];
  user_check(batch >= 0 && batch + depth <= data.dim(), "operation '{}' (GatherND): indices of {} entries for {} axes",
             context.operation.name(), depth, data.dim() - batch);
  at::Tensor positions = linear_positions(data, in[1].to(data.device()), batch);
  int64_t batches = 1, span = 1, inner = 1;
  for (int64_t i = 0; i < data.dim(); ++i) (i < batch ? batches : i < batch + depth ? span : inner) *= data.size(i);
  Shape shape = positions.sizes().vec();
  shape.insert(shape.end(), data.sizes().begin() + batch + depth, data.sizes().end());
  positions = positions.reshape({batches, -1}) + at::arange(batches, positions.options()).unsqueeze(1) * span;
  return one(data.reshape({batches * span, inner}).index_select(0, positions.flatten()).reshape(shape));
}

/// Name of the reduction in LibTorch; empty = the update replaces the element.
std::string reduction_name(const Operation& operation) {
  const std::string& reduction = operation.string_attribute("reduction");
  if (reduction == "none") return {};
  if (reduction == "add") return "sum";
  if (reduction == "mul") return "prod";
  if (reduction == "max") return "amax";
  user_check(reduction == "min", "operation '{}' ({}): unknown reduction '{}'; use none, add, mul, max or min",
             operation.name(), operation.type(), reduction);
  return "amin";
}

Tensors scatter_elements(const ForwardContext& context, const Tensors& in) {
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim());
  const at::Tensor index = wrapped(in[1], in[0].size(axis), in[0]);
  const std::string reduction = reduction_name(context.operation);
  if (reduction.empty()) return one(at::scatter(in[0], axis, index, in[2]));
  return one(at::scatter_reduce(in[0], axis, index, in[2], reduction));
}

Tensors scatter_nd(const ForwardContext& context, const Tensors& in) {
  const at::Tensor& data = in[0];
  const int64_t depth = in[1].size(-1);
  user_check(depth <= data.dim(), "operation '{}' (ScatterND): indices of {} entries for {} axes",
             context.operation.name(), depth, data.dim());
  const at::Tensor positions = linear_positions(data, in[1].to(data.device()), 0).flatten();
  int64_t outer = 1, inner = 1;
  for (int64_t i = 0; i < data.dim(); ++i) (i < depth ? outer : inner) *= data.size(i);
  const at::Tensor rows = data.reshape({outer, inner}), updates = in[2].reshape({positions.numel(), inner});
  const std::string reduction = reduction_name(context.operation);
  at::Tensor result;
  if (reduction.empty()) {
    result = at::index_copy(rows, 0, positions, updates);
  } else {
    result = at::scatter_reduce(rows, 0, positions.unsqueeze(1).expand_as(updates), updates, reduction);
  }
  return one(result.reshape(data.sizes()));
}

/// Chip library 3.3.9: one update after the other on raw codes, saturating after each.
BoardKernel scatter_nd_board(const BoardContext& context) {
  const Operation& operation = context.operation;
  const std::string reduction = operation.string_attribute("reduction");
  const int bits = context.outputs[0].bits;
  if (bits == 0 || (reduction != "add" && reduction != "mul")) return board_on_codes(context);
  const auto low = static_cast<float>(quant_min(bits)), high = static_cast<float>(quant_max(bits));
  return [=, add = reduction == "add"](const Tensors& in) -> Tensors {
    at::Tensor result = in[0].clone(at::MemoryFormat::Contiguous);
    const at::Tensor positions = linear_positions(result, in[1], 0).flatten(), updates = in[2].contiguous();
    const int64_t count = positions.numel(), inner = count ? updates.numel() / count : 0;
    const float* update = updates.const_data_ptr<float>();
    float* codes = result.data_ptr<float>();
    const auto* position = positions.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < count * inner; ++i) {
      float& code = codes[position[i / inner] * inner + i % inner];
      code = std::clamp(add ? code + update[i] : code * update[i], low, high);
    }
    return {result};
  };
}

Tensors reverse_sequence(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t batch = wrap_axis(operation, operation.int_attribute("batch_axis"), in[0].dim());
  const int64_t time = wrap_axis(operation, operation.int_attribute("time_axis"), in[0].dim());
  const std::vector<int64_t> lengths = to_integers(in[1]);
  user_check(batch != time && static_cast<int64_t>(lengths.size()) == in[0].size(batch),
             "operation '{}' (ReverseSequence): one length per entry of the batch axis is needed", operation.name());
  Tensors rows;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const at::Tensor row = in[0].narrow(batch, static_cast<int64_t>(i), 1);
    user_check(lengths[i] >= 0 && lengths[i] <= in[0].size(time),
               "operation '{}' (ReverseSequence): length {} is outside the time axis of {}", operation.name(),
               lengths[i], in[0].size(time));
    rows.push_back(at::cat({row.narrow(time, 0, lengths[i]).flip(time), row.slice(time, lengths[i])}, time));
  }
  return one(at::cat(rows, batch));
}

Tensors top_k(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t axis = wrap_axis(operation, operation.int_attribute("axis"), in[0].dim());
  const bool largest = operation.int_attribute("largest") != 0;
  // A stable sort, since ONNX prefers the lower index among equals.
  auto [values, indices] = at::sort(in[0], /*stable=*/true, axis, /*descending=*/largest);
  const int64_t count = to_integers(in[1]).at(0);
  return {values.narrow(axis, 0, count), indices.narrow(axis, 0, count)};
}

Tensors one_hot(const ForwardContext& context, const Tensors& in) {
  const int64_t depth = to_integers(in[1]).at(0);
  const int64_t axis = wrap_axis(context.operation, context.operation.int_attribute("axis"), in[0].dim() + 1);
  const at::Tensor index = wrapped(in[0], depth, in[0]).unsqueeze(axis);
  Shape shape(in[0].dim() + 1, 1);
  shape[axis] = depth;
  const at::Tensor on = index == at::arange(depth, index.options()).reshape(shape);
  return one(at::where(on, in[2][1], in[2][0]));
}

Tensors non_zero(const ForwardContext&, const Tensors& in) { return one(at::nonzero(in[0]).transpose(0, 1)); }

Tensors cumulative_sum(const ForwardContext& context, const Tensors& in) {
  const Operation& operation = context.operation;
  const int64_t axis = wrap_axis(operation, to_integers(in[1]).at(0), in[0].dim());
  const bool reverse = operation.int_attribute("reverse") != 0;
  const at::Tensor x = reverse ? in[0].flip(axis) : in[0];
  at::Tensor sum = at::cumsum(x, axis).to(x.scalar_type());
  if (operation.int_attribute("exclusive") != 0) sum = sum - x;
  return one(reverse ? sum.flip(axis) : sum);
}

Tensors triangle(const ForwardContext& context, const Tensors& in) {
  const int64_t diagonal = has_input(in, 1) ? to_integers(in[1]).at(0) : 0;
  return one(context.operation.int_attribute("upper") != 0 ? at::triu(in[0], diagonal) : at::tril(in[0], diagonal));
}

// ---------------------------------------------------------------------------------------------- limits
const Limit kNegativeIndices{
    .what = "negative indices",
    .remedy = "count from the front",
    .asked = [](const Operation& operation, const Deployment&, Width) { return has_negative(operation.input(1)); }};

/// It multiplies codes and gives the product on their own grid.
const Limit kScatteredProduct{.what = "reduction mul of integers",
                              .remedy = "leave the operation in float, or multiply with a Mul",
                              .asked = [](const Operation& operation, const Deployment&, Width width) {
                                return !width.is_float() && operation.string_attribute("reduction", "none") == "mul";
                              }};

/// What it swaps are the elements behind dimension 1.
const Limit kInnerAxes{.what = "other axes than the first two, or axes that count from the end",
                       .remedy = "put Transposes around it",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const int64_t batch = operation.int_attribute("batch_axis", 1);
                         const int64_t time = operation.int_attribute("time_axis", 0);
                         return batch < 0 || batch > 1 || time < 0 || time > 1;
                       }};

}  // namespace

Operators indexing_operators() {
  return {
      {.name = "ScatterND",
       .inputs = {{"data"}, index_operand("indices"), {"updates"}},
       .outputs = {{"output"}},
       .attributes = {text("reduction", "none")},
       .forward = scatter_nd,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Concat},
       .chip = {.board = scatter_nd_board,
                .kernels = kAllWidths,
                .limits = {kNegativeIndices, kScatteredProduct},
                .note = "indices may be computed, but must not be negative"}},
      {.name = "ReverseSequence",
       .inputs = {{"input"}, index_operand("sequence_lens")},
       .outputs = {{"output"}},
       .attributes = {integer("batch_axis", 1), integer("time_axis", 0)},
       .forward = reverse_sequence,
       .quantization = {.quantizable = true, .passive = true},
       .chip = {.board = board_on_codes,
                .kernels = kIntegerWidths,
                .limits = {kInnerAxes},
                .note = "the float kernel swaps its values as integers"}},
      {.name = "GatherElements",
       .inputs = {{"data"}, index_operand("indices")},
       .outputs = {{"output"}},
       .attributes = {integer("axis", 0)},
       .forward = gather_elements,
       .chip = {.board = board_on_codes}},
      {.name = "GatherND",
       .inputs = {{"data"}, index_operand("indices")},
       .outputs = {{"output"}},
       .attributes = {integer("batch_dims", 0)},
       .forward = gather_nd,
       .chip = {.board = board_on_codes}},
      {.name = "ScatterElements",
       .inputs = {{"data"}, index_operand("indices"), {"updates"}},
       .outputs = {{"output"}},
       .attributes = {integer("axis", 0), text("reduction", "none")},
       .forward = scatter_elements,
       .chip = {.board = board_on_codes}},
      {.name = "TopK",
       .inputs = {{"X"}, index_operand("K")},
       .outputs = {{"Values"}, optional(index_operand("Indices"))},
       .attributes = {integer("axis", -1), integer("largest", 1), integer("sorted", 1)},
       .forward = top_k,
       .chip = {.board = board_on_codes}},
      {.name = "OneHot",
       .inputs = {index_operand("indices"), index_operand("depth"), index_operand("values")},
       .outputs = {{"output"}},
       .attributes = {integer("axis", -1)},
       .forward = one_hot,
       .chip = {.board = board_on_codes}},
      {.name = "NonZero",
       .inputs = {{"X"}},
       .outputs = {{"output"}},
       .forward = non_zero,
       .chip = {.board = board_on_codes}},
      {.name = "CumSum",
       .inputs = {{"x"}, index_operand("axis")},
       .outputs = {{"output"}},
       .attributes = {integer("exclusive", 0), integer("reverse", 0)},
       .forward = cumulative_sum,
       .chip = {.board = board_on_codes}},
      {.name = "Trilu",
       .inputs = {{"input"}, optional(index_operand("k"))},
       .outputs = {{"output"}},
       .attributes = {integer("upper", 1)},
       .forward = triangle,
       .chip = {.board = board_on_codes}},
  };
}

}  // namespace espq
