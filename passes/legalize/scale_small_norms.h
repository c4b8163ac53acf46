#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// ReduceL2 of 16 bits, whose kernel in the chip library does not take numbers as small as the data are: they are
/// brought up by a power of two in front, and the norm down by the same behind, which changes no digit of either. Takes
/// a float graph whose operations have their widths; runs it on up to `batches` batches, where it has such operations.
PassReport scale_small_norms(Graph& graph, const Dataset& data, int64_t batches = 32);

}  // namespace espq
