#include "core/ops/gemm.h"

#include <ATen/ATen.h>

#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

// ------------------------------------------------------------------------------------------------ Gemm
Tensors gemm_forward(const ForwardContext& context, const Tensors& inputs) {
  const Operation& operation = context.operation;
  const at::Tensor bias = inputs.size() > 2 ? inputs[2] : at::Tensor();
  const float alpha = operation.float_attribute("alpha", 1.0f), beta = operation.float_attribute("beta", 1.0f);
  const at::Tensor a = operation.int_attribute("transA", 0) ? inputs[0].t() : inputs[0];
  // A chip graph holds a constant operand 1 as [N, K] whatever the attribute says.
  const bool filters_first = context.lowered && operation.input(1) && operation.input(1)->is_parameter();
  const bool outputs_first = filters_first || operation.int_attribute("transB", 0);
  const at::Tensor filters = outputs_first ? inputs[1] : inputs[1].t();
  user_check(a.dim() >= 2 && filters.dim() == 2 && a.size(-1) == filters.size(1),
             "operation '{}' (Gemm): operands of shape [{}] and [{}] do not fit", operation.name(),
             fmt::join(inputs[0].sizes(), ", "), fmt::join(inputs[1].sizes(), ", "));
  const bool plain = alpha == 1.0f && beta == 1.0f;
  if (plain && bias.defined() && bias.dim() == 1 && bias.size(0) == filters.size(0))
    return {at::linear(a, filters, bias)};
  at::Tensor result = at::linear(a, filters);
  if (alpha != 1.0f) result = result * alpha;
  if (bias.defined()) result = result + (beta == 1.0f ? bias : bias * beta);
  return {result};
}

int gemm_row_axis(const Operation& operation) { return operation.int_attribute("transB", 0) ? 0 : 1; }

const Limit kComputedMatrix{.what = "anything but a constant matrix as second operand",
                            .remedy = "use MatMul for computed ones",
                            .asked =
                                [](const Operation& operation, const Deployment&, Width width) {
                                  const Variable* matrix = operation.input(1);
                                  return width != Width::Float &&
                                         (!matrix || !matrix->is_parameter() || matrix->value().dim() != 2);
                                },
                            .kind = Refusal::Kind::Unwritable};
const Limit kFactors{.what = "alpha and beta",
                     .remedy = "multiply them into weights and bias",
                     .asked =
                         [](const Operation& operation, const Deployment&, Width width) {
                           return width != Width::Float && (operation.float_attribute("alpha", 1) != 1 ||
                                                            operation.float_attribute("beta", 1) != 1);
                         },
                     .kind = Refusal::Kind::Unwritable};
const Limit kTurnedData{
    .what = "a transposed first operand",
    .remedy = "put a Transpose in front",
    .asked = [](const Operation& operation, const Deployment&,
                Width width) { return width != Width::Float && operation.int_attribute("transA", 0) != 0; },
    .kind = Refusal::Kind::Unwritable};

/// A bias of one element is read as one of N, a matrix as its first row.
const Limit kBiasShape{.what = "a C that is not one constant per column of the result",
                       .remedy = "expand it to [N], or add it behind",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const Variable* bias = operation.input(2);
                         if (!bias || is_computed(operation, 2)) return bias != nullptr;
                         const auto result = shape_at_kernel(operation.output());
                         if (!result || result->empty()) return false;
                         const at::Tensor& value = bias->value();
                         return value.dim() == 0 || value.size(-1) != result->back() || value.numel() != result->back();
                       }};

// ------------------------------------------------------------------------------------------------ MatMul
Tensors matmul_forward(const ForwardContext& context, const Tensors& inputs) {
  const at::Tensor right = context.target && is_packed(context.operation)
                               ? unpack_columns(context.operation, *context.target, inputs[1])
                               : inputs[1];
  return {at::matmul(inputs[0], right)};
}

const Limit kMatMulRank{.what = "more than four dimensions",
                        .remedy = "merge batch dimensions with a Reshape",
                        .asked = [](const Operation& operation, const Deployment&, Width) {
                          const auto a = shape_at_kernel(operation.input(0)), b = shape_at_kernel(operation.input(1));
                          return (a && a->size() > 4) || (b && b->size() > 4);
                        }};

}  // namespace

bool is_packed(const Operation& operation) {
  const Variable* right = operation.input(1);
  return right && !right->is_parameter() && operation.string_attribute("input1_layout", "packed") == "packed" &&
         operation.chip().kernels.value_or(Width::Float) != Width::Float;
}

at::Tensor unpack_columns(const Operation& operation, const Target& target, const at::Tensor& packed) {
  const int bits = operation.chip().kernels.value_or(Width::Int8).activations;
  const bool vector = packed.dim() == 1;
  const int64_t rows = vector ? packed.size(0) : packed.size(-2), columns = vector ? 1 : packed.size(-1);
  const int64_t block = target.block(bits), aligned = block == 0 ? 0 : columns / block * block;
  const at::Tensor flat = packed.reshape({-1, rows * columns});
  const int64_t batches = flat.size(0);
  Tensors parts;
  if (aligned > 0)
    parts.push_back(flat.slice(1, 0, aligned * rows)
                        .reshape({batches, aligned / block, rows, block})
                        .permute({0, 2, 1, 3})
                        .reshape({batches, rows, aligned}));
  if (aligned < columns)
    parts.push_back(flat.slice(1, aligned * rows).reshape({batches, columns - aligned, rows}).transpose(1, 2));
  return at::cat(parts, 2).reshape(packed.sizes());
}

Operators gemm_operators() {
  return {
      {.name = "Gemm",
       .inputs = {{"A"}, operand("B", OperandRole::Weight), optional(operand("C", OperandRole::Bias))},
       .outputs = {{"Y"}},
       .attributes = {real("alpha", 1), real("beta", 1), integer("transA", 0), integer("transB", 0)},
       .forward = gemm_forward,
       .quantization = {.quantizable = true},
       .linear = LinearRule{.row_axis = gemm_row_axis, .channel_axis = -1, .packing = WeightPacking::Linear},
       .chip = {.board = gemm_board,
                .kernels = kIntegerWidths,
                .fused_relu = true,
                .limits = {kComputedMatrix, kFactors, kTurnedData, kBiasShape},
                .note = "all axes of the data but the last one count rows"}},
      {.name = "MatMul",
       .inputs = {{"A"}, operand("B", OperandRole::Weight)},
       .outputs = {{"Y"}},
       .attributes = {text("input1_layout")},
       .forward = matmul_forward,
       .quantization = {.quantizable = true},
       .linear = LinearRule{.row_axis = [](const Operation&) { return 1; },
                            .channel_axis = -1,
                            .row_exponents = false,
                            .packing = WeightPacking::Matrix},
       .chip = {.board = matmul_board,
                .kernels = kIntegerWidths,
                .fused_relu = true,
                .limits = {kMatMulRank},
                .note =
                    "wants a computed operand B packed in blocks of output columns and reads no attribute that says "
                    "otherwise; the product of two vectors has the shape [1]"}},
  };
}

}  // namespace espq
