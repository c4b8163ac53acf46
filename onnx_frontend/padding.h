#pragma once
#include "onnx_frontend/draft.h"

namespace espq::onnx_frontend {

/// Windows with everything spelled out: strides, dilations and pads per spatial axis; auto_pad and output_shape are
/// resolved into pads (they depend on the operand's size, which is fixed here).
void convolution_padding(Draft& draft);
void pool_padding(Draft& draft);
void transposed_convolution_padding(Draft& draft);

}  // namespace espq::onnx_frontend
