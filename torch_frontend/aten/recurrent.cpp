#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

/// What differs between the two cells.
struct Cell {
  const char* type;
  Integers gate_order;  ///< LibTorch's gates in ONNX's order
  size_t states;
};
const Cell kLstm{"LSTM", {0, 3, 1, 2}, 2};  // input, output, forget, cell
const Cell kGru{"GRU", {1, 0, 2}, 1};       // update, reset, new

/// The parameters of one direction of one layer.
struct Weights {
  at::Tensor input, recurrent, input_bias, recurrent_bias;
};

at::Tensor reordered(const Cell& cell, const at::Tensor& value) {
  const auto gates = value.detach().chunk(static_cast<int64_t>(cell.gate_order.size()));
  Tensors ordered;
  for (const int64_t gate : cell.gate_order) ordered.push_back(gates[static_cast<size_t>(gate)]);
  return at::cat(ordered);
}

/// One layer; `states` are the initial ones, [directions, batch, hidden] each, empty when they are zero.
Call::Variables layer(const Call& call, const Cell& cell, Variable* input, const std::vector<Weights>& directions,
                      const Call::Variables& states) {
  Tensors w, r, b;
  for (const Weights& weights : directions) {
    w.push_back(reordered(cell, weights.input));
    r.push_back(reordered(cell, weights.recurrent));
    if (weights.input_bias.defined())
      b.push_back(at::cat({reordered(cell, weights.input_bias), reordered(cell, weights.recurrent_bias)}));
  }
  Call::Variables operands{input, call.parameter("W", at::stack(w)), call.parameter("R", at::stack(r)), nullptr,
                           nullptr};
  if (!b.empty()) operands[3] = call.parameter("B", at::stack(b));
  operands.insert(operands.end(), states.begin(), states.end());
  while (!operands.back()) operands.pop_back();
  AttributeMap attributes{{"hidden_size", directions[0].recurrent.size(1)}};
  if (directions.size() == 2) attributes["direction"] = std::string("bidirectional");
  if (cell.states == 1) attributes["linear_before_reset"] = int64_t{1};
  return call.emit_many(cell.type, operands, std::move(attributes), 1 + cell.states);
}

Variable* joined(const Call& call, const Call::Variables& parts) {
  return parts.size() == 1 ? parts[0] : call.emit("Concat", parts, {{"axis", int64_t{0}}});
}

/// [steps, directions, batch, hidden] as [steps, batch, directions * hidden]
Variable* merge_directions(const Call& call, Variable* value, size_t directions, const Shape& shape) {
  if (directions == 1) return call.squeeze(value, {1});
  return call.reshape(call.transpose(value, {0, 2, 1, 3}), shape);
}

std::vector<std::vector<Weights>> weights_of(const Call& call, size_t layers, size_t directions) {
  const Tensors params = call.samples("params");
  const bool biases = call.flag("has_biases");
  const size_t each = biases ? 4 : 2;
  call.check(params.size() == layers * directions * each,
             "has {} parameters, {} are expected (projections are not supported)", params.size(),
             layers * directions * each);
  for (const at::Tensor& param : params)
    call.check(call.variable(param)->is_parameter(), "its weights depend on the inputs");
  std::vector<std::vector<Weights>> result(layers);
  for (size_t i = 0; i < layers * directions; ++i)
    result[i / directions].push_back({params[i * each], params[i * each + 1],
                                      biases ? params[i * each + 2] : at::Tensor(),
                                      biases ? params[i * each + 3] : at::Tensor()});
  return result;
}

/// The initial states; empty when all are constant zeros.
Tensors initial_states(const Call& call, const Cell& cell) {
  const Tensors states = cell.states == 2 ? call.samples("hx") : Tensors{call.sample("hx")};
  const bool zero = std::all_of(states.begin(), states.end(), [&](const at::Tensor& state) {
    return call.is_constant(state) && state.count_nonzero().item<int64_t>() == 0;
  });
  return zero ? Tensors{} : states;
}

/// What every recurrent module begins with: its sequence, steps first, and what its layers are made of.
struct Module {
  bool batch_first;
  std::vector<std::vector<Weights>> weights;  ///< of every direction of every layer
  Variable* sequence;
  Shape shape;  ///< of the sequence

  size_t directions() const { return weights[0].size(); }
};

Variable* swap_steps_and_batch(const Call& call, Variable* sequence) { return call.transpose(sequence, {1, 0, 2}); }

Module begin(const Call& call) {
  call.check(call.has("input"), "packed sequences are not supported");
  call.check(!call.flag("train") || call.number("dropout") == 0,
             "is in training mode: call eval() on the network before exporting it");
  const size_t layers = static_cast<size_t>(call.integer("num_layers"));
  Module module{call.flag("batch_first"), weights_of(call, layers, call.flag("bidirectional") ? 2 : 1),
                call.tensor("input"), call.shape("input")};
  if (module.batch_first) {
    module.sequence = swap_steps_and_batch(call, module.sequence);
    std::swap(module.shape[0], module.shape[1]);
  }
  return module;
}

/// `final_states`: of every layer and direction, per kind of state.
void end(Call& call, const Module& module, const std::vector<Call::Variables>& final_states) {
  call.results = {module.batch_first ? swap_steps_and_batch(call, module.sequence) : module.sequence};
  for (const auto& parts : final_states) call.results.push_back(joined(call, parts));
}

void recurrent(Call& call, const Cell& cell) {
  Module module = begin(call);
  const Tensors initial = initial_states(call, cell);
  std::vector<Call::Variables> final_states(cell.states);
  const int64_t per_layer = static_cast<int64_t>(module.directions());
  for (size_t i = 0; i < module.weights.size(); ++i) {
    Call::Variables states;
    for (const at::Tensor& state : initial) {
      Variable* whole = call.variable(state);
      const int64_t first = static_cast<int64_t>(i) * per_layer;
      states.push_back(module.weights.size() == 1 ? whole : call.slice(whole, 0, first, first + per_layer));
    }
    const auto outputs = layer(call, cell, module.sequence, module.weights[i], states);
    module.shape[2] = per_layer * module.weights[i][0].recurrent.size(1);
    module.sequence = merge_directions(call, outputs[0], module.directions(), module.shape);
    for (size_t k = 0; k < cell.states; ++k) final_states[k].push_back(outputs[k + 1]);
  }
  end(call, module, final_states);
}

void lstm(Call& call) { recurrent(call, kLstm); }
void gru(Call& call) { recurrent(call, kGru); }

// ------------------------------------------------------------------------------------------------------ plain cells
/// A longer sequence would be a longer list of operations than anybody wants.
constexpr int64_t kMaxSteps = 128;

/// One direction of one layer, step by step: h = f(W x + b + R h). Returns all states in the order of time, and the
/// last.
std::pair<Variable*, Variable*> plain_layer(const Call& call, const char* function, Variable* input, int64_t steps,
                                            const Weights& weights, Variable* state, bool backwards) {
  at::Tensor bias = at::zeros({weights.recurrent.size(0)});
  if (weights.input_bias.defined()) bias = weights.input_bias.detach() + weights.recurrent_bias.detach();
  Variable* all = call.emit("Add", {call.emit("MatMul", {input, call.parameter("W", weights.input.detach().t())}),
                                    call.parameter("B", bias)});
  Variable* recurrent = call.parameter("R", weights.recurrent.detach().t());
  Call::Variables states(static_cast<size_t>(steps));
  for (int64_t i = 0; i < steps; ++i) {
    const int64_t step = backwards ? steps - 1 - i : i;
    Variable* sum =
        call.emit("Gather", {all, call.parameter("step", at::scalar_tensor(step, at::kLong))}, {{"axis", int64_t{0}}});
    if (state) sum = call.emit("Add", {sum, call.emit("MatMul", {state, recurrent})});
    state = call.emit(function, {sum});
    states[static_cast<size_t>(step)] = call.unsqueeze(state, {0});
  }
  return {joined(call, states), state};
}

void plain(Call& call, const char* function) {
  Module module = begin(call);
  const int64_t steps = module.shape[0];
  call.check(steps <= kMaxSteps, "has {} steps; espq writes down up to {}", steps, kMaxSteps);
  const bool zero = initial_states(call, kGru).empty();
  Call::Variables last;
  for (size_t i = 0; i < module.weights.size(); ++i) {
    Call::Variables sides;
    for (size_t side = 0; side < module.directions(); ++side) {
      const int64_t place = static_cast<int64_t>(i * module.directions() + side);
      Variable* state =
          zero ? nullptr
               : call.emit("Gather", {call.tensor("hx"), call.parameter("place", at::scalar_tensor(place, at::kLong))},
                           {{"axis", int64_t{0}}});
      const auto [all, final_state] =
          plain_layer(call, function, module.sequence, steps, module.weights[i][side], state, side == 1);
      sides.push_back(all);
      last.push_back(call.unsqueeze(final_state, {0}));
    }
    module.sequence = sides.size() == 1 ? sides[0] : call.emit("Concat", sides, {{"axis", int64_t{2}}});
  }
  end(call, module, {last});
}

void rnn_tanh(Call& call) { plain(call, "Tanh"); }
void rnn_relu(Call& call) { plain(call, "Relu"); }

// ------------------------------------------------------------------------------------------------------ single steps
/// x w^T + b as LibTorch's cells compute it.
Variable* gates(const Call& call, Variable* input, std::string_view weight, std::string_view bias) {
  Call::Variables operands{input, call.tensor(weight)};
  if (Variable* offset = call.tensor(bias)) operands.push_back(offset);
  return call.emit("Gemm", operands, {{"transB", int64_t{1}}});
}

Call::Variables split_gates(const Call& call, Variable* value, int64_t hidden, size_t count) {
  return call.emit_many("Split", {value, call.parameter("split", Integers(count, hidden))}, {{"axis", int64_t{1}}},
                        count);
}

void lstm_cell(Call& call) {
  const Tensors states = call.samples("hx");
  const int64_t hidden = states[0].size(1);
  Variable* sum = call.emit("Add", {gates(call, call.tensor("input"), "w_ih", "b_ih"),
                                    gates(call, call.variable(states[0]), "w_hh", "b_hh")});
  const auto part = split_gates(call, sum, hidden, 4);
  Variable* kept = call.emit("Mul", {call.emit("Sigmoid", {part[1]}), call.variable(states[1])});
  Variable* added = call.emit("Mul", {call.emit("Sigmoid", {part[0]}), call.emit("Tanh", {part[2]})});
  Variable* cell = call.emit("Add", {kept, added});
  call.results = {call.emit("Mul", {call.emit("Sigmoid", {part[3]}), call.emit("Tanh", {cell})}), cell};
}

void gru_cell(Call& call) {
  const int64_t hidden = call.shape("hx")[1];
  Variable* state = call.tensor("hx");
  const auto from_input = split_gates(call, gates(call, call.tensor("input"), "w_ih", "b_ih"), hidden, 3);
  const auto from_state = split_gates(call, gates(call, state, "w_hh", "b_hh"), hidden, 3);
  const auto gate = [&](size_t i) { return call.emit("Sigmoid", {call.emit("Add", {from_input[i], from_state[i]})}); };
  Variable *reset = gate(0), *update = gate(1);
  Variable* fresh = call.emit("Tanh", {call.emit("Add", {from_input[2], call.emit("Mul", {reset, from_state[2]})})});
  call.result("Add", {fresh, call.emit("Mul", {update, call.emit("Sub", {state, fresh})})});
}

void one_step(Call& call, const char* function) {
  call.result(function, {call.emit("Add", {gates(call, call.tensor("input"), "w_ih", "b_ih"),
                                           gates(call, call.tensor("hx"), "w_hh", "b_hh")})});
}
void rnn_tanh_cell(Call& call) { one_step(call, "Tanh"); }
void rnn_relu_cell(Call& call) { one_step(call, "Relu"); }

}  // namespace

void add_recurrent(Table& table) {
  table["lstm"] = {lstm, Family::Recurrent};
  table["gru"] = {gru, Family::Recurrent};
  table["rnn_tanh"] = {rnn_tanh, Family::Recurrent};
  table["rnn_relu"] = {rnn_relu, Family::Recurrent};
  table["rnn_tanh_cell"] = {rnn_tanh_cell, Family::Recurrent};
  table["rnn_relu_cell"] = {rnn_relu_cell, Family::Recurrent};
  table["lstm_cell"] = {lstm_cell, Family::Recurrent};
  table["gru_cell"] = {gru_cell, Family::Recurrent};
}

}  // namespace espq::torch_frontend
