#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/quant/rounding.h"
#include "core/support/enum_names.h"

namespace espq {

/// The chip library generation that a file is written for (which operators and layouts it understands).
enum class RuntimeLevel {
  V3_3_9,  ///< the newest public runtime: a dynamic MatMul operand is packed by a subgraph, no fused Attention
  Newer,   ///< understands `input1_layout = native_kn` and Attention (what esp-ppq 1.3.12 writes)
};

template <>
struct EnumNames<RuntimeLevel> {
  static const std::vector<std::pair<RuntimeLevel, std::string_view>> values;
};
/// Codes in one vector of 128 bits.
constexpr int vector_length(int bits) { return bits == 8 ? 16 : 8; }

/// One chip: every fact that differs from chip to chip, in one row of one table.
struct Target {
  std::string_view name;  ///< as the user writes it, e.g. "esp32p4"
  /// A unit of 128-bit vectors runs the kernels: sums saturate, shifts go right only, filters are packed in blocks. On
  /// chips without it they are plain C: sums wrap, shifts go both ways, and much is computed in float32.
  bool vector_unit;
  bool int8_multipliers;     ///< the vector unit converts int8 codes with multipliers of 8 bits, not 16
  Rounding rounding;         ///< of every rounding shift and float-to-integer conversion on that chip
  bool per_channel_weights;  ///< Conv, ConvTranspose and Gemm weights have one exponent per output channel
  int bias_bits_int8;        ///< effective bias width of 8-bit operators
  int bias_bits_int16;       ///< effective bias width of 16-bit operators
  bool saturating_20bit;     ///< int8 vector lanes accumulate in 20 bits and saturate on every step

  /// Filters are packed in blocks of this many output channels; 0 without vector unit.
  int block(int bits) const { return vector_unit ? vector_length(bits) : 0; }
};

/// All chips, in the order of the table in docs.
const std::vector<Target>& all_targets();

/// The target with that name (case-insensitive). Throws UserError listing the known names.
const Target& find_target(std::string_view name);

}  // namespace espq
