#include "core/quant/target.h"

#include <algorithm>
#include <cctype>

#include "core/support/error.h"

namespace espq {

const std::vector<Target>& all_targets() {
  // Source: chip library 3.3.9. The C-only chips differ in name alone; esp32s31 has the vector unit of esp32p4.
  static const std::vector<Target> targets = [] {
    std::vector<Target> table;
    for (std::string_view name : {"esp32p4", "esp32s31"})
      table.push_back({name, SimdFamily::PieV2, Rounding::HalfEven, true, 32, 40, false});
    table.push_back({"esp32s3", SimdFamily::PieV1, Rounding::HalfUp, false, 20, 40, true});
    for (std::string_view name : {"c", "esp32", "esp32s2", "esp32c2", "esp32c3", "esp32c5", "esp32c6"})
      table.push_back({name, SimdFamily::None, Rounding::HalfUp, false, 32, 64, false});
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
