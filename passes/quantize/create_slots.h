#pragma once
#include <map>
#include <string>

#include "core/graph/graph.h"
#include "core/support/json_fields.h"
#include "passes/report.h"

namespace espq {

template <>
struct EnumNames<Observer> {
  static const std::vector<std::pair<Observer, std::string_view>> values;
};

/// Which calibration method looks at which tensor.
struct ObserverChoice {
  /// Activations of 8-bit and of 16-bit runs.
  Observer activations_int8 = Observer::MeanSquaredError;
  Observer activations_int16 = Observer::MinMax;
  /// True: the main width of the run chooses for all operations (as esp-ppq does); false: each operation's own width.
  bool by_main_width = false;
  /// Constants of 8-bit and of 16-bit operations. Per-channel weights always use minmax.
  Observer parameters_int8 = Observer::MinMax;
  Observer parameters_int16 = Observer::MinMax;
  /// Operation name -> method, for the activations and for the constants of that operation.
  std::map<std::string, Observer> activations_of = {}, parameters_of = {};
};

template <class Fields>
void describe(Fields& fields, ObserverChoice& options) {
  fields("activations_int8", options.activations_int8);
  fields("activations_int16", options.activations_int16);
  fields("by_main_width", options.by_main_width);
  fields("parameters_int8", options.parameters_int8);
  fields("parameters_int16", options.parameters_int16);
  fields("activations_of", options.activations_of);
  fields("parameters_of", options.parameters_of);
}

/// Makes the quantization slots of every operation whose width is not Float, as the operator table's rule says, each
/// with a scale of its own: activations and constants wait for calibration, biases and inner states will be derived.
/// Needs the dtype of every variable (infer_shapes) and sets graph.target(). `main_bits`: width of the run.
PassReport create_slots(Graph& graph, const Target& target, int main_bits, const ObserverChoice& observers);

}  // namespace espq
