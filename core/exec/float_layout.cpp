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

/// How many runs `inputs` make: each takes as many rows of every input as the chip graph has.
int64_t count_runs(const Graph& chip, const Tensors& inputs) {
  std::optional<int64_t> runs;
  bool whole = true;  // as exported: inputs without a batch may have any shapes
  for (size_t i = 0; i < inputs.size(); ++i)
    whole &= inputs[i].sizes() == at::IntArrayRef(float_shape(*chip.inputs()[i]));
  if (whole) return 1;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Shape shape = float_shape(*chip.inputs()[i]);
    user_check(!shape.empty() && shape[0] > 0, "input '{}' has no batch dimension", chip.inputs()[i]->name());
    const int64_t rows = inputs[i].dim() > 0 ? inputs[i].size(0) : 0;
    user_check(rows > 0 && rows % shape[0] == 0 && runs.value_or(rows / shape[0]) == rows / shape[0],
               "the chip graph takes {} rows at a time; inputs of {} and {} rows cannot be cut into such pieces",
               shape[0], inputs[0].dim() > 0 ? inputs[0].size(0) : 0, rows);
    runs = rows / shape[0];
  }
  return *runs;
}

}  // namespace

Shape float_shape(const Variable& variable) {
  user_check(variable.shape().has_value(), "'{}': its shape is not known", variable.name());
  Shape shape = *variable.shape();
  for (size_t i = 0; i < variable.permutation().size(); ++i)
    shape.at(static_cast<size_t>(variable.permutation()[i])) = variable.shape()->at(i);
  return shape;
}

at::Tensor real_values(const Variable& output, const at::Tensor& value) {
  const Grid grid = variable_grid(&output);
  if (!grid.quantized() || value.is_floating_point()) return value;
  return dequantize(value.to(at::kFloat), grid.exponents, -1);
}

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

Tensors run_in_float_layout(Executor& executor, const Graph& chip, const Tensors& inputs, bool codes) {
  user_check(chip.is_chip(), "'{}' is no chip graph: lower() it first", chip.name);
  user_check(inputs.size() == chip.inputs().size() && !inputs.empty(), "the graph has {} inputs, {} were given",
             chip.inputs().size(), inputs.size());
  const int64_t runs = count_runs(chip, inputs);
  std::vector<Tensors> pieces(chip.outputs().size());
  for (int64_t run = 0; run < runs; ++run) {
    Tensors piece;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const int64_t rows = inputs[i].dim() > 0 ? inputs[i].size(0) / runs : 0;
      piece.push_back(to_chip_layout(*chip.inputs()[i], runs == 1 ? inputs[i] : inputs[i].narrow(0, run * rows, rows)));
    }
    const Tensors results = executor.run(piece);
    for (size_t i = 0; i < results.size(); ++i) {
      const Variable& output = *chip.outputs()[i];
      pieces[i].push_back(from_chip_layout(output, codes ? results[i] : real_values(output, results[i])));
    }
  }
  Tensors outputs;
  for (const Tensors& parts : pieces) outputs.push_back(parts.size() == 1 ? parts[0] : at::cat(parts));
  return outputs;
}

}  // namespace espq
