#include "export/info/numpy_repr.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/support/error.h"

namespace espq {
namespace {

// NumPy's defaults: 75 columns, of which the closing bracket and parenthesis take one each.
constexpr size_t kLineWidth = 75, kElementWidth = 73, kPrecision = 8;
constexpr std::string_view kPrefix = "array(", kIndent = "       ";

template <typename T>
std::vector<T> elements(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

void align_right(std::vector<std::string>& words) {
  size_t width = 0;
  for (const auto& word : words) width = std::max(width, word.size());
  for (auto& word : words) word.insert(0, width - word.size(), ' ');
}

template <typename T>
std::vector<std::string> integer_words(std::string_view bytes) {
  std::vector<std::string> words;
  for (const T value : elements<T>(bytes)) words.push_back(std::to_string(value));
  align_right(words);
  return words;
}

std::vector<std::string> bool_words(std::string_view bytes) {
  std::vector<std::string> words;
  for (const char value : bytes) words.push_back(value ? "True" : "False");
  align_right(words);
  return words;
}

/// A finite number as digits before the point, digits after it, and exponent text ("e-03", empty in positional form).
struct Decimal {
  std::string whole, fraction, exponent;
};

Decimal split(std::string_view text) {
  Decimal decimal;
  const size_t exponent = std::min(text.find('e'), text.size());
  const size_t point = std::min(text.find('.'), exponent);
  decimal.whole = text.substr(0, point);
  if (point < exponent) decimal.fraction = text.substr(point + 1, exponent - point - 1);
  decimal.exponent = text.substr(exponent);
  return decimal;
}

template <typename T, typename... Precision>
Decimal print(T value, std::chars_format format, Precision... precision) {
  char buffer[512];
  const auto [end, status] = std::to_chars(buffer, buffer + sizeof buffer, value, format, precision...);
  internal_check(status == std::errc{}, "number too long to print");
  return split({buffer, end});
}

/// Shortest digits that identify the value, cut (with correct rounding) after kPrecision decimals.
template <typename T>
Decimal shortest(T value, std::chars_format format) {
  Decimal decimal = print(value, format);
  if (decimal.fraction.size() > kPrecision) {
    decimal = print(value, format, static_cast<int>(kPrecision));
    while (decimal.fraction.ends_with('0')) decimal.fraction.pop_back();
  }
  return decimal;
}

/// NumPy switches a whole array to exponents when its non-zero magnitudes are large, small or far apart.
template <typename T>
bool wants_exponents(const std::vector<T>& values) {
  T largest = 0, smallest = 0;
  for (const T value : values) {
    if (!std::isfinite(value) || value == 0) continue;
    largest = std::max(largest, std::abs(value));
    smallest = smallest == 0 ? std::abs(value) : std::min(smallest, std::abs(value));
  }
  if (largest == 0) return false;
  const T limit = static_cast<T>(std::pow(10.0, std::min(8, std::numeric_limits<T>::digits10)));
  // The comparisons are those of NumPy scalars: in the array's own precision.
  return largest >= limit || smallest < static_cast<T>(1e-4) || largest / smallest > static_cast<T>(1000);
}

template <typename T>
std::vector<std::string> float_words(std::string_view bytes) {
  const auto values = elements<T>(bytes);
  const bool exponents = wants_exponents(values);
  std::vector<Decimal> decimals;
  size_t left = 0, right = 0, exponent_width = 0;
  for (const T value : values) {
    decimals.push_back({});
    if (!std::isfinite(value)) continue;
    decimals.back() = shortest(value, exponents ? std::chars_format::scientific : std::chars_format::fixed);
    left = std::max(left, decimals.back().whole.size());
    right = std::max(right, decimals.back().fraction.size());
    exponent_width = std::max(exponent_width, decimals.back().exponent.size());
  }
  std::vector<std::string> words;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      words.push_back(std::isnan(values[i]) ? "nan" : values[i] < 0 ? "-inf" : "inf");
      continue;
    }
    Decimal& decimal = decimals[i];
    // Exponent form: all numbers get the same count of digits, further ones are those of the exact value.
    if (exponents) {
      decimal = print(values[i], std::chars_format::scientific, static_cast<int>(right));
      decimal.exponent.insert(2, exponent_width - decimal.exponent.size(), '0');
    }
    words.push_back(std::string(left - decimal.whole.size(), ' ') + decimal.whole + '.' + decimal.fraction +
                    std::string(right - decimal.fraction.size(), ' ') + decimal.exponent);
  }
  align_right(words);
  return words;
}

struct Notation {
  std::vector<std::string> words;
  std::string_view dtype;
  bool implied = false;  ///< NumPy leaves the dtype out (unless there is no element)
};

Notation notation(ElementType type, std::string_view bytes) {
  switch (type) {
    case ElementType::Float:
      return {float_words<float>(bytes), "float32"};
    case ElementType::Double:
      return {float_words<double>(bytes), "float64", true};
    case ElementType::Uint8:
      return {integer_words<uint8_t>(bytes), "uint8"};
    case ElementType::Int8:
      return {integer_words<int8_t>(bytes), "int8"};
    case ElementType::Uint16:
      return {integer_words<uint16_t>(bytes), "uint16"};
    case ElementType::Int16:
      return {integer_words<int16_t>(bytes), "int16"};
    case ElementType::Int32:
      return {integer_words<int32_t>(bytes), "int32"};
    case ElementType::Int64:
      return {integer_words<int64_t>(bytes), "int64", true};
    case ElementType::Uint32:
      return {integer_words<uint32_t>(bytes), "uint32"};
    case ElementType::Uint64:
      return {integer_words<uint64_t>(bytes), "uint64"};
    case ElementType::Bool:
      return {bool_words(bytes), "bool", true};
    default:
      user_error(".info: elements of type {} cannot be printed", element_name(type));
  }
}

}  // namespace

std::string numpy_repr(ElementType type, std::string_view bytes) {
  const auto [words, dtype, implied] = notation(type, bytes);
  std::string text(kPrefix);
  text += '[';
  size_t line_begin = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    const bool line_is_empty = text.size() - line_begin <= kIndent.size();
    if (!line_is_empty && text.size() - line_begin + words[i].size() > kElementWidth) {
      while (text.ends_with(' ')) text.pop_back();
      text += '\n';
      line_begin = text.size();
      text += kIndent;
    }
    text += words[i];
    if (i + 1 < words.size()) text += ", ";
  }
  text += ']';
  if (implied && !words.empty()) return text + ')';
  text += ',';
  const std::string suffix = fmt::format("dtype={})", dtype);
  const bool fits = text.size() - line_begin + suffix.size() + 1 <= kLineWidth;
  return text + (fits ? " " : "\n" + std::string(kPrefix.size(), ' ')) + suffix;
}

std::string python_repr(std::string_view text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\')
      result += {'\\', c};
    else if (c == '\n')
      result += "\\n";
    else if (c == '\r')
      result += "\\r";
    else if (c == '\t')
      result += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      result += c;
  }
  return result + quote;
}

}  // namespace espq
