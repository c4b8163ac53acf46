#pragma once
#include <string_view>
#include <utility>
#include <vector>

namespace espq {

/// Names of an enum (or of any small type with ==) in JSON, command lines and reports: declare `values` once, beside
/// the type.
template <typename Enum>
struct EnumNames;  // static const std::vector<std::pair<Enum, std::string_view>> values;

template <typename Enum>
concept NamedEnum = requires {
  EnumNames<Enum>::values;
};

namespace detail {
[[noreturn]] void value_without_name();
[[noreturn]] void unknown_word(std::string_view text, std::string_view what,
                               const std::vector<std::string_view>& allowed);
}  // namespace detail

template <NamedEnum Enum>
std::string_view enum_name(const Enum& value) {
  for (const auto& [candidate, name] : EnumNames<Enum>::values)
    if (candidate == value) return name;
  detail::value_without_name();
}

/// Throws UserError naming `what` and listing the choices.
template <NamedEnum Enum>
Enum parse_enum(std::string_view text, std::string_view what) {
  std::vector<std::string_view> names;
  for (const auto& [value, name] : EnumNames<Enum>::values) {
    if (name == text) return value;
    names.push_back(name);
  }
  detail::unknown_word(text, what, names);
}

}  // namespace espq
