#pragma once
#include <functional>

#include "core/data/dataset.h"
#include "passes/recipe/recipe.h"
#include "passes/report.h"

namespace espq {

/// Runs a pass on the graph at hand and tells whether it changed anything: a PassSequence, or whoever tries something.
using RunPass = std::function<bool(const std::function<PassReport(Graph&)>&)>;

/// The middle of convert(): from what prepare() made to a quantized graph whose exponents are at rest.
void quantize_network(const RunPass& run, const Dataset& data, const Recipe& recipe);

/// What follows from exponents and weights, whenever those have moved.
void bring_to_rest(const RunPass& run, const Dataset& data, const Recipe& recipe);

}  // namespace espq
