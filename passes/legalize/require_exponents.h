#pragma once
#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "passes/quirks.h"
#include "passes/report.h"

namespace espq {

/// Throws UserError naming every operation of a chip graph whose kernel misreads the exponents that calibration gave
/// it: some do not take those of very small or large numbers. What no exponents are needed for is judged before
/// (require_runs).
PassReport require_exponents(const Graph& chip, const Deployment& deployment, const Quirks& quirks);

}  // namespace espq
