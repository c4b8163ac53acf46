#pragma once
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/exec/executor.h"

namespace espq {

/// One side of a comparison.
struct Runnable {
  const Graph& graph;
  Precision precision;
};

/// Counts of equal intervals; `below` and `above` count what lies outside.
struct Histogram {
  double low = 0, high = 0;
  std::vector<int64_t> counts;
  int64_t below = 0, above = 0;
};

/// What makes most of a layer's own noise (half of its power or more).
enum class Cause {
  None,        ///< no error, or nobody asked: it takes a float reference and per_layer
  Clipping,    ///< float values lie outside the representable range
  Saturation,  ///< results stand at an end of the range although the float values lie inside
  Alignment,   ///< the step is coarser than the values need, because the tensor shares its exponent with another one
  Resolution,  ///< rounding to the step of the grid
  Operands,    ///< an operand or a constant lies outside the range of the grid on which the layer reads it
  Parameters,  ///< none of these: rounded operands, weights and biases, integer arithmetic
};

/// An operand or a constant that clipping changes more than rounding does, on the grid on which its layer reads it.
struct ClippedOperand {
  std::string name;
  bool constant = false;
  int bits = 0, exponent = 0, needed_exponent = 0;  ///< as in GridError
  double clipped = 0;                               ///< share of the reference's values outside the range
};

/// What a layer adds by itself: it alone runs quantized, on the reference's values.
struct OwnNoise {
  double noise_to_signal = 0;
  /// Shares of its power: on clipped values, on saturated results, and expected from rounding (see GridError).
  double clipped = 0, saturated = 0, rounding = 0;
  std::optional<ClippedOperand> operand = {};  ///< the one that loses most by it
};

/// How a tensor lies on the grid that quantizes it. One least significant bit (LSB) is 2^exponent.
struct GridError {
  int bits = 0;
  int exponent = 0;
  int needed_exponent = 0;     ///< the smallest one whose range holds every value of the reference
  double clipped = 0;          ///< share of reference values outside the range, by more than half an LSB
  double saturated = 0;        ///< share of results at an end of the range
  double clipped_noise = 0;    ///< share of the noise power that the clipped values make
  double saturated_noise = 0;  ///< ... that saturated results of values inside the range make
  double rounding_noise =
      0;             ///< noise power that rounding alone is expected to make (LSB^2 / 12), over the noise power
  Histogram error;   ///< b - a in LSB, an interval per integer
  Histogram values;  ///< the reference, in its own unit; the middle two thirds of the intervals are the range
};

/// Difference of one tensor, over all samples. The tensor of A is the reference: error = b - a. Elements whose
/// reference is not finite (masks) count in `elements` and `different` only.
struct TensorError {
  std::string name;             ///< in B
  std::string reference;        ///< in A
  std::string operation, type;  ///< what computes it in B; empty for a graph input
  Shape shape;                  ///< one sample or batch, in A's order
  bool by_name = false;         ///< matched by name, else by place
  int64_t elements = 0;
  int64_t different = 0;       ///< elements that are not equal
  double noise_to_signal = 0;  ///< as Measure::NoiseToSignal
  double cosine = 0;           ///< as Measure::Cosine; 1 where both are zero
  double mean_squared_error = 0;
  double max_error = 0;   ///< largest absolute error
  double mean_error = 0;  ///< signed: a bias
  double mean_absolute_error = 0;
  std::optional<GridError> grid;  ///< absent where nothing quantizes the tensor
  std::optional<OwnNoise> own;    ///< layers only, with a float reference
  Cause cause = Cause::None;
  /// Less than half of the noise is the layer's own: the tensor before it with the most noise.
  std::optional<std::string> carried_from;
  std::string explanation;  ///< the cause in a sentence with figures
  std::string advice;       ///< what to try next

  /// Signal to noise in decibel; infinite without noise.
  double decibel() const;
};

struct CompareOptions {
  size_t batches = std::numeric_limits<size_t>::max();  ///< at most this many batches of the data set
  bool per_layer = true;
  double parting = 0.01;  ///< noise to signal at which two layers count as parted
};

struct Comparison {
  size_t batches = 0, samples = 0;
  std::vector<TensorError> outputs;
  std::vector<TensorError> layers;     ///< computed tensors of B in execution order; empty unless per_layer
  std::vector<std::string> unmatched;  ///< computed tensors of B that A does not have
  double parting = 0;
  /// First layers (positions in `layers`) with any difference, and with noise to signal above `parting`.
  std::optional<size_t> first_difference, first_parting;
};

/// Runs both on the same data and compares graph outputs and, when asked, every layer that both have (match_graphs.h).
/// A float graph should be simplified first, so that it has the layers of the quantized one.
/// Data: in the order of the float network; two chip graphs take it in their own order or with channels first. Chip
/// graphs are built for one number of samples: larger batches are cut into pieces of it.
/// Throws UserError: inputs that do not fit, no data, no output in common.
Comparison compare(const Runnable& a, const Runnable& b, const Dataset& data, const CompareOptions& options = {});

}  // namespace espq
