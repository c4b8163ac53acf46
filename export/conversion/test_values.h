#pragma once
#include "core/exec/executor.h"
#include "export/espdl/convert.h"

namespace espq {

/// Test values for a file: the inputs (layout of the float network, by name) as the chip gets them, and the outputs
/// that Board precision computes for them. Throws UserError naming an input that is missing, unknown or of another
/// shape.
TestValues record_test_values(const Graph& chip_graph, const NamedTensors& inputs);

/// The same, with the outputs that Simulated precision computes for the quantized graph that `chip_graph` was lowered
/// from: what esp-ppq 1.3.12 records, whether the board agrees or not.
TestValues simulate_test_values(const Graph& quantized, const Graph& chip_graph, const NamedTensors& inputs);

}  // namespace espq
