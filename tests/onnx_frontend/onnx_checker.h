#pragma once
#include <string>

namespace espq::test {

/// What ONNX's own checker says against the model, shapes and types included; empty when it accepts it.
std::string onnx_complaint(const std::string& model_bytes);

}  // namespace espq::test
