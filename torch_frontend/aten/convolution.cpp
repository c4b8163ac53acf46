#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

struct Window {
  Integers stride, padding, dilation;
};

AttributeMap attributes(const Shape& kernel, const Window& window, const Integers& pads, int64_t groups) {
  return {{"kernel_shape", Integers(kernel.begin() + 2, kernel.end())},
          {"strides", window.stride},
          {"pads", pads},
          {"dilations", window.dilation},
          {"group", groups}};
}

Call::Variables operands(const Call& call, Variable* input) {
  Call::Variables result{input, call.tensor("weight")};
  if (Variable* bias = call.tensor("bias")) result.push_back(bias);
  return result;
}

void forward(Call& call, std::string_view input, const Window& window, const Integers& pads) {
  const Shape kernel = call.shape("weight");
  const Batched batched(call, input, kernel.size() - 2);
  call.result(batched.finish(
      call.emit("Conv", operands(call, batched.input), attributes(kernel, window, pads, call.integer("groups")))));
}

void transposed(Call& call, std::string_view input, const Window& window, const Integers& output_padding) {
  const Shape kernel = call.shape("weight");
  AttributeMap values = attributes(kernel, window, both_ends(window.padding), call.integer("groups"));
  if (std::any_of(output_padding.begin(), output_padding.end(), [](int64_t value) { return value != 0; }))
    values["output_padding"] = output_padding;
  const Batched batched(call, input, kernel.size() - 2);
  call.result(batched.finish(call.emit("ConvTranspose", operands(call, batched.input), std::move(values))));
}

/// Padding by name: "valid" is none, "same" keeps the size (the odd element goes to the end).
Integers named_pads(const Call& call, const Window& window, size_t axes) {
  Integers pads(2 * axes, 0);
  const std::string name = call.text("padding");
  if (name == "valid") return pads;
  call.check(name == "same", "padding '{}' is unknown", name);
  const Shape kernel = call.shape("weight");
  for (size_t axis = 0; axis < axes; ++axis) {
    const int64_t total = window.dilation[axis] * (kernel[axis + 2] - 1);
    pads[axis] = total / 2;
    pads[axes + axis] = total - total / 2;
  }
  return pads;
}

/// conv1d, conv2d, conv3d, _convolution_mode
void conv(Call& call) {
  const size_t axes = static_cast<size_t>(call.rank("weight")) - 2;
  Window window{call.integers("stride", axes), {}, call.integers("dilation", axes)};
  const Integers pads =
      call.is_text("padding") ? named_pads(call, window, axes) : both_ends(call.integers("padding", axes));
  forward(call, "input", window, pads);
}

/// conv_transpose1d, 2d, 3d
void conv_transpose(Call& call) {
  const size_t axes = static_cast<size_t>(call.rank("weight")) - 2;
  const Window window{call.integers("stride", axes), call.integers("padding", axes), call.integers("dilation", axes)};
  transposed(call, "input", window, call.integers("output_padding", axes));
}

/// The spelling of traces: one operator for all.
void convolution(Call& call) {
  const size_t axes = static_cast<size_t>(call.rank("weight")) - 2;
  const Window window{call.integers("stride", axes), call.integers("padding", axes), call.integers("dilation", axes)};
  if (call.flag("transposed"))
    transposed(call, "input", window, call.integers("output_padding", axes));
  else
    forward(call, "input", window, both_ends(window.padding));
}

}  // namespace

void add_convolutions(Table& table) {
  for (const char* name : {"conv1d", "conv2d", "conv3d", "_convolution_mode"}) table[name] = {conv, Family::Product};
  for (const char* name : {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
    table[name] = {conv_transpose, Family::Product};
  for (const char* name : {"convolution", "_convolution"}) table[name] = {convolution, Family::Product};
}

}  // namespace espq::torch_frontend
