#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace espq {

using Shape = std::vector<int64_t>;

/// Value of an attribute. Floats are kept in float32, the precision that ONNX and .espdl store.
using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                               std::vector<std::string>, at::Tensor>;

/// Attributes by name, in byte order of the name (the order in which .espdl stores them).
using AttributeMap = std::map<std::string, Attribute>;

}  // namespace espq
