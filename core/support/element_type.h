#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace espq {

/// ONNX's numbering of element types, which .espdl files use, too. Numbers beyond these name types that espq does not
/// read.
enum class ElementType : int32_t {
  Undefined = 0,
  Float = 1,
  Uint8 = 2,
  Int8 = 3,
  Uint16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Double = 11,
  Uint32 = 12,
  Uint64 = 13,
  Bfloat16 = 16,
};

/// Bytes of one element; 0 for types without a fixed size (strings) and those that espq does not read.
size_t element_size(ElementType type);
/// The name that ONNX gives the type ("INT8", "FLOAT8E4M3FN"), or the number when it has none.
std::string element_name(ElementType type);

}  // namespace espq
