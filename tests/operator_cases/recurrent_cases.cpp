// RNN, GRU and LSTM, number by number, with the gates in ONNX's order.
#include "tests/operator_cases/families.h"

namespace espq::test {
namespace {

constexpr int64_t kSteps = 3, kInputs = 4, kHidden = 3;
using Vector = std::vector<double>;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// One time step of one direction: what a unit's gate gets from the inputs and from the state.
struct Sums {
  const Arrays& in;
  int64_t direction, step, gates;

  double inputs(int64_t gate, int64_t unit) const {
    const int64_t row = gate * kHidden + unit;
    double sum = in[3]({direction, row});
    for (int64_t k = 0; k < kInputs; ++k) sum += in[0]({step, 0, k}) * in[1]({direction, row, k});
    return sum;
  }
  double state(int64_t gate, int64_t unit, const Vector& h) const {
    const int64_t row = gate * kHidden + unit;
    double sum = in[3]({direction, (gates + gate) * kHidden + unit});
    for (int64_t k = 0; k < kHidden; ++k) sum += h[k] * in[2]({direction, row, k});
    return sum;
  }
};

template <double activation(double)>
void plain_step(const Sums& sums, Vector& h, Vector&) {
  const Vector before = h;
  for (int64_t i = 0; i < kHidden; ++i) h[i] = activation(sums.inputs(0, i) + sums.state(0, i, before));
}

double rectified(double x) { return std::max(x, 0.0); }
double hyperbolic_tangent(double x) { return std::tanh(x); }

void gru_step(const Sums& sums, Vector& h, Vector&) {
  const Vector before = h;
  for (int64_t i = 0; i < kHidden; ++i) {
    const double update = sigmoid(sums.inputs(0, i) + sums.state(0, i, before));
    const double reset = sigmoid(sums.inputs(1, i) + sums.state(1, i, before));
    const double fresh = std::tanh(sums.inputs(2, i) + reset * sums.state(2, i, before));
    h[i] = fresh + update * (before[i] - fresh);
  }
}

void lstm_step(const Sums& sums, Vector& h, Vector& c) {
  const Vector before = h;
  for (int64_t i = 0; i < kHidden; ++i) {
    const auto gate = [&](int64_t index) { return sums.inputs(index, i) + sums.state(index, i, before); };
    c[i] = sigmoid(gate(2)) * c[i] + sigmoid(gate(0)) * std::tanh(gate(3));
    h[i] = sigmoid(gate(1)) * std::tanh(c[i]);
  }
}

using Step = void (*)(const Sums&, Vector& h, Vector& c);

/// Hidden states of all steps, the last ones, and the last cell states.
Arrays run(const Arrays& in, Step step, int64_t gates, int64_t directions) {
  Array y{{kSteps, directions, 1, kHidden}, Vector(kSteps * directions * kHidden)};
  Array h{{directions, 1, kHidden}, {}}, c = h;
  for (int64_t direction = 0; direction < directions; ++direction) {
    Vector state(kHidden, 0), cell(kHidden, 0);
    for (int64_t i = 0; i < kSteps; ++i) {
      const int64_t time = direction == 1 ? kSteps - 1 - i : i;
      step({in, direction, time, gates}, state, cell);
      for (int64_t unit = 0; unit < kHidden; ++unit)
        y.values[(time * directions + direction) * kHidden + unit] = state[unit];
    }
    h.values.insert(h.values.end(), state.begin(), state.end());
    c.values.insert(c.values.end(), cell.begin(), cell.end());
  }
  return gates == 4 ? Arrays{y, h, c} : Arrays{y, h};
}

}  // namespace

void add_recurrent_cases(Cases& cases) {
  for (const bool rectifies : {false, true}) {
    const int64_t directions = rectifies ? 2 : 1;
    AttributeMap attributes{{"hidden_size", kHidden}};
    if (rectifies) {
      attributes["direction"] = std::string("bidirectional");
      attributes["activations"] = std::vector<std::string>{"Relu", "relu"};
    }
    const Step step = rectifies ? plain_step<rectified> : plain_step<hyperbolic_tangent>;
    cases.push_back(
        {.type = "RNN",
         .what = rectifies ? "Relu in both directions" : "one direction",
         .operands = {data({kSteps, 1, kInputs}), weight({directions, kHidden, kInputs}),
                      weight({directions, kHidden, kHidden}), weight({directions, 2 * kHidden})},
         .attributes = std::move(attributes),
         .reference = [=](const Arrays& in) { return run(in, step, 1, directions); },
         .results = 2,
         .chip = {.codes = 8,
                  .codes_at_16_bit = 128,
                  .why = "written down step by step: weights, sums and states are rounded, Tanh of 16 bits is "
                         "read from a table"}});
  }
  for (const int64_t directions : {1, 2})
    for (const int64_t gates : {3, 4}) {
      AttributeMap attributes{{"hidden_size", kHidden},
                              {"direction", std::string(directions == 2 ? "bidirectional" : "forward")}};
      if (gates == 3) attributes["linear_before_reset"] = int64_t{1};
      cases.push_back(
          {.type = gates == 3 ? "GRU" : "LSTM",
           .what = directions == 2 ? "both directions" : "one direction",
           .operands = {data({kSteps, 1, kInputs}), weight({directions, gates * kHidden, kInputs}),
                        weight({directions, gates * kHidden, kHidden}), weight({directions, 2 * gates * kHidden})},
           .attributes = std::move(attributes),
           .reference = [=](const Arrays& in) { return run(in, gates == 3 ? gru_step : lstm_step, gates, directions); },
           .results = static_cast<size_t>(gates - 1),
           .chip = {.codes = 1,
                    .codes_at_16_bit = 100,
                    .why = "gates are rounded to 2^-9 and read from tables, step by step"}});
    }
}

}  // namespace espq::test
