// Recurrent cells that the chip library does not have, written down step by step.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/graph/match.h"
#include "core/ops/recurrent.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// One direction of one cell, built from the words of the operator: X W^T + h R^T + bias per gate.
class CellWriter {
 public:
  CellWriter(Rewriter& rewriter, int64_t direction, int64_t gates)
      : rewriter_(rewriter), cell_(rewriter.origin()), direction_(direction), gates_(gates) {
    const Shape& x = rewriter.shape(0);
    const bool batch_first = cell_.int_attribute("layout", 0) != 0;
    steps_ = x[batch_first ? 1 : 0];
    batch_ = x[batch_first ? 0 : 1];
    hidden_ = cell_.input(2)->value().size(2);
    clip_ = cell_.float_attribute("clip", 0);
    const std::string way = cell_.string_attribute("direction", "forward");
    backwards_ = way == "reverse" || direction == 1;
    state_ = initial("h", 5);
    if (gates_ == 4) memory_ = initial("c", 6);
  }

  /// Shares of all steps, [steps * batch, hidden] per gate.
  void read(Variable& rows) {
    for (int64_t gate = 0; gate < gates_; ++gate)
      inputs_.push_back(&add("Gemm", fmt::format("in{}", gate),
                             {&rows, &constant(fmt::format("weight{}", gate), slice(1, gate)),
                              &constant(fmt::format("bias{}", gate), bias(gate))},
                             {{"transB", int64_t{1}}}));
  }

  void write_steps() {
    for (int64_t i = 0; i < steps_; ++i) {
      step_ = backwards_ ? steps_ - 1 - i : i;
      gates_ == 1 ? plain() : gates_ == 3 ? gated() : memory();
      states_.emplace_back(step_, state_);
    }
    std::sort(states_.begin(), states_.end());
  }

  /// [steps, 1, batch, hidden]
  Variable& sequence() {
    std::vector<Variable*> states;
    for (const auto& [step, state] : states_) states.push_back(state);
    Variable& joined = states.size() == 1 ? *states[0] : add("Concat", "states", states, {{"axis", int64_t{0}}});
    return shaped("sequence", joined, {steps_, 1, batch_, hidden_});
  }
  Variable& last_state() { return shaped("last", *state_, {1, batch_, hidden_}); }
  Variable& last_memory() { return shaped("memory", *memory_, {1, batch_, hidden_}); }

 private:
  std::string part(std::string_view name) const {
    return fmt::format("{}{}{}", direction_ ? "back_" : "", step_ < 0 ? "" : fmt::format("step{}_", step_), name);
  }
  Variable& add(std::string_view type, std::string_view name, const std::vector<Variable*>& inputs,
                AttributeMap attributes = {}) {
    return rewriter_.add(type, part(name), inputs, std::move(attributes));
  }
  Variable& constant(std::string_view name, const at::Tensor& value) {
    return rewriter_.constant(part(name), value.contiguous());
  }
  Variable& shaped(std::string_view name, Variable& value, const Shape& shape) {
    step_ = -1;
    return add("Reshape", name, {&value, &rewriter_.constant(part(fmt::format("{}_shape", name)), shape)});
  }

  at::Tensor slice(size_t slot, int64_t gate) const {
    return cell_.input(slot)->value()[direction_].narrow(0, gate * hidden_, hidden_);
  }
  /// Bias of the gate; with that of the recurrence, unless the reset gate stands between the two.
  at::Tensor bias(int64_t gate) const {
    if (!cell_.input(3)) return at::zeros({hidden_}, slice(1, gate).options());
    return resets_inside(gate) ? half_bias(gate, 0) : half_bias(gate, 0) + half_bias(gate, 1);
  }
  at::Tensor half_bias(int64_t gate, int64_t half) const {
    return cell_.input(3)->value()[direction_].narrow(0, (half * gates_ + gate) * hidden_, hidden_);
  }
  bool resets_inside(int64_t gate) const {
    return gates_ == 3 && gate == 2 && cell_.int_attribute("linear_before_reset", 0) != 0;
  }

  /// nullptr where the cell starts from zero.
  Variable* initial(std::string_view name, size_t slot) {
    Variable* given = cell_.input(slot);
    if (!given || (given->is_parameter() && given->value().eq(0).all().item<bool>())) return nullptr;
    const bool batch_first = cell_.int_attribute("layout", 0) != 0;
    const int64_t axis = batch_first ? 1 : 0;
    Variable& index = rewriter_.constant(part(fmt::format("{}_direction", name)), std::vector<int64_t>{direction_});
    Variable& own = add("Gather", fmt::format("{}_own", name), {given, &index}, {{"axis", axis}});
    return &add("Reshape", fmt::format("{}_first", name),
                {&own, &rewriter_.constant(part(fmt::format("{}_shape", name)), Shape{batch_, hidden_})});
  }

  Variable& input(int64_t gate) {
    const auto at = [&](std::string_view name, int64_t value) {
      return &rewriter_.constant(part(fmt::format("{}{}", name, gate)), std::vector<int64_t>{value});
    };
    return add("Slice", fmt::format("in{}", gate),
               {inputs_[gate], at("start", step_ * batch_), at("end", (step_ + 1) * batch_), at("axis", 0)});
  }
  /// Of the state (or of what stands for it); nullptr for zeros.
  Variable* recurrence(int64_t gate, Variable* state) {
    if (!state) return nullptr;
    std::vector<Variable*> operands{state, &constant(fmt::format("recurrence{}", gate), slice(2, gate))};
    if (resets_inside(gate) && cell_.input(3))
      operands.push_back(&constant(fmt::format("recurrence_bias{}", gate), half_bias(gate, 1)));
    return &add("Gemm", fmt::format("state{}", gate), operands, {{"transB", int64_t{1}}});
  }
  Variable& activated(std::string_view type, int64_t gate, Variable* value, Variable* addend) {
    if (addend) value = &add("Add", fmt::format("sum{}", gate), {value, addend});
    if (clip_ > 0)
      value = &add("Clip", fmt::format("clip{}", gate),
                   {value, &constant(fmt::format("low{}", gate), at::scalar_tensor(-clip_)),
                    &constant(fmt::format("high{}", gate), at::scalar_tensor(clip_))});
    return add(type, fmt::format("gate{}", gate), {value});
  }
  Variable& gate(std::string_view type, int64_t index, Variable* peeked = nullptr, int64_t peephole = -1) {
    Variable* sum = &input(index);
    if (peeked && cell_.input(7)) {
      const at::Tensor weight = cell_.input(7)->value()[direction_].narrow(0, peephole * hidden_, hidden_);
      Variable& share = add("Mul", fmt::format("peephole{}", index),
                            {peeked, &constant(fmt::format("peephole_weight{}", index), weight)});
      sum = &add("Add", fmt::format("peeked{}", index), {sum, &share});
    }
    return activated(type, index, sum, recurrence(index, state_));
  }

  void plain() { state_ = &gate(plain_activation(cell_, direction_), 0); }

  /// h = n + z (h - n)
  void gated() {
    Variable& update = gate("Sigmoid", 0);
    Variable* candidate = nullptr;
    if (cell_.int_attribute("linear_before_reset", 0) == 0) {
      Variable* kept = state_ ? &add("Mul", "kept", {&gate("Sigmoid", 1), state_}) : nullptr;
      candidate = &activated("Tanh", 2, &input(2), recurrence(2, kept));
    } else {
      Variable* share = recurrence(2, state_);
      if (!share && cell_.input(3)) share = &constant("share", half_bias(2, 1).unsqueeze(0).expand({batch_, hidden_}));
      if (share) share = &add("Mul", "reset", {&gate("Sigmoid", 1), share});
      candidate = &activated("Tanh", 2, &input(2), share);
    }
    if (!state_) {
      state_ = &add("Sub", "state", {candidate, &add("Mul", "lost", {&update, candidate})});
      return;
    }
    Variable& change = add("Sub", "change", {state_, candidate});
    state_ = &add("Add", "state", {candidate, &add("Mul", "held", {&update, &change})});
  }

  /// c = f c + i tanh(..), h = o tanh(c)
  void memory() {
    Variable* old = memory_;
    Variable& in = gate("Sigmoid", 0, old, 0);
    memory_ = &add("Mul", "new", {&in, &gate("Tanh", 3)});
    if (old) {
      Variable* forget = nullptr;
      if (cell_.int_attribute("input_forget", 0) != 0)
        forget = &add("Sub", "forget", {&constant("one", at::ones({1})), &in});
      else
        forget = &gate("Sigmoid", 2, old, 2);
      memory_ = &add("Add", "memory", {memory_, &add("Mul", "old", {forget, old})});
    }
    Variable& out = gate("Sigmoid", 1, memory_, 1);
    state_ = &add("Mul", "state", {&out, &add("Tanh", "seen", {memory_})});
  }

  Rewriter& rewriter_;
  Operation& cell_;
  int64_t direction_, gates_, steps_ = 0, batch_ = 0, hidden_ = 0, step_ = -1;
  double clip_ = 0;
  bool backwards_ = false;
  std::vector<Variable*> inputs_;
  Variable *state_ = nullptr, *memory_ = nullptr;
  std::vector<std::pair<int64_t, Variable*>> states_;
};

bool is_written_down(Rewriter& rewriter) {
  const Operation& cell = rewriter.origin();
  for (const size_t slot : {1, 2})
    if (!cell.input(slot) || !cell.input(slot)->is_parameter()) return false;
  for (const size_t slot : {3, 4, 7})
    if (cell.input(slot) && !cell.input(slot)->is_parameter()) return false;
  const bool batch_first = cell.int_attribute("layout", 0) != 0;
  return rewriter.shape(0).at(batch_first ? 1 : 0) <= rewriter.options().max_unrolled_steps;
}

template <int64_t Gates>
std::string unroll(Rewriter& rewriter) {
  if (!is_written_down(rewriter)) return {};
  Operation& cell = rewriter.origin();
  const std::string type = cell.type();
  const bool batch_first = cell.int_attribute("layout", 0) != 0;
  Variable* x = cell.input(0);
  if (batch_first) x = &rewriter.add("Transpose", "steps_first", {x}, {{"perm", Shape{1, 0, 2}}});
  const Shape shape = *x->shape();
  Variable& rows =
      rewriter.add("Reshape", "rows", {x, &rewriter.constant("rows_shape", Shape{shape[0] * shape[1], shape[2]})});
  const int64_t directions = cell.input(1)->value().size(0);
  std::vector<Variable*> sequences, states, memories;
  for (int64_t direction = 0; direction < directions; ++direction) {
    CellWriter writer(rewriter, direction, Gates);
    writer.read(rows);
    writer.write_steps();
    sequences.push_back(&writer.sequence());
    states.push_back(&writer.last_state());
    if (Gates == 4) memories.push_back(&writer.last_memory());
  }
  const auto joined = [&](std::string_view part, const std::vector<Variable*>& values, int64_t axis, Shape order) {
    Variable* value = values.size() == 1 ? values[0] : &rewriter.add("Concat", part, values, {{"axis", axis}});
    if (batch_first) value = &rewriter.add("Transpose", fmt::format("{}_turned", part), {value}, {{"perm", order}});
    return value;
  };
  std::vector<Variable*> results{joined("sequences", sequences, 1, {2, 0, 1, 3}), joined("last", states, 0, {1, 0, 2})};
  if (Gates == 4) results.push_back(joined("memories", memories, 0, {1, 0, 2}));
  rewriter.replace(results);
  return type + " written down step by step";
}

}  // namespace

std::vector<RewriteRule> cell_rewrites() { return {{"RNN", unroll<1>}, {"GRU", unroll<3>}, {"LSTM", unroll<4>}}; }

}  // namespace espq
