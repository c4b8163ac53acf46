#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/quant/rounding.h"

namespace espq {

/// How the chip's convolution kernels want their filters packed, and with which lanes they accumulate.
enum class SimdFamily { None, PieV1, PieV2 };

/// The chip library generation that a file is written for (which operators and layouts it understands).
enum class RuntimeLevel {
  V3_3_9,  ///< the newest public runtime: a dynamic MatMul operand is packed by a subgraph, no fused Attention
  Newer,   ///< understands `input1_layout = native_kn` and Attention (what esp-ppq 1.3.12 writes)
};

/// One chip: every fact that differs from chip to chip, in one row of one table.
struct Target {
  std::string_view name;     ///< as the user writes it, e.g. "esp32p4"
  SimdFamily simd;           ///< None for the C-only chips
  Rounding rounding;         ///< of every rounding shift and float-to-integer conversion on that chip
  bool per_channel_weights;  ///< Conv, ConvTranspose and Gemm weights have one exponent per output channel
  int bias_bits_int8;        ///< effective bias width of 8-bit operators
  int bias_bits_int16;       ///< effective bias width of 16-bit operators
  bool saturating_20bit;     ///< int8 vector lanes accumulate in 20 bits and saturate on every step

  /// Filters are packed in blocks of this many output channels: 16 (int8), 8 (int16); 0 without vector unit.
  int block(int bits) const { return simd == SimdFamily::None ? 0 : (bits == 8 ? 16 : 8); }
};

/// All chips, in the order of the table in docs.
const std::vector<Target>& all_targets();

/// The target with that name (case-insensitive). Throws UserError listing the known names.
const Target& find_target(std::string_view name);

}  // namespace espq
