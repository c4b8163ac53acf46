#include <ATen/Parallel.h>

#include <array>
#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/chip_math.h"
#include "core/ops/families.h"
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

OperatorDefinition definition(std::string_view name, ForwardFunction forward) {
  OperatorDefinition result;
  result.name = name;
  result.inputs = {{"input"}};
  result.outputs = {{"output"}};
  result.attributes = {{.name = "axis", .type = AttributeSpec::Type::Int, .fallback = Attribute(int64_t{-1})}};
  result.forward = forward;
  result.board = softmax_board;
  result.quantization.quantizable = true;
  result.quantization.float_output = true;
  result.layout = LayoutRule::Axis;
  result.chip = {.registered = true,
                 .int8 = true,
                 .int16 = true,
                 .float32 = true,
                 .note = "the output is float32; int8 does not subtract the maximum (logits above 88 overflow)"};
  return result;
}

}  // namespace

void register_softmax_operators(Registry& registry) {
  registry.add(definition("Softmax", softmax));
  registry.add(definition("LogSoftmax", log_softmax));
}

}  // namespace espq
