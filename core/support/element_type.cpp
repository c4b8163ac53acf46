#include "core/support/element_type.h"

#include <array>
#include <string_view>

namespace espq {
namespace {

struct Row {
  std::string_view name;
  size_t size = 0;  ///< 0: no fixed number of bytes, or a type that espq does not read
};

constexpr std::array<Row, 24> kRows{{
    {"UNDEFINED"},      {"FLOAT", 4},   {"UINT8", 1},       {"INT8", 1},    {"UINT16", 2},   {"INT16", 2},
    {"INT32", 4},       {"INT64", 8},   {"STRING"},         {"BOOL", 1},    {"FLOAT16", 2},  {"DOUBLE", 8},
    {"UINT32", 4},      {"UINT64", 8},  {"COMPLEX64"},      {"COMPLEX128"}, {"BFLOAT16", 2}, {"FLOAT8E4M3FN"},
    {"FLOAT8E4M3FNUZ"}, {"FLOAT8E5M2"}, {"FLOAT8E5M2FNUZ"}, {"UINT4"},      {"INT4"},        {"FLOAT4E2M1"},
}};

const Row* row(ElementType type) {
  const auto number = static_cast<size_t>(type);
  return number < kRows.size() ? &kRows[number] : nullptr;
}

}  // namespace

size_t element_size(ElementType type) { return row(type) ? row(type)->size : 0; }

std::string element_name(ElementType type) {
  return row(type) ? std::string(row(type)->name) : std::to_string(static_cast<int>(type));
}

}  // namespace espq
