#include "core/quant/target.h"

#include <algorithm>
#include <cctype>

#include "core/support/error.h"

namespace espq {

const std::vector<std::pair<RuntimeLevel, std::string_view>> EnumNames<RuntimeLevel>::values = {
    {RuntimeLevel::V3_3_9, "3.3.9"}, {RuntimeLevel::Newer, "newer"}};

const std::vector<Target>& all_targets() {
  // Source: chip library 3.3.9. The C-only chips differ in name alone; esp32s31 has the vector unit of esp32p4.
  static const std::vector<Target> targets = [] {
    std::vector<Target> table;
    for (std::string_view name : {"esp32p4", "esp32s31"})
      table.push_back({.name = name,
                       .vector_unit = true,
                       .int8_multipliers = false,
                       .rounding = Rounding::HalfEven,
                       .per_channel_weights = true,
                       .bias_bits_int8 = 32,
                       .bias_bits_int16 = 40,
                       .saturating_20bit = false});
    table.push_back({.name = "esp32s3",
                     .vector_unit = true,
                     .int8_multipliers = true,
                     .rounding = Rounding::HalfUp,
                     .per_channel_weights = false,
                     .bias_bits_int8 = 20,
                     .bias_bits_int16 = 40,
                     .saturating_20bit = true});
    for (std::string_view name : {"c", "esp32", "esp32s2", "esp32c2", "esp32c3", "esp32c5", "esp32c6"})
      table.push_back({.name = name,
                       .vector_unit = false,
                       .int8_multipliers = false,
                       .rounding = Rounding::HalfUp,
                       .per_channel_weights = false,
                       .bias_bits_int8 = 32,
                       .bias_bits_int16 = 64,
                       .saturating_20bit = false});
    return table;
  }();
  return targets;
}

const Target& find_target(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  std::string known;
  for (const Target& target : all_targets()) {
    if (target.name == lower) return target;
    known += (known.empty() ? "" : ", ") + std::string(target.name);
  }
  user_error("unknown target '{}'; known targets: {}", name, known);
}

}  // namespace espq
