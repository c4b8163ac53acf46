#include "core/ops/conv.h"

#include <ATen/ATen.h>

#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/ops/training/conv_gradient.h"
#include "core/ops/training/training.h"
#include "core/ops/window.h"
#include "core/ops/window_limits.h"
#include "core/support/error.h"

namespace espq {
namespace {

std::vector<int64_t> tail(at::IntArrayRef shape, size_t skip) { return shape.slice(skip).vec(); }

at::Tensor operand(const Tensors& inputs, size_t slot) { return slot < inputs.size() ? inputs[slot] : at::Tensor(); }

// ------------------------------------------------------------------------------------------------ Conv
void check_channels(const Operation& operation, const at::Tensor& input, const at::Tensor& filters, int64_t groups) {
  user_check(filters.dim() >= 3 && filters.dim() == input.dim(),
             "operation '{}' ({}): filters of {} dimensions do not fit an input of {}", operation.name(),
             operation.type(), filters.dim(), input.dim());
  user_check(groups > 0 && filters.size(0) % groups == 0 && filters.size(1) * groups == input.size(1),
             "operation '{}' ({}): {} input channels, filters [{}, {}, ...] and {} groups do not fit", operation.name(),
             operation.type(), input.size(1), filters.size(0), filters.size(1), groups);
}

Tensors conv_forward(const ForwardContext& context, const Tensors& inputs) {
  return {convolve(context.operation, inputs[0], inputs[1], operand(inputs, 2))};
}

TrainingNode conv_training(const TrainingContext& context) {
  TrainingContext rest = context;  // what the kernel does not do in its own passes
  ConvGradientOptions options{
      .round_filters = take_fixed(rest.operands[1]),
      .round_bias = rest.operands.size() > 2 ? take_fixed(rest.operands[2]) : GridRounding(),
      .input = context.grids[0],
      .filters = context.grids[1],
  };
  if (context.fixed_result()) {
    options.output = take_fixed(rest.result);
    options.relu = context.relu;
  }
  return [rest, options](const Tensors& in) {
    return rest.finished(convolve_with_gradient(rest.forward.operation, rest.operand(in, 0), rest.operand(in, 1),
                                                rest.operand(in, 2), options));
  };
}

// ------------------------------------------------------------------------------------------------ ConvTranspose
/// Padding of ConvTranspose: given, or chosen so that the output gets the wanted (or the SAME) size.
void resolve_transpose_padding(const Operation& operation, at::IntArrayRef input, Window& window,
                               std::vector<int64_t>& output_padding) {
  const size_t rank = window.rank();
  const std::string mode = operation.string_attribute("auto_pad", "NOTSET");
  std::vector<int64_t> wanted = operation.ints_attribute("output_shape", {});
  if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  const bool same = mode == "SAME_UPPER" || mode == "SAME_LOWER";
  if (wanted.empty() && !same) return;
  if (wanted.empty())
    for (size_t axis = 0; axis < rank; ++axis) wanted.push_back(input[axis + 2] * window.strides[axis]);
  user_check(wanted.size() == rank, "operation '{}' (ConvTranspose): attribute 'output_shape' does not fit the input",
             operation.name());
  for (size_t axis = 0; axis < rank; ++axis) {
    const int64_t total =
        window.strides[axis] * (input[axis + 2] - 1) + output_padding[axis] + window.reach(axis) - wanted[axis];
    const int64_t half = total >= 0 ? total / 2 : -((-total) / 2);
    window.begin[axis] = mode == "SAME_UPPER" ? half : total - half;
    window.end[axis] = total - window.begin[axis];
  }
}

Tensors conv_transpose_forward(const ForwardContext& context, const Tensors& inputs) {
  const Operation& operation = context.operation;
  const at::Tensor& filters = inputs[1];
  const int64_t groups = operation.int_attribute("group", 1);
  user_check(filters.dim() == inputs[0].dim() && filters.size(0) == inputs[0].size(1),
             "operation '{}' (ConvTranspose): {} input channels do not fit filters with {}", operation.name(),
             inputs[0].size(1), filters.size(0));
  Window window = read_window(operation, inputs[0].sizes(), tail(filters.sizes(), 2));
  const size_t rank = window.rank();
  std::vector<int64_t> output_padding = operation.ints_attribute("output_padding", std::vector<int64_t>(rank, 0));
  user_check(output_padding.size() == rank, "operation '{}' (ConvTranspose): attribute 'output_padding' has {} entries",
             operation.name(), output_padding.size());
  if (operation.string_attribute("auto_pad", "NOTSET") != "NOTSET") {
    window.begin.assign(rank, 0);
    window.end.assign(rank, 0);
  }
  resolve_transpose_padding(operation, inputs[0].sizes(), window, output_padding);
  // The full result is cropped by `begin` and `end`; output_padding adds elements behind (bias only where nothing
  // lands).
  const at::Tensor full = at::convolution(inputs[0], filters, {}, window.strides, std::vector<int64_t>(rank, 0),
                                          window.dilations, true, std::vector<int64_t>(rank, 0), groups);
  std::vector<int64_t> begin(rank), end(rank);
  for (size_t axis = 0; axis < rank; ++axis) {
    begin[axis] = -window.begin[axis];
    end[axis] = output_padding[axis] - window.end[axis];
  }
  at::Tensor result = pad_spatial(full, begin, end, 0);
  if (const at::Tensor bias = operand(inputs, 2); bias.defined()) {
    std::vector<int64_t> shape(rank + 2, 1);
    shape[1] = bias.numel();
    result = result + bias.reshape(shape);
  }
  return {result};
}

// ------------------------------------------------------------------------------------------------ InsertZeros
/// Sample i of each spatial dimension moves to position i * stride; output_padding zeros follow the last one.
Tensors insert_zeros_forward(const ForwardContext& context, const Tensors& inputs) {
  const at::Tensor& input = inputs[0];
  const size_t rank = static_cast<size_t>(input.dim()) - 2;
  const auto strides = context.operation.ints_attribute("stride", std::vector<int64_t>(rank, 1));
  const auto extra = context.operation.ints_attribute("output_padding", std::vector<int64_t>(rank, 0));
  user_check(input.dim() >= 3 && strides.size() == rank && extra.size() == rank,
             "operation '{}' (InsertZeros): 'stride' and 'output_padding' do not fit an input of {} dimensions",
             context.operation.name(), input.dim());
  std::vector<int64_t> shape = input.sizes().vec();
  for (size_t axis = 0; axis < rank; ++axis) shape[axis + 2] = (shape[axis + 2] - 1) * strides[axis] + 1 + extra[axis];
  at::Tensor result = at::empty(shape, input.options(), input.suggest_memory_format()).zero_();
  at::Tensor places = result;
  for (size_t axis = 0; axis < rank; ++axis)
    places = places.slice(static_cast<int64_t>(axis) + 2, 0, shape[axis + 2] - extra[axis], strides[axis]);
  places.copy_(input);
  return {result};
}

// ------------------------------------------------------------------------------------------------ definitions
const Limit kGroups{.what = "other groups than one, or one per channel with as many results",
                    .remedy = "split the convolution, or widen it to one group",
                    .asked = [](const Operation& operation, const Deployment&, Width) {
                      const Variable* weight = operation.input(1);
                      const int64_t groups = operation.int_attribute("group", 1);
                      return groups > 1 && weight && weight->shape() &&
                             (weight->shape()->at(0) != groups || weight->shape()->at(1) != 1);
                    }};

/// Filters and biases lie in the file as its kernels read them: packed, or in lanes of the accumulator's width.
const Limit kComputedFilter = needs_constants<1, 2>("a filter or a bias that the network computes");

std::vector<Limit> conv_limits() {
  std::vector<Limit> limits = convolution_limits();
  limits.insert(limits.end(), {kGroups, kComputedFilter});
  return limits;
}

int first_axis(const Operation&) { return 0; }
int second_axis(const Operation&) { return 1; }

std::vector<AttributeSpec> window_attributes(std::vector<AttributeSpec> more = {}) {
  std::vector<AttributeSpec> result{text("auto_pad", "NOTSET"), stated(integers("dilations")),
                                    integer("group", 1),        integers("kernel_shape"),
                                    integers("pads"),           stated(integers("strides"))};
  result.insert(result.end(), more.begin(), more.end());
  return result;
}

}  // namespace

at::Tensor convolve(const Window& window, int64_t groups, const at::Tensor& input, const at::Tensor& filters,
                    const at::Tensor& bias) {
  const std::vector<int64_t> none(window.rank(), 0);
  const bool direct = window.symmetric();
  const at::Tensor padded = direct ? input : pad_spatial(input, window.begin, window.end, 0);
  return at::convolution(padded, filters, bias, window.strides, direct ? window.begin : none, window.dilations, false,
                         none, groups);
}

at::Tensor convolve(const Operation& operation, const at::Tensor& input, const at::Tensor& filters,
                    const at::Tensor& bias) {
  const int64_t groups = operation.int_attribute("group", 1);
  check_channels(operation, input, filters, groups);
  return convolve(read_window(operation, input.sizes(), tail(filters.sizes(), 2)), groups, input, filters, bias);
}

Operators conv_operators() {
  return {
      {.name = "Conv",
       .inputs = {{"X"}, operand("W", OperandRole::Weight), optional(operand("B", OperandRole::Bias))},
       .outputs = {{"Y"}},
       .attributes = window_attributes(),
       .forward = conv_forward,
       .quantization = {.quantizable = true},
       .linear = LinearRule{.row_axis = first_axis, .packing = WeightPacking::Filter},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = conv_board,
                .kernels = kIntegerWidths,
                .fused_relu = true,
                .limits = conv_limits(),
                .note = "auto_pad is never read; every group other than 1 means one filter per channel"},
       .training = {.node = conv_training}},
      {.name = "ConvTranspose",
       .inputs = {{"X"}, operand("W", OperandRole::Weight), optional(operand("B", OperandRole::Bias))},
       .outputs = {{"Y"}},
       .attributes = window_attributes({integers("output_padding"), integers("output_shape")}),
       .forward = conv_transpose_forward,
       .quantization = {.quantizable = true},
       .linear = LinearRule{.row_axis = second_axis},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.note = "becomes InsertZeros + Conv"}},
      {.name = "InsertZeros",
       .inputs = {{"X"}},
       .outputs = {{"Y"}},
       .attributes = {required(integers("stride")), stated(integers("output_padding"))},
       .forward = insert_zeros_forward,
       .quantization = {.quantizable = true, .passes_codes = [](const Target&, int) { return true; }},
       .layout = LayoutRule::ChannelsLast,
       .chip = {.board = board_on_codes, .kernels = kAllWidths}},
  };
}

}  // namespace espq
