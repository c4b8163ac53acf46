// GRU and LSTM of chip library 3.3.9. Gate sums are int16 codes of one grid (ChipFacts::gate_exponent).
#include "core/ops/recurrent.h"

#include <cmath>

#include "core/ops/arguments.h"
#include "core/ops/board/chip_math.h"
#include "core/support/error.h"

namespace espq {
namespace {

float sigmoid(float x) { return static_cast<float>(1.0 / (1.0 + std::exp(-x))); }
float hyperbolic_tangent(float x) { return 2 * sigmoid(2 * x) - 1; }

/// Activation values for the non-negative codes up to `limit`; codes beyond the end take the last entry.
class GateTable {
 public:
  GateTable(float (*function)(float), int exponent, float limit) {
    const float scale = chip::scale(exponent);
    const int last = static_cast<int>(limit / scale) + 1;
    for (int code = 0; code <= last; ++code) values_.push_back(function(static_cast<float>(code) * scale));
  }
  float magnitude(int code) const { return values_[std::min<size_t>(std::abs(code), values_.size() - 1)]; }

 private:
  std::vector<float> values_;
};

int16_t wrap(int64_t value) { return static_cast<int16_t>(value); }

/// What both cells share: integer operands and the products with them.
struct CellKernel {
  const Operation& operation;
  int64_t gates, directions;
  int gate_exponent, input_shift, hidden_shift;
  int vector_length;                                  ///< codes in one vector; 0 without vector unit
  chip::Rounder round_output, round_gate, round_sum;  ///< round_sum: wider than any sum, the caller wraps
  float inverse_output, inverse_cell;
  GateTable sigmoid_table, tangent_table;

  float sigmoid_of(int code) const {
    const float value = sigmoid_table.magnitude(code);
    return code < 0 ? 1 - value : value;
  }
  float tangent_of(int code) const { return code < 0 ? -tangent_table.magnitude(code) : tangent_table.magnitude(code); }

  /// One row of a matrix times a vector, brought to the gate grid: an integer shift where the vector unit takes the
  /// length, float32 elsewhere.
  int16_t product(const float* row, const float* vector, int64_t length, int shift) const {
    int64_t sum = 0;
    for (int64_t i = 0; i < length; ++i) sum += static_cast<int64_t>(row[i]) * static_cast<int64_t>(vector[i]);
    if (vector_length > 0 && length % vector_length == 0 && shift >= 0) {
      const int64_t shifted = chip::rounding_right_shift(sum, shift, round_gate.rounding, 64);
      return static_cast<int16_t>(std::clamp<int64_t>(shifted, -32768, 32767));
    }
    return static_cast<int16_t>(round_gate(static_cast<float>(sum) * chip::inverse_scale(shift)));
  }

  std::vector<int16_t> products(const at::Tensor& matrix, const float* vector, int shift) const {
    const int64_t rows = matrix.size(0), length = matrix.size(1);
    const float* data = matrix.const_data_ptr<float>();
    std::vector<int16_t> result(rows);
    for (int64_t i = 0; i < rows; ++i) result[i] = product(data + i * length, vector, length, shift);
    return result;
  }
};

struct CellState {
  std::vector<float> h, c;
};

/// Gate biases of one direction: first those of the operands, then those of the recurrence; empty without bias.
using Bias = std::vector<int16_t>;

void gru_step(const CellKernel& kernel, std::vector<int16_t> input, std::vector<int16_t> hidden, const Bias& bias,
              CellState& state) {
  const size_t size = state.h.size(), rows = input.size();
  for (size_t i = 0; i < rows && !bias.empty(); ++i) {
    input[i] = wrap(input[i] + bias[i]);
    hidden[i] = wrap(hidden[i] + bias[rows + i]);
  }
  for (size_t i = 0; i < size; ++i) {
    const float z = kernel.sigmoid_of(input[i] + hidden[i]);
    const float r = kernel.sigmoid_of(input[size + i] + hidden[size + i]);
    const float reset = r * static_cast<float>(hidden[2 * size + i]);
    const float sum = static_cast<float>(input[2 * size + i]) + reset;
    const float n = kernel.tangent_of(static_cast<int>(kernel.round_sum(sum)));
    const float fresh = (1 - z) * n * kernel.inverse_output;
    state.h[i] = kernel.round_output(fresh + z * state.h[i]);
  }
}

void lstm_step(const CellKernel& kernel, std::vector<int16_t> input, std::vector<int16_t> hidden, const Bias& bias,
               CellState& state) {
  const size_t size = state.h.size(), rows = input.size();
  for (size_t i = 0; i < rows; ++i) {
    const int64_t biases = bias.empty() ? 0 : int64_t{bias[i]} + bias[rows + i];
    input[i] = wrap(input[i] + hidden[i] + biases);
  }
  for (size_t i = 0; i < size; ++i) {
    const float in = kernel.sigmoid_of(input[i]), out = kernel.sigmoid_of(input[size + i]);
    const float forget = kernel.sigmoid_of(input[2 * size + i]), fresh = kernel.tangent_of(input[3 * size + i]);
    const float cell = forget * state.c[i] + in * fresh * kernel.inverse_cell;
    const int16_t code = wrap(static_cast<int64_t>(kernel.round_sum(cell)));
    state.c[i] = code;
    state.h[i] = kernel.round_output(out * kernel.tangent_of(code) * kernel.inverse_output);
  }
}

std::vector<float> initial_state(const Tensors& in, size_t slot, int64_t direction, int64_t size) {
  if (!has_input(in, slot)) return std::vector<float>(size, 0.0f);
  const at::Tensor flat = in[slot].to(at::kFloat).contiguous();
  const float* data = flat.const_data_ptr<float>() + direction * size;
  return {data, data + size};
}

Bias direction_bias(const Tensors& in, int64_t direction) {
  if (!has_input(in, 3)) return {};
  const at::Tensor row = in[3].select(0, direction).to(at::kShort).contiguous();
  const auto* data = row.const_data_ptr<int16_t>();
  return {data, data + row.numel()};
}

using StepFunction = void (*)(const CellKernel&, std::vector<int16_t>, std::vector<int16_t>, const Bias&, CellState&);

/// The second direction of a bidirectional cell runs backwards. Batch 1, so that both layouts are the same in memory.
Tensors run_cell(const CellKernel& kernel, StepFunction step, const Tensors& in) {
  const bool batch_first = kernel.operation.int_attribute("layout") != 0;
  const at::Tensor x = in[0].contiguous();
  user_check(x.size(batch_first ? 0 : 1) == 1, "operation '{}' ({}): the chip library computes batch 1 only",
             kernel.operation.name(), kernel.operation.type());
  const int64_t steps = x.size(batch_first ? 1 : 0), inputs = x.size(2), size = in[2].size(2);
  at::Tensor y = at::empty({steps, kernel.directions, size}), h = at::empty({kernel.directions, size});
  at::Tensor c = at::empty({kernel.directions, size});
  for (int64_t direction = 0; direction < kernel.directions; ++direction) {
    const at::Tensor weights = in[1].select(0, direction).contiguous(),
                     recurrence = in[2].select(0, direction).contiguous();
    const Bias bias = direction_bias(in, direction);
    CellState state{initial_state(in, 5, direction, size), initial_state(in, 6, direction, size)};
    for (int64_t i = 0; i < steps; ++i) {
      const int64_t t = direction == 1 ? steps - 1 - i : i;
      const float* input = x.const_data_ptr<float>() + t * inputs;
      step(kernel, kernel.products(weights, input, kernel.input_shift),
           kernel.products(recurrence, state.h.data(), kernel.hidden_shift), bias, state);
      std::copy(state.h.begin(), state.h.end(), y.data_ptr<float>() + (t * kernel.directions + direction) * size);
    }
    std::copy(state.h.begin(), state.h.end(), h.data_ptr<float>() + direction * size);
    std::copy(state.c.begin(), state.c.end(), c.data_ptr<float>() + direction * size);
  }
  const Shape last = batch_first ? Shape{1, kernel.directions, size} : Shape{kernel.directions, 1, size};
  const Shape all = batch_first ? Shape{1, steps, kernel.directions, size} : Shape{steps, kernel.directions, 1, size};
  return {y.reshape(all), h.reshape(last), c.reshape(last)};
}

BoardKernel cell_board(const BoardContext& context, int64_t gates, StepFunction step) {
  const Operation& operation = context.operation;
  if (!context.inputs[0].quantized()) return board_on_values(context);
  const std::string& direction = operation.string_attribute("direction");
  user_check(direction != "reverse", "operation '{}' ({}): the chip library has no direction 'reverse'",
             operation.name(), operation.type());
  const auto output_exponent = [&](size_t slot) -> std::optional<int> {
    if (slot >= context.outputs.size() || !context.outputs[slot].quantized()) return std::nullopt;
    return context.outputs[slot].exponent();
  };
  constexpr int kDefaultGateExponent = -8;  // of files that name none
  const int gate_exponent = operation.chip().gate_exponent.value_or(kDefaultGateExponent);
  const std::optional<int> y = output_exponent(0), h = output_exponent(1);
  user_check(y || h, "operation '{}' ({}): its outputs have no exponent", operation.name(), operation.type());
  const int e_y = y ? *y : *h, e_h = h ? *h : *y, e_c = output_exponent(2).value_or(gate_exponent);
  const int bits = context.inputs[0].bits;
  const Rounding rounding = context.target.rounding;
  auto kernel = std::make_shared<CellKernel>(
      CellKernel{operation, gates, recurrent_directions(operation), gate_exponent,
                 gate_exponent - (context.inputs[0].exponent() + context.inputs[1].exponent()),
                 gate_exponent - (e_h + context.inputs[2].exponent()), context.target.block(bits),
                 chip::Rounder(rounding, bits), chip::Rounder(rounding, 16), chip::Rounder(rounding, -1e5f, 1e5f),
                 chip::inverse_scale(e_y), chip::inverse_scale(e_c), GateTable(sigmoid, gate_exponent, 6.3f),
                 GateTable(hyperbolic_tangent, gate_exponent, 3.5f)});
  return [kernel, step](const Tensors& in) { return run_cell(*kernel, step, in); };
}

}  // namespace

BoardKernel gru_board(const BoardContext& context) {
  user_check(!context.inputs[0].quantized() || context.operation.int_attribute("linear_before_reset") != 0,
             "operation '{}' (GRU): the chip library needs linear_before_reset = 1", context.operation.name());
  return cell_board(context, 3, gru_step);
}

BoardKernel lstm_board(const BoardContext& context) {
  user_check(!context.inputs[0].quantized() || context.operation.int_attribute("input_forget") == 0,
             "operation '{}' (LSTM): the chip library needs input_forget = 0", context.operation.name());
  return cell_board(context, 4, lstm_step);
}

}  // namespace espq
