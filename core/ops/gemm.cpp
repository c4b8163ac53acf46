#include "core/ops/gemm.h"

#include <ATen/ATen.h>

#include "core/ops/families.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

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

/// Output channels of operand 1: rows when transB is set.
int gemm_channel_axis(const Operation& operation) { return operation.int_attribute("transB", 0) ? 0 : 1; }

// ------------------------------------------------------------------------------------------------ MatMul
Tensors matmul_forward(const ForwardContext& context, const Tensors& inputs) {
  const at::Tensor right = context.target && is_packed(context.operation)
                               ? unpack_columns(context.operation, *context.target, inputs[1])
                               : inputs[1];
  return {at::matmul(inputs[0], right)};
}

}  // namespace

bool is_packed(const Operation& operation) {
  const Variable* right = operation.input(1);
  return right && !right->is_parameter() && operation.string_attribute("input1_layout", "packed") == "packed" &&
         operation.string_attribute("quant_type", "F32") != "F32";
}

at::Tensor unpack_columns(const Operation& operation, const Target& target, const at::Tensor& packed) {
  const int bits = operation.string_attribute("quant_type", "S8") == "S8" ? 8 : 16;
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

void register_gemm_operators(Registry& registry) {
  OperatorDefinition gemm;
  gemm.name = "Gemm";
  gemm.inputs = {{.name = "A"}, {.name = "B"}, {.name = "C", .optional = true}};
  gemm.outputs = {{.name = "Y"}};
  gemm.attributes = {{.name = "alpha", .type = Type::Float, .fallback = 1.0f},
                     {.name = "beta", .type = Type::Float, .fallback = 1.0f},
                     {.name = "transA", .type = Type::Int, .fallback = int64_t{0}},
                     {.name = "transB", .type = Type::Int, .fallback = int64_t{0}},
                     {.name = "activation", .type = Type::String}};
  gemm.forward = gemm_forward;
  gemm.board = gemm_board;
  gemm.quantization = {
      .quantizable = true, .computing = true, .product = true, .bias = true, .weight_channel_axis = gemm_channel_axis};
  gemm.layout = LayoutRule::Restores;
  gemm.chip = {.registered = true,
               .int8 = true,
               .int16 = true,
               .fused_relu = true,
               .packing = WeightPacking::Linear,
               .note = "alpha = beta = 1, transA = 0, constant operand B"};
  registry.add(std::move(gemm));

  OperatorDefinition matmul;
  matmul.name = "MatMul";
  matmul.inputs = {{.name = "A"}, {.name = "B"}};
  matmul.outputs = {{.name = "Y"}};
  matmul.attributes = {{.name = "activation", .type = Type::String}, {.name = "input1_layout", .type = Type::String}};
  matmul.forward = matmul_forward;
  matmul.board = matmul_board;
  matmul.quantization = {.quantizable = true, .computing = true, .product = true};
  matmul.layout = LayoutRule::Restores;
  matmul.chip = {.registered = true,
                 .int8 = true,
                 .int16 = true,
                 .fused_relu = true,
                 .packing = WeightPacking::Matrix,
                 .note = "a computed operand B arrives packed in blocks of output columns"};
  registry.add(std::move(matmul));
}

}  // namespace espq
