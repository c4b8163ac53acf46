#pragma once
#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "core/support/error.h"

// What options of passes have in common. Each throws UserError naming the option, "pass.option".
namespace espq {

inline void require_at_least(double value, double least, std::string_view option) {
  user_check(std::isfinite(value) && value >= least, "{}: {} is less than {}", option, value, least);
}

inline void require_share(double value, std::string_view option) {
  user_check(value >= 0 && value <= 1, "{}: {} is no share between 0 and 1", option, value);
}

}  // namespace espq
