#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/support/enum_names.h"

namespace espq {

/// What a slot does with its tensor.
enum class SlotState {
  Float,            ///< never quantized
  Pending,          ///< waits for calibration
  Derived,          ///< its exponent will be derived from other slots: bias, Clip bounds, recurrent state
  Quantizes,        ///< rounds the tensor to its grid with an exponent that was calibrated here
  QuantizesShared,  ///< rounds the tensor to its grid with an exponent taken from other slots
  Carries,          ///< another slot of the same scale group already put the tensor on the grid
};

/// Calibration method of a slot.
enum class Observer { MinMax, Percentile, KlDivergence, MeanSquaredError };

template <>
struct EnumNames<Observer> {
  static const std::vector<std::pair<Observer, std::string_view>> values;
};

using ScaleId = int32_t;
inline constexpr ScaleId kNoScale = -1;

/// Scale groups: a forest whose roots own the exponents. Slots refer to nodes by id, so that a copied graph keeps its
/// ties. Scales are powers of two: value = integer * 2^exponent.
class ScaleForest {
 public:
  /// A new group of its own, without exponents.
  ScaleId create();
  ScaleId root(ScaleId id) const;
  bool is_root(ScaleId id) const { return parent_[id] == id; }
  /// Merges the whole group of `id` into the group of `into`.
  void merge(ScaleId id, ScaleId into);
  /// Moves this node alone (and whatever hangs below it) to the group of `into`.
  void attach(ScaleId id, ScaleId into);
  /// Makes the node the root of its own group again.
  void detach(ScaleId id);
  /// Exponents of the group: empty = not known yet, one = per tensor, more = per channel.
  const std::vector<int>& exponents(ScaleId id) const { return exponents_[root(id)]; }
  /// Sets the exponents of the group that `id` belongs to.
  void set_exponents(ScaleId id, std::vector<int> exponents) {
    exponents_[root(id)] = std::move(exponents);
    ++revision_;
  }
  size_t size() const { return parent_.size(); }
  /// Grows with every change.
  uint64_t revision() const { return revision_; }

 private:
  std::vector<ScaleId> parent_;
  std::vector<std::vector<int>> exponents_;
  uint64_t revision_ = 0;
};

/// Quantization of one operand slot of one operation.
struct SlotQuant {
  SlotState state = SlotState::Float;
  int bits = 0;              ///< width of the grid: range [-2^(bits-1), 2^(bits-1)-1]
  int channel_axis = -1;     ///< >= 0: one exponent per index along this axis
  ScaleId scale = kNoScale;  ///< node in the graph's ScaleForest, of this slot alone

  bool quantizes() const { return state == SlotState::Quantizes || state == SlotState::QuantizesShared; }
  bool is_float() const { return state == SlotState::Float; }
  bool same_scheme(const SlotQuant& other) const { return bits == other.bits && channel_axis == other.channel_axis; }
};

/// Arithmetic of one operation: bits of its activations and of its constant weights, 0 = float. It decides which
/// kernels of the chip library run it.
struct Width {
  int activations = 0, weights = 0;

  bool is_float() const { return activations == 0; }
  /// Of an operation without weights beside this one: a conversion, a fused Relu.
  Width without_weights() const { return {activations, activations}; }
  bool operator==(const Width&) const = default;

  static const Width Float, Int8, Int16;
  static const Width Int16Weights8;  ///< linear operators only
};
inline constexpr Width Width::Float{0, 0};
inline constexpr Width Width::Int8{8, 8};
inline constexpr Width Width::Int16{16, 16};
inline constexpr Width Width::Int16Weights8{16, 8};

/// "float", "int8", "int16", "w8a16".
template <>
struct EnumNames<Width> {
  static const std::vector<std::pair<Width, std::string_view>> values;
};

/// Exponent of the recurrent cells' gates and cell state, 16 bit wide: chip library 3.3.9's tables for them are built
/// on this grid.
inline constexpr int kGateExponent = -9;

inline double quant_min(int bits) { return -std::ldexp(1.0, bits - 1); }
inline double quant_max(int bits) { return std::ldexp(1.0, bits - 1) - 1; }

}  // namespace espq
