#pragma once
#include "core/data/dataset.h"
#include "core/exec/executor.h"

namespace espq {

/// Runs a quantized graph without quantization, with the kernels that it has with it: the reference of the analyses.
Executor float_executor(const Graph& quantized);

/// One tensor per graph input, by name.
NamedTensors named_inputs(const Graph& graph, const Tensors& inputs);

/// Number of samples of a batch.
double batch_size(const Tensors& inputs);

}  // namespace espq
