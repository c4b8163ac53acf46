#include "core/support/enum_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/support/error.h"

namespace espq::detail {

void value_without_name() { throw InternalError("enum value without a name"); }

void unknown_word(std::string_view text, std::string_view what, const std::vector<std::string_view>& allowed) {
  user_error("{}: '{}' is not one of {}", what, text, fmt::join(allowed, ", "));
}

}  // namespace espq::detail
