#include "core/support/error.h"

namespace espq {

void internal_check(bool condition, const std::string& what, std::source_location location) {
  if (condition) return;
  throw InternalError(fmt::format("internal error at {}:{}: {}", location.file_name(), location.line(), what));
}

}  // namespace espq
