#include <ATen/Parallel.h>

#include <array>
#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/quant/fake_quantize.h"

namespace espq {
namespace {

int64_t softmax_axis(const Operation& operation, const at::Tensor& x) {
  return x.dim() == 0 ? 0 : wrap_axis(operation, operation.int_attribute("axis"), x.dim());
}

Tensors softmax(const ForwardContext& context, const Tensors& inputs) {
  return one(at::softmax(inputs[0], softmax_axis(context.operation, inputs[0])));
}

Tensors log_softmax(const ForwardContext& context, const Tensors& inputs) {
  return one(at::log_softmax(inputs[0], softmax_axis(context.operation, inputs[0])));
}

/// One vector along the axis: `length` elements `stride` apart.
struct Line {
  const float* from;
  float* to;
  int64_t length, stride;
};

/// Chip library 3.3.9, int8: exponentials from a 256-entry table without subtracting the maximum (so large logits give
/// inf and NaN), float32 sum in axis order.
void softmax_table(const Line& line, const std::array<float, 256>& exponential, float scale, bool logarithm) {
  float sum = 0;
  for (int64_t i = 0; i < line.length; ++i) {
    sum += exponential[static_cast<size_t>(line.from[i * line.stride] + 128)];
  }
  const float log_sum = logarithm ? std::log(sum) : 0;
  for (int64_t i = 0; i < line.length; ++i) {
    const float code = line.from[i * line.stride];
    line.to[i * line.stride] = logarithm ? scale * code - log_sum : exponential[static_cast<size_t>(code + 128)] / sum;
  }
}

/// Chip library 3.3.9, int16 and float: the maximum is subtracted.
void softmax_direct(const Line& line, float scale, bool logarithm) {
  float maximum = scale * line.from[0];
  for (int64_t i = 1; i < line.length; ++i) maximum = std::max(maximum, scale * line.from[i * line.stride]);
  float sum = 0;
  for (int64_t i = 0; i < line.length; ++i) {
    const float exponential = std::exp(scale * line.from[i * line.stride] - maximum);
    sum += exponential;
    if (!logarithm) line.to[i * line.stride] = exponential;
  }
  const float log_sum = logarithm ? std::log(sum) : 0;
  for (int64_t i = 0; i < line.length; ++i) {
    float& out = line.to[i * line.stride];
    out = logarithm ? scale * line.from[i * line.stride] - maximum - log_sum : out / sum;
  }
}

BoardKernel softmax_board(const BoardContext& context) {
  const Grid& grid = context.inputs[0];
  const float scale = grid.quantized() ? chip::scale(grid.exponent()) : 1.0f;
  std::array<float, 256> exponential;
  for (int i = 0; i < 256; ++i) exponential[i] = std::exp(scale * static_cast<float>(i - 128));
  const Grid& output = context.outputs[0];
  const bool logarithm = context.operation.type() == "LogSoftmax", table = grid.bits == 8;
  return [=, &operation = context.operation, rounding = context.target.rounding](const Tensors& inputs) -> Tensors {
    const at::Tensor x = inputs[0].contiguous();
    at::Tensor result = at::empty_like(x);
    const int64_t axis = softmax_axis(operation, x);
    const int64_t length = x.dim() ? x.size(axis) : 1, stride = x.dim() ? x.stride(axis) : 1;
    const float* from = x.const_data_ptr<float>();
    float* to = result.data_ptr<float>();
    const int64_t lines = length ? x.numel() / length : 0;
    at::parallel_for(
        0, lines, std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(length, 1)), [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i) {
            const int64_t start = i / stride * stride * length + i % stride;
            const Line line{from + start, to + start, length, stride};
            table ? softmax_table(line, exponential, scale, logarithm) : softmax_direct(line, scale, logarithm);
          }
        });
    if (output.quantized()) {  // not in the chip library, which asserts a float output; the grid of a later quantizer
      result = quantize_to_codes(result, output.exponents, -1, output.bits, rounding);
    }
    return {result};
  };
}

/// exp(x) overflows float32 above 88.7, which the largest code exceeds from exponent 0 on.
const Limit kLargeLogits{.what = "8-bit logits above 88, whose maximum its table does not subtract",
                         .remedy = "scale the logits down, or give the operation 16 bits",
                         .asked = [](const Operation& operation, const Deployment&, Width width) {
                           const auto exponent = stored_exponent(operation.input(0));
                           return width == Width::Int8 && exponent && *exponent >= 0;
                         }};

OperatorDefinition normalized_exponential(std::string_view name, ForwardFunction forward) {
  return {
      .name = name,
      .inputs = {{"input"}},
      .outputs = {{"output"}},
      .attributes = {integer("axis", -1)},
      .forward = forward,
      .quantization = {.quantizable = true, .float_output = true},
      .ignores_shift = true,
      .layout = LayoutRule::Axis,
      .chip = {
          .board = softmax_board, .kernels = kAllWidths, .limits = {kLargeLogits}, .note = "the output is float32"}};
}

}  // namespace

Operators softmax_operators() {
  return {normalized_exponential("Softmax", softmax), normalized_exponential("LogSoftmax", log_softmax)};
}

}  // namespace espq
