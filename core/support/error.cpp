#include "core/support/error.h"

namespace espq {

void internal_check(bool condition, const std::string& what, SourceLine where) {
  if (condition) return;
  throw InternalError(fmt::format("internal error at {}:{}: {}", where.file, where.line, what));
}

}  // namespace espq
