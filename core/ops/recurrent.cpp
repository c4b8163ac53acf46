// GRU and LSTM in float. Their arithmetic on the chip is in recurrent_board.cpp.
#include "core/ops/recurrent.h"

#include "core/ops/arguments.h"
#include "core/ops/entry.h"
#include "core/ops/families.h"
#include "core/support/error.h"

namespace espq {
namespace {

using Type = AttributeSpec::Type;

/// Attributes and operands of one node, tensors in layout 0.
struct Cell {
  const Operation& operation;
  int64_t gates, hidden;
  at::Tensor x;                          ///< [steps, batch, inputs]
  at::Tensor weights, recurrence, bias;  ///< [directions, ...]; bias may be undefined
  at::Tensor initial_h, initial_c;       ///< [directions, batch, hidden]
  at::Tensor peepholes;                  ///< [directions, 3 * hidden]; may be undefined
};

void check_activations(const Operation& operation, std::vector<std::string> cycle) {
  const auto found = operation.attributes().find("activations");
  if (found == operation.attributes().end()) return;
  const auto& names = std::get<std::vector<std::string>>(found->second);
  for (size_t i = 0; i < names.size(); ++i) {
    std::string name = names[i];
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    user_check(name == cycle[i % cycle.size()],
               "operation '{}' ({}): activation '{}' is not supported; only the default ones are", operation.name(),
               operation.type(), names[i]);
  }
}

/// Ragged batches would need a mask for every step; no chip network has them.
void check_lengths(const Operation& operation, const Tensors& in, int64_t steps) {
  if (!has_input(in, 4)) return;
  for (const int64_t length : to_integers(in[4])) {
    user_check(length == steps, "operation '{}' ({}): sequence_lens other than the full length {} are not supported",
               operation.name(), operation.type(), steps);
  }
}

Cell make_cell(const Operation& operation, const Tensors& in, int64_t gates) {
  const int64_t directions = recurrent_directions(operation), hidden = in[2].size(2);
  const bool batch_first = operation.int_attribute("layout") != 0;
  Cell cell{operation, gates, hidden, batch_first ? in[0].transpose(0, 1) : in[0], in[1], in[2], {}, {}, {}, {}};
  user_check(in[1].dim() == 3 && in[1].size(0) == directions && in[1].size(1) == gates * hidden,
             "operation '{}' ({}): W must have the shape [{}, {}, inputs]", operation.name(), operation.type(),
             directions, gates * hidden);
  check_lengths(operation, in, cell.x.size(0));
  if (has_input(in, 3)) cell.bias = in[3];
  const auto state = [&](size_t slot) {
    if (!has_input(in, slot)) return at::zeros({directions, cell.x.size(1), hidden}, cell.x.options());
    return batch_first ? in[slot].transpose(0, 1) : in[slot];
  };
  cell.initial_h = state(5);
  if (gates == 4) {
    cell.initial_c = state(6);
    if (has_input(in, 7)) cell.peepholes = in[7];
  }
  return cell;
}

at::Tensor clipped(const Cell& cell, const at::Tensor& x) {
  const float limit = cell.operation.float_attribute("clip", 0.0f);
  return limit > 0 ? at::clamp(x, -limit, limit) : x;
}

/// Bias of the operands (half 0) or of the recurrence (half 1) of one direction.
at::Tensor half_bias(const Cell& cell, int64_t direction, int64_t half) {
  if (!cell.bias.defined()) return {};
  const int64_t size = cell.gates * cell.hidden;
  return cell.bias[direction].narrow(0, half * size, size);
}

/// Hidden states of all steps in the order of time, and the last hidden and cell state.
struct Direction {
  at::Tensor y, h, c;
};

Direction run_gru(const Cell& cell, int64_t direction, bool backwards) {
  const at::Tensor recurrence_bias = half_bias(cell, direction, 1);
  const at::Tensor inputs = at::linear(cell.x, cell.weights[direction], half_bias(cell, direction, 0));
  const bool linear_before_reset = cell.operation.int_attribute("linear_before_reset") != 0;
  at::Tensor h = cell.initial_h[direction];
  const auto recurrence = cell.recurrence[direction].chunk(3, 0);
  const Tensors bias = recurrence_bias.defined() ? recurrence_bias.chunk(3, 0) : Tensors(3);
  Tensors steps(cell.x.size(0));
  for (size_t i = 0; i < steps.size(); ++i) {
    const size_t t = backwards ? steps.size() - 1 - i : i;
    const auto gate = inputs[static_cast<int64_t>(t)].chunk(3, -1);
    const at::Tensor z = at::sigmoid(clipped(cell, gate[0] + at::linear(h, recurrence[0], bias[0])));
    const at::Tensor r = at::sigmoid(clipped(cell, gate[1] + at::linear(h, recurrence[1], bias[1])));
    const at::Tensor reset =
        linear_before_reset ? r * at::linear(h, recurrence[2], bias[2]) : at::linear(r * h, recurrence[2], bias[2]);
    const at::Tensor n = at::tanh(clipped(cell, gate[2] + reset));
    steps[t] = h = (1 - z) * n + z * h;
  }
  return {at::stack(steps), h, {}};
}

Direction run_lstm(const Cell& cell, int64_t direction, bool backwards) {
  const at::Tensor inputs = at::linear(cell.x, cell.weights[direction], half_bias(cell, direction, 0));
  const at::Tensor recurrence_bias = half_bias(cell, direction, 1);
  const Tensors peephole = cell.peepholes.defined() ? cell.peepholes[direction].chunk(3, 0) : Tensors(3);
  const auto peek = [](const at::Tensor& gate, const at::Tensor& c, const at::Tensor& weight) {
    return weight.defined() ? gate + weight * c : gate;
  };
  at::Tensor h = cell.initial_h[direction], c = cell.initial_c[direction];
  const bool input_forget = cell.operation.int_attribute("input_forget") != 0;
  Tensors steps(cell.x.size(0));
  for (size_t step = 0; step < steps.size(); ++step) {
    const size_t t = backwards ? steps.size() - 1 - step : step;
    const at::Tensor sum = inputs[static_cast<int64_t>(t)] + at::linear(h, cell.recurrence[direction], recurrence_bias);
    const auto gate = sum.chunk(4, -1);  // input, output, forget, cell
    const at::Tensor i = at::sigmoid(clipped(cell, peek(gate[0], c, peephole[0])));
    const at::Tensor f = input_forget ? 1 - i : at::sigmoid(clipped(cell, peek(gate[2], c, peephole[2])));
    c = f * c + i * at::tanh(clipped(cell, gate[3]));
    const at::Tensor o = at::sigmoid(clipped(cell, peek(gate[1], c, peephole[1])));
    steps[t] = h = o * at::tanh(c);
  }
  return {at::stack(steps), h, c};
}

Tensors run_directions(const Cell& cell, Direction (*run)(const Cell&, int64_t, bool)) {
  const std::string& direction = cell.operation.string_attribute("direction");
  Tensors y, h, c;
  for (int64_t d = 0; d < cell.weights.size(0); ++d) {
    const Direction result = run(cell, d, direction == "reverse" || d == 1);
    y.push_back(result.y);
    h.push_back(result.h);
    if (result.c.defined()) c.push_back(result.c);
  }
  Tensors results = {at::stack(y, 1), at::stack(h)};  // [steps, directions, batch, hidden]
  if (!c.empty()) results.push_back(at::stack(c));
  if (cell.operation.int_attribute("layout") != 0) {
    results[0] = results[0].permute({2, 0, 1, 3});
    for (size_t i = 1; i < results.size(); ++i) results[i] = results[i].transpose(0, 1);
  }
  return results;
}

Tensors gru(const ForwardContext& context, const Tensors& in) {
  check_activations(context.operation, {"sigmoid", "tanh"});
  return run_directions(make_cell(context.operation, in, 3), run_gru);
}

Tensors lstm(const ForwardContext& context, const Tensors& in) {
  check_activations(context.operation, {"sigmoid", "tanh", "tanh"});
  return run_directions(make_cell(context.operation, in, 4), run_lstm);
}

OperatorDefinition definition(std::string_view name, ForwardFunction forward, BoardFactory board) {
  OperatorDefinition result;
  result.name = name;
  result.inputs = {{"X"},
                   {"W"},
                   {"R"},
                   {.name = "B", .optional = true},
                   {.name = "sequence_lens", .role = OperandRole::Index, .optional = true},
                   {.name = "initial_h", .optional = true}};
  result.outputs = {{.name = "Y", .optional = true}, {.name = "Y_h", .optional = true}};
  result.attributes = {{.name = "activations", .type = Type::Strings},
                       {.name = "activation_alpha", .type = Type::Floats},
                       {.name = "activation_beta", .type = Type::Floats},
                       {.name = "clip", .type = Type::Float},
                       {.name = "direction", .type = Type::String, .fallback = Attribute(std::string("forward"))},
                       {.name = "hidden_size", .type = Type::Int},
                       integer("layout", 0),
                       {.name = "gate_exponent", .type = Type::Int}};
  result.forward = forward;
  result.board = board;
  result.quantization.quantizable = true;
  result.quantization.alignment = AlignmentClass::Recurrent;
  result.quantization.gate_operands = {3};
  result.chip = {.registered = true,
                 .int8 = true,
                 .int16 = true,
                 .float32 = true,
                 .note = "batch 1, default activations, forward or bidirectional"};
  return result;
}

}  // namespace

int64_t recurrent_directions(const Operation& operation) {
  const std::string& direction = operation.string_attribute("direction");
  user_check(direction == "forward" || direction == "reverse" || direction == "bidirectional",
             "operation '{}' ({}): unknown direction '{}'", operation.name(), operation.type(), direction);
  return direction == "bidirectional" ? 2 : 1;
}

void register_recurrent_operators(Registry& registry) {
  OperatorDefinition entry = definition("GRU", gru, gru_board);
  entry.attributes.push_back(integer("linear_before_reset", 0));
  entry.chip.note = "batch 1, default activations, forward or bidirectional, linear_before_reset = 1";
  registry.add(std::move(entry));

  entry = definition("LSTM", lstm, lstm_board);
  entry.inputs.push_back({.name = "initial_c", .optional = true});
  entry.inputs.push_back({.name = "P", .optional = true});
  entry.outputs.push_back({.name = "Y_c", .optional = true});
  entry.attributes.push_back(integer("input_forget", 0));
  entry.quantization.computing = true;
  entry.quantization.gate_operands = {3, 6};
  entry.quantization.gate_outputs = {2};
  registry.add(std::move(entry));
}

}  // namespace espq
