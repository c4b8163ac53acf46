// RNN, GRU and LSTM in float. Their arithmetic on the chip is in recurrent_board.cpp.
#include "core/ops/recurrent.h"

#include "core/graph/match.h"
#include "core/ops/arguments.h"
#include "core/ops/families.h"
#include "core/ops/limits.h"
#include "core/ops/row.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// Attributes and operands of one node, tensors in layout 0.
struct Cell {
  const Operation& operation;
  int64_t gates, hidden;
  at::Tensor x;                          ///< [steps, batch, inputs]
  at::Tensor weights, recurrence, bias;  ///< [directions, ...]; bias may be undefined
  at::Tensor initial_h, initial_c;       ///< [directions, batch, hidden]
  at::Tensor peepholes;                  ///< [directions, 3 * hidden]; may be undefined
};

std::string lower_case(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

/// The functions of every direction are those that the standard assumes.
bool are_default_activations(std::string_view type, const std::vector<std::string>& names) {
  const std::vector<std::string> cycle =
      type == "GRU" ? std::vector<std::string>{"sigmoid", "tanh"} : std::vector<std::string>{"sigmoid", "tanh", "tanh"};
  for (size_t i = 0; i < names.size(); ++i)
    if (lower_case(names[i]) != cycle[i % cycle.size()]) return false;
  return true;
}

void check_activations(const Operation& operation) {
  const auto found = operation.attributes().find("activations");
  if (found == operation.attributes().end()) return;
  const auto& names = std::get<std::vector<std::string>>(found->second);
  user_check(are_default_activations(operation.type(), names),
             "operation '{}' ({}): activations {} are not supported; only the default ones are", operation.name(),
             operation.type(), fmt::join(names, ", "));
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

Direction run_plain(const Cell& cell, int64_t direction, bool backwards) {
  const at::Tensor inputs = at::linear(cell.x, cell.weights[direction], half_bias(cell, direction, 0));
  const at::Tensor recurrence_bias = half_bias(cell, direction, 1);
  const std::string_view type = plain_activation(cell.operation, direction);
  const auto activation = type == "Relu" ? at::relu : type == "Sigmoid" ? at::sigmoid : at::tanh;
  at::Tensor h = cell.initial_h[direction];
  Tensors steps(cell.x.size(0));
  for (size_t i = 0; i < steps.size(); ++i) {
    const size_t t = backwards ? steps.size() - 1 - i : i;
    const at::Tensor sum = inputs[static_cast<int64_t>(t)] + at::linear(h, cell.recurrence[direction], recurrence_bias);
    steps[t] = h = activation(clipped(cell, sum));
  }
  return {at::stack(steps), h, {}};
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

Tensors plain_rnn(const ForwardContext& context, const Tensors& in) {
  return run_directions(make_cell(context.operation, in, 1), run_plain);
}

Tensors gru(const ForwardContext& context, const Tensors& in) {
  check_activations(context.operation);
  return run_directions(make_cell(context.operation, in, 3), run_gru);
}

Tensors lstm(const ForwardContext& context, const Tensors& in) {
  check_activations(context.operation);
  return run_directions(make_cell(context.operation, in, 4), run_lstm);
}

const Limit kReverse{.what = "the direction reverse alone",
                     .remedy = "use forward or bidirectional",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       return operation.string_attribute("direction", "forward") == "reverse";
                     }};
const Limit kBatch{.what = "more than one sequence at a time",
                   .remedy = "give the network a batch of 1",
                   .asked = [](const Operation& operation, const Deployment&, Width) {
                     const auto shape = shape_at_kernel(operation.input(0));
                     const size_t axis = operation.int_attribute("layout", 0) == 0 ? 1 : 0;
                     return shape && shape->size() == 3 && (*shape)[axis] > 1;
                   }};
const Limit kResetBefore{.what = "linear_before_reset = 0",
                         .remedy = "export the cell with linear_before_reset = 1, as PyTorch computes it",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           return operation.int_attribute("linear_before_reset", 0) == 0;
                         }};

/// Y has the order of layout 0 whatever the attribute says.
const Limit kLayout{.what = "layout = 1",
                    .remedy = "use layout 0, with Transposes around the cell",
                    .asked = [](const Operation& operation, const Deployment&, Width) {
                      return operation.int_attribute("layout", 0) != 0;
                    }};
const Limit kClip{.what = "clip",
                  .remedy = "export the cell without clip, or unroll it",
                  .asked = [](const Operation& operation, const Deployment&, Width) {
                    return operation.float_attribute("clip", 0.0f) > 0;
                  }};
const Limit kActivations{.what = "other activations than the default ones",
                         .remedy = "unroll the cell",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           const auto found = operation.attributes().find("activations");
                           return found != operation.attributes().end() &&
                                  !are_default_activations(operation.type(),
                                                           std::get<std::vector<std::string>>(found->second));
                         }};
const Limit kLengths{.what = "sequences shorter than the input (sequence_lens)",
                     .remedy = "cut the input to the length, and leave the operand out",
                     .asked = [](const Operation& operation, const Deployment&, Width) {
                       if (!operation.input(4)) return false;
                       const auto lengths = integer_constant(operation.input(4));
                       const auto shape = shape_at_kernel(operation.input(0));
                       if (!lengths || !shape || shape->size() != 3) return true;
                       const int64_t steps = shape->at(operation.int_attribute("layout", 0) == 0 ? 0 : 1);
                       return std::any_of(lengths->begin(), lengths->end(),
                                          [&](int64_t length) { return length != steps; });
                     }};
const Limit kPeepholes{.what = "peepholes",
                       .remedy = "unroll the cell",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const Variable* peepholes = operation.input(7);
                         return peepholes && !(peepholes->is_parameter() && !peepholes->value().any().item<bool>());
                       }};
const Limit kInputForget{.what = "input_forget = 1",
                         .remedy = "unroll the cell",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           return operation.int_attribute("input_forget", 0) != 0;
                         }};

/// First, last and all states are one register.
const Limit kStateExponents{.what = "states of different exponents",
                            .remedy = "give the initial state, all states and the last one exponent",
                            .asked = [](const Operation& operation, const Deployment&, Width) {
                              const auto all = stored_exponent(operation.output(0));
                              const auto differs = [&](const Variable* state) {
                                const auto own = stored_exponent(state);
                                return all && own && *own != *all;
                              };
                              return differs(operation.input(5)) ||
                                     (operation.outputs().size() > 1 && differs(operation.output(1)));
                            }};

std::vector<Limit> cell_limits(std::vector<Limit> more) {
  std::vector<Limit> limits{kReverse, kBatch, kLayout, kClip, kActivations, kLengths, kStateExponents};
  limits.insert(limits.end(), more.begin(), more.end());
  return limits;
}

std::vector<AttributeSpec> cell_attributes(std::vector<AttributeSpec> more = {}) {
  std::vector<AttributeSpec> attributes{
      texts("activations"),         reals("activation_alpha"),      reals("activation_beta"), real("clip"),
      text("direction", "forward"), stated(integer("hidden_size")), integer("layout", 0)};
  attributes.insert(attributes.end(), more.begin(), more.end());
  return attributes;
}

}  // namespace

int64_t recurrent_directions(const Operation& operation) {
  const std::string& direction = operation.string_attribute("direction");
  user_check(direction == "forward" || direction == "reverse" || direction == "bidirectional",
             "operation '{}' ({}): unknown direction '{}'", operation.name(), operation.type(), direction);
  return direction == "bidirectional" ? 2 : 1;
}

std::string_view plain_activation(const Operation& operation, int64_t direction) {
  const auto found = operation.attributes().find("activations");
  if (found == operation.attributes().end()) return "Tanh";
  const auto& names = std::get<std::vector<std::string>>(found->second);
  if (names.empty()) return "Tanh";
  const std::string name = lower_case(names.at(std::min<size_t>(static_cast<size_t>(direction), names.size() - 1)));
  for (const std::string_view known : {"Tanh", "Relu", "Sigmoid"})
    if (lower_case(std::string(known)) == name) return known;
  user_error("operation '{}' ({}): activations {} are not supported; Tanh, Relu and Sigmoid are", operation.name(),
             operation.type(), fmt::join(names, ", "));
}

Operators recurrent_operators() {
  return {
      {.name = "RNN",
       .inputs = {{"X"},
                  operand("W", OperandRole::Weight),
                  operand("R", OperandRole::Weight),
                  optional(operand("B", OperandRole::Gate)),
                  optional(index_operand("sequence_lens")),
                  optional("initial_h")},
       .outputs = {optional("Y"), optional("Y_h")},
       .attributes = cell_attributes(),
       .forward = plain_rnn,
       .chip = {.board = board_on_values}},
      {.name = "GRU",
       .inputs = {{"X"},
                  operand("W", OperandRole::Weight),
                  operand("R", OperandRole::Weight),
                  optional(operand("B", OperandRole::Gate)),
                  optional(index_operand("sequence_lens")),
                  optional("initial_h")},
       .outputs = {optional("Y"), optional("Y_h")},
       .attributes = cell_attributes({integer("linear_before_reset", 0)}),
       .forward = gru,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Recurrent},
       .chip = {.board = gru_board,
                .kernels = kAllWidths,
                .needs_all_outputs = true,
                .limits = cell_limits({kResetBefore}),
                .note = "activations, clip and sequence_lens are never read; the cell needs Y and Y_h in the file"}},
      {.name = "LSTM",
       .inputs = {{"X"},
                  operand("W", OperandRole::Weight),
                  operand("R", OperandRole::Weight),
                  optional(operand("B", OperandRole::Gate)),
                  optional(index_operand("sequence_lens")),
                  optional("initial_h"),
                  optional(operand("initial_c", OperandRole::Gate)),
                  optional("P")},
       .outputs = {optional("Y"), optional("Y_h"), optional(operand("Y_c", OperandRole::Gate))},
       .attributes = cell_attributes({integer("input_forget", 0)}),
       .forward = lstm,
       .quantization = {.quantizable = true, .alignment = AlignmentClass::Recurrent},
       .chip =
           {.board = lstm_board,
            .kernels = kAllWidths,
            .needs_all_outputs = true,
            .limits = cell_limits({kPeepholes, kInputForget}),
            .note =
                "activations, clip, sequence_lens and P are never read; the cell needs Y, Y_h and Y_c in the file"}},
  };
}

}  // namespace espq
