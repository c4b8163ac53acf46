#include "core/exec/float_layout.h"

#include <ATen/ATen.h>

#include "core/exec/chip_grid.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"

namespace espq {
namespace {

std::vector<int64_t> order_of(const Variable& variable, const at::Tensor& tensor) {
  user_check(tensor.dim() == static_cast<int64_t>(variable.permutation().size()),
             "'{}': a tensor of {} dimensions was given, {} are expected", variable.name(), tensor.dim(),
             variable.permutation().size());
  return {variable.permutation().begin(), variable.permutation().end()};
}

/// Rows that the chip graph takes at a time.
int64_t rows_per_run(const Graph& chip) {
  user_check(!chip.inputs().empty(), "the graph has no input");
  const Variable& input = *chip.inputs()[0];
  user_check(input.shape() && !input.shape()->empty(), "input '{}' has no batch dimension", input.name());
  // The batch is the float network's first dimension, wherever the chip keeps it.
  const std::vector<int>& order = input.permutation();
  const auto axis = std::find(order.begin(), order.end(), 0) - order.begin();
  return (*input.shape())[order.empty() ? 0 : static_cast<size_t>(axis)];
}

at::Tensor real_values(const Variable& output, const at::Tensor& value) {
  const Grid grid = variable_grid(&output);
  if (!grid.quantized() || value.is_floating_point()) return value;
  return dequantize(value.to(at::kFloat), grid.exponents, -1);
}

}  // namespace

at::Tensor to_chip_layout(const Variable& variable, const at::Tensor& tensor) {
  return variable.permutation().empty() ? tensor : tensor.permute(order_of(variable, tensor)).contiguous();
}

at::Tensor from_chip_layout(const Variable& variable, const at::Tensor& tensor) {
  if (variable.permutation().empty()) return tensor;
  const std::vector<int64_t> order = order_of(variable, tensor);
  std::vector<int64_t> back(order.size());
  for (size_t axis = 0; axis < order.size(); ++axis) {
    back[static_cast<size_t>(order[axis])] = static_cast<int64_t>(axis);
  }
  return tensor.permute(back).contiguous();
}

Tensors run_in_float_layout(Executor& executor, const Graph& chip, const Tensors& inputs) {
  user_check(chip.is_chip(), "'{}' is no chip graph: lower() it first", chip.name);
  user_check(inputs.size() == chip.inputs().size() && !inputs.empty(), "the graph has {} inputs, {} were given",
             chip.inputs().size(), inputs.size());
  const int64_t rows = inputs[0].dim() > 0 ? inputs[0].size(0) : 0, step = rows_per_run(chip);
  for (const at::Tensor& input : inputs) {
    user_check(input.dim() > 0 && input.size(0) == rows && rows > 0 && rows % step == 0,
               "the chip graph takes {} rows at a time; inputs of {} and {} rows cannot be cut into such pieces", step,
               rows, input.dim() > 0 ? input.size(0) : 0);
  }
  std::vector<Tensors> pieces(chip.outputs().size());
  for (int64_t row = 0; row < rows; row += step) {
    Tensors piece;
    for (size_t i = 0; i < inputs.size(); ++i) {
      piece.push_back(to_chip_layout(*chip.inputs()[i], inputs[i].narrow(0, row, step)));
    }
    const Tensors results = executor.run(piece);
    for (size_t i = 0; i < results.size(); ++i) {
      const Variable& output = *chip.outputs()[i];
      pieces[i].push_back(from_chip_layout(output, real_values(output, results[i])));
    }
  }
  Tensors outputs;
  for (const Tensors& parts : pieces) outputs.push_back(parts.size() == 1 ? parts[0] : at::cat(parts));
  return outputs;
}

}  // namespace espq
