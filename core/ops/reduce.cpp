#include "core/ops/reduce.h"

#include <ATen/ATen.h>

#include <limits>

#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/kernels/map_floats.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/quant/rounding.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// What a Reduce operation reduces, read from its operand 1 (or the older `axes` attribute).
struct Reduction {
  std::vector<int64_t> axes;  ///< ascending; empty = nothing to reduce
  bool keep_dims = true;
  int64_t count = 1;  ///< elements behind one result
};

Reduction read_reduction(const Operation& operation, const Tensors& inputs) {
  const at::Tensor& input = inputs[0];
  Reduction reduction;
  reduction.axes =
      reduced_axes(operation, has_input(inputs, 1) ? std::optional(to_integers(inputs[1])) : std::nullopt, input.dim());
  reduction.keep_dims = operation.int_attribute("keepdims", 1) != 0;
  for (int64_t axis : reduction.axes) reduction.count *= input.size(axis);
  return reduction;
}

/// A tensor of the reduced shape filled with what an empty reduction gives.
at::Tensor empty_result(const at::Tensor& input, const Reduction& reduction, double value) {
  const at::Tensor shaped = input.sum(reduction.axes, reduction.keep_dims);
  return at::full_like(shaped, value).to(input.scalar_type());
}

at::Tensor sum_over(const at::Tensor& input, const Reduction& reduction) {
  if (reduction.axes.empty()) return input;  // LibTorch reads an empty list as "all"
  return at::sum(input, reduction.axes, reduction.keep_dims, input.scalar_type());
}

at::Tensor product_over(const at::Tensor& input, const Reduction& reduction) {
  at::Tensor product = input;
  for (auto axis = reduction.axes.rbegin(); axis != reduction.axes.rend(); ++axis)
    product = at::prod(product, *axis, reduction.keep_dims, input.scalar_type());
  return product;
}

// ------------------------------------------------------------------------------------------------ float kernels
at::Tensor reduce_mean(const at::Tensor& input, const Reduction& reduction) {
  if (reduction.axes.empty()) return input;
  if (!input.is_floating_point()) return at::div(sum_over(input, reduction), reduction.count, "trunc");
  return at::mean(input, reduction.axes, reduction.keep_dims);
}
at::Tensor reduce_max(const at::Tensor& input, const Reduction& reduction) {
  if (reduction.axes.empty()) return input;
  if (reduction.count == 0) return empty_result(input, reduction, -std::numeric_limits<double>::infinity());
  return at::amax(input, reduction.axes, reduction.keep_dims);
}
at::Tensor reduce_min(const at::Tensor& input, const Reduction& reduction) {
  if (reduction.axes.empty()) return input;
  if (reduction.count == 0) return empty_result(input, reduction, std::numeric_limits<double>::infinity());
  return at::amin(input, reduction.axes, reduction.keep_dims);
}
at::Tensor reduce_l1(const at::Tensor& input, const Reduction& reduction) { return sum_over(input.abs(), reduction); }
at::Tensor reduce_sum_square(const at::Tensor& input, const Reduction& reduction) {
  return sum_over(input * input, reduction);
}
at::Tensor reduce_l2(const at::Tensor& input, const Reduction& reduction) {
  return at::sqrt(reduce_sum_square(input, reduction));
}
at::Tensor reduce_log_sum(const at::Tensor& input, const Reduction& reduction) {
  return at::log(sum_over(input, reduction));
}
at::Tensor reduce_log_sum_exp(const at::Tensor& input, const Reduction& reduction) {
  if (reduction.axes.empty()) return input;
  return at::logsumexp(input, reduction.axes, reduction.keep_dims);
}

using Reducer = at::Tensor (*)(const at::Tensor&, const Reduction&);

template <Reducer reduce>
Tensors forward(const ForwardContext& context, const Tensors& inputs) {
  return {reduce(inputs[0], read_reduction(context.operation, inputs))};
}

// ------------------------------------------------------------------------------------------------ exact kernels
/// Integer sums, exact: float32 while they stay below 2^24, float64 after that (16-bit squares need at most 2^53).
at::Tensor exact_sums(const at::Tensor& codes, const Reduction& reduction, double largest, Reducer reduce) {
  const bool narrow = largest * static_cast<double>(reduction.count) <= (1 << 24);
  return reduce(narrow ? codes : codes.to(at::kDouble), reduction);
}

bool on_grids(const BoardContext& context) {
  return context.inputs.at(0).quantized() && context.outputs.at(0).quantized();
}

/// ReduceSum, ReduceL1, ReduceSumSquare: one rounding shift by e_out - powers * e_in.
template <Reducer reduce, int powers>
BoardKernel shifted_sum(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  const double largest = powers == 1 ? -quant_min(input.bits) : quant_min(input.bits) * quant_min(input.bits);
  const double factor = std::ldexp(1.0, powers * input.exponent() - output.exponent());
  return [&operation = context.operation, largest, factor, low = quant_min(output.bits), high = quant_max(output.bits),
          rounding = context.target.rounding](const Tensors& inputs) -> Tensors {
    const at::Tensor sums = exact_sums(inputs[0], read_reduction(operation, inputs), largest, reduce);
    return {round_tensor(sums.to(at::kDouble) * factor, rounding).clamp(low, high).to(at::kFloat)};
  };
}

/// ReduceMean: sum * 2^e_in / count * 2^-e_out in float32, left to right.
BoardKernel mean_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  return [&operation = context.operation, largest = -quant_min(input.bits), scale = chip::scale(input.exponent()),
          inverse = chip::inverse_scale(output.exponent()),
          round = chip::Rounder(context.target.rounding, output.bits)](const Tensors& inputs) -> Tensors {
    const Reduction reduction = read_reduction(operation, inputs);
    const at::Tensor sums = exact_sums(inputs[0], reduction, largest, sum_over).to(at::kFloat);
    const auto count = static_cast<float>(reduction.count);
    return {map_floats(sums, [=](float sum) { return round(sum * scale / count * inverse); })};
  };
}

BoardKernel l2_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  return [&operation = context.operation, largest = quant_min(input.bits) * quant_min(input.bits),
          scale = chip::scale(2 * input.exponent()), inverse = chip::inverse_scale(output.exponent()),
          round = chip::Rounder(context.target.rounding, output.bits)](const Tensors& inputs) -> Tensors {
    const Reduction reduction = read_reduction(operation, inputs);
    const at::Tensor sums = exact_sums(inputs[0], reduction, largest, reduce_sum_square).to(at::kFloat);
    return {map_floats(sums, [=](float sum) { return round(chip::newton_sqrt(sum * scale) * inverse); })};
  };
}

/// Runs `combine` over the codes behind each result, in memory order of the input.
template <typename Combine>
at::Tensor fold(const at::Tensor& codes, const Reduction& reduction, Combine combine) {
  std::vector<int64_t> order;
  for (int64_t axis = 0; axis < codes.dim(); ++axis)
    if (!std::binary_search(reduction.axes.begin(), reduction.axes.end(), axis)) order.push_back(axis);
  order.insert(order.end(), reduction.axes.begin(), reduction.axes.end());
  const at::Tensor rows = codes.permute(order).contiguous();
  std::vector<int64_t> shape;
  for (int64_t axis = 0; axis < codes.dim(); ++axis) {
    const bool reduced = std::binary_search(reduction.axes.begin(), reduction.axes.end(), axis);
    if (!reduced || reduction.keep_dims) shape.push_back(reduced ? 1 : codes.size(axis));
  }
  at::Tensor result = at::empty(shape, codes.options());
  const float* in = rows.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  for (int64_t row = 0; row < result.numel(); ++row) out[row] = combine(in + row * reduction.count, reduction.count);
  return result;
}

BoardKernel product_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  return [&operation = context.operation, wide = input.bits > 8, scale = chip::scale(input.exponent()),
          inverse = chip::inverse_scale(output.exponent()),
          round = chip::Rounder(context.target.rounding, output.bits)](const Tensors& inputs) -> Tensors {
    const Reduction reduction = read_reduction(operation, inputs);
    return {fold(inputs[0], reduction, [=](const float* code, int64_t count) {
      double product = 1.0;
      for (int64_t i = 0; i < count; ++i) {
        product *= static_cast<double>(code[i] * scale);
        if (!wide) product = static_cast<double>(static_cast<float>(product));
      }
      return round(static_cast<float>(product * inverse));
    })};
  };
}

BoardKernel log_sum_board(const BoardContext& context) {
  if (!on_grids(context)) return board_on_values(context);
  const Grid &input = context.inputs[0], &output = context.outputs[0];
  return [&operation = context.operation, largest = -quant_min(input.bits), scale = chip::scale(input.exponent()),
          inverse = chip::inverse_scale(output.exponent()),
          round = chip::Rounder(context.target.rounding, output.bits)](const Tensors& inputs) -> Tensors {
    const at::Tensor sums = exact_sums(inputs[0], read_reduction(operation, inputs), largest, sum_over).to(at::kFloat);
    return {map_floats(sums, [=](float sum) { return round(std::log(sum * scale) * inverse); })};
  };
}

/// int8 reads expf from a table of the 256 codes and does not subtract the maximum.
BoardKernel log_sum_exp_board(const BoardContext& context) {
  if (!on_grids(context) || context.inputs[0].bits != 8) return board_on_values(context);
  std::vector<float> table;
  for (int code = -128; code < 128; ++code)
    table.push_back(std::exp(static_cast<float>(code) * chip::scale(context.inputs[0].exponent())));
  return [&operation = context.operation, table, inverse = chip::inverse_scale(context.outputs[0].exponent()),
          round = chip::Rounder(context.target.rounding, context.outputs[0].bits)](const Tensors& inputs) -> Tensors {
    const Reduction reduction = read_reduction(operation, inputs);
    return {fold(inputs[0], reduction, [&](const float* code, int64_t count) {
      float sum = 0.0f;
      for (int64_t i = 0; i < count; ++i) sum += table[static_cast<int>(code[i]) + 128];
      return round(std::log(sum) * inverse);
    })};
  };
}

// ------------------------------------------------------------------------------------------------ definitions
const Limit kSmallSquares{.what = "an input exponent of -16 or less at 16 bit",
                          .remedy = "scale the data up, or give the operation 8 bits",
                          .asked = [](const Operation& operation, const Deployment&, Width width) {
                            const auto exponent = stored_exponent(operation.input(0));
                            return width == Width::Int16 && exponent && *exponent <= -16;
                          }};

bool reduces_all(const Operation& operation, const std::vector<int64_t>& axes) {
  return static_cast<int64_t>(axes.size()) == rank_of(operation.input(0));
}

/// Only the operand is read: an attribute stands for all axes.
const Limit kAxesAttribute{.what = "axes as attribute",
                           .remedy = "give them as operand",
                           .asked = [](const Operation& operation, const Deployment&, Width) {
                             if (operation.input(1) || operation.ints_attribute("axes", {}).empty()) return false;
                             const auto reduced = reduced_axes(operation);
                             return reduced && !reduces_all(operation, *reduced);
                           }};

const Limit kNothingReduced{.what = "a reduction of no axis",
                            .remedy = "leave the operation out, or compute it element by element",
                            .asked = [](const Operation& operation, const Deployment&, Width) {
                              const auto reduced = reduced_axes(operation);
                              return reduced && reduced->empty();
                            }};

const Limit kInterleavedAxes{
    .what = "reduced axes that leave more than four groups of neighbours (five or more dimensions)",
    .remedy = "reduce in two steps",
    .asked = [](const Operation& operation, const Deployment&, Width) {
      const auto reduced = reduced_axes(operation);
      return reduced && has_too_many_groups(*reduced, *rank_of(operation.input(0)));
    }};

const Limit kNoAxisLeft{.what = "a result without axes: it gives the shape [1]",
                        .remedy = "reduce with keepdims = 1, and Reshape the result to [1]",
                        .asked = [](const Operation& operation, const Deployment&, Width) {
                          const auto reduced = reduced_axes(operation);
                          const auto result = shape_at_kernel(operation.output());
                          return reduced && !reduced->empty() && reduces_all(operation, *reduced) &&
                                 operation.int_attribute("keepdims", 1) == 0 && (!result || result->empty());
                        }};

OperatorDefinition reduction(std::string_view name, ForwardFunction forward, BoardFactory board,
                             const QuantizationRule& quantization, std::vector<Limit> limits = {}) {
  limits.insert(limits.end(), {needs_constants<1>("axes that the network computes"), kAxesAttribute, kNothingReduced,
                               kInterleavedAxes, kNoAxisLeft});
  return {.name = name,
          .inputs = {{"data"}, optional(index_operand("axes"))},
          .outputs = {{"reduced"}},
          .attributes = {integers("axes"), integer("keepdims", 1), integer("noop_with_empty_axes", 0)},
          .forward = forward,
          .quantization = quantization,
          .layout = LayoutRule::Reduce,
          .chip = {.board = board,
                   .kernels = kAllWidths,
                   .limits = std::move(limits),
                   .note = "axes are read from the operand; a result without axes has the shape [1]"}};
}

}  // namespace

std::vector<int64_t> reduced_axes(const Operation& operation, const std::optional<std::vector<int64_t>>& given,
                                  int64_t rank) {
  std::vector<int64_t> axes = given ? *given : operation.ints_attribute("axes", {});
  if (axes.empty() && operation.int_attribute("noop_with_empty_axes", 0) == 0)
    for (int64_t axis = 0; axis < rank; ++axis) axes.push_back(axis);
  axes = wrap_axes(operation, std::move(axes), rank);
  std::sort(axes.begin(), axes.end());
  return axes;
}

std::optional<std::vector<int64_t>> reduced_axes(const Operation& operation) {
  const auto rank = rank_of(operation.input(0));
  if (!rank || is_computed(operation, 1)) return std::nullopt;
  return reduced_axes(operation, integer_constant(operation.input(1)), *rank);
}

bool has_too_many_groups(const std::vector<int64_t>& reduced, int64_t rank) {
  constexpr int kKnownGroups = 4;
  int groups = 0;
  bool last = false;
  for (int64_t axis = 0; axis < rank; ++axis) {
    const bool now = std::binary_search(reduced.begin(), reduced.end(), axis);
    groups += axis == 0 || now != last;
    last = now;
  }
  return groups > kKnownGroups;
}

Operators reduction_operators() {
  const QuantizationRule computes{.quantizable = true}, picks{.quantizable = true, .passive = true};
  return {
      reduction("ReduceMean", forward<reduce_mean>, mean_board, computes),
      reduction("ReduceSum", forward<sum_over>, shifted_sum<sum_over, 1>, computes),
      reduction("ReduceMax", forward<reduce_max>, board_on_codes, picks),
      reduction("ReduceMin", forward<reduce_min>, board_on_codes, picks),
      reduction("ReduceL1", forward<reduce_l1>, shifted_sum<reduce_l1, 1>, computes),
      reduction("ReduceSumSquare", forward<reduce_sum_square>, shifted_sum<reduce_sum_square, 2>, computes),
      reduction("ReduceL2", forward<reduce_l2>, l2_board, computes, {kSmallSquares}),
      reduction("ReduceProd", forward<product_over>, product_board, computes),
      reduction("ReduceLogSum", forward<reduce_log_sum>, log_sum_board, computes),
      reduction("ReduceLogSumExp", forward<reduce_log_sum_exp>, log_sum_exp_board, computes),
  };
}

}  // namespace espq
