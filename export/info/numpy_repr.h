#pragma once
#include <string>
#include <string_view>

#include "export/espdl/model.h"

namespace espq {

/// repr() of a one-dimensional NumPy 2 array of the given elements (little-endian, no summary of long arrays).
std::string numpy_repr(ElementType type, std::string_view bytes);

/// repr() of a Python string.
std::string python_repr(std::string_view text);

}  // namespace espq
