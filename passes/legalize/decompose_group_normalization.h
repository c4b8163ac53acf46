#pragma once
#include "core/graph/graph.h"
#include "passes/legalize/legalize.h"

namespace espq {

/// GroupNormalization and InstanceNormalization, for which the chip library has no kernel, become a Reshape to one row
/// per sample and group, LayerNormalization of the rows, a Reshape back, and the factors and offsets of the channels
/// as BatchNormalization becomes them (a depthwise Conv of three and four dimensions, Mul and Add of others; nothing
/// where they are all 1 and 0). Leaves factors that are computed. New operations have no width.
PassReport decompose_group_normalization(Graph& graph, Origins* origins = nullptr);

}  // namespace espq
