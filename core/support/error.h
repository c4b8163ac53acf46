#pragma once
#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace espq {

/// Something the user can repair: it names the node or file, says what is wrong and what to do.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A defect of espq itself; carries the source location.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

template <typename... Args>
[[noreturn]] void user_error(fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws UserError with the formatted message unless `condition` holds.
template <typename... Args>
void user_check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws InternalError unless `condition` holds.
void internal_check(bool condition, const std::string& what,
                    std::source_location location = std::source_location::current());

}  // namespace espq
