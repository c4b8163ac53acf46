#pragma once
#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/recipe/recipe.h"
#include "passes/report.h"

// Everything between a float network and what a chip runs. Nothing here changes a graph that it is given, and a throw
// leaves nothing half done.
namespace espq {

/// What a float network became for one chip.
struct Conversion {
  Recipe recipe;    ///< that made it
  Graph reference;  ///< what was quantized, before passes changed weights to make up for rounding: run it in float
  Graph quantized;  ///< grids on the floats of the network: to simulate, to analyse, to train
  Graph chip;       ///< layouts, operators and integers of the chip library: for Board precision and the file
  Report report;    ///< every pass, in the order in which they ran; warnings have been logged, too
};

/// From the float network to the chip graph, as the recipe says. Throws UserError on bad options, data that do not fit
/// the inputs, values that cannot be quantized, and what the chip library cannot express.
Conversion convert(const Graph& network, const Dataset& data, const Recipe& recipe = {});

/// The beginning of convert(): the network that is quantized, with the operation names that recipes use and the shape
/// of every variable.
Graph prepare(const Graph& network, const Recipe& recipe = {}, Report* report = nullptr);

/// The middle of prepare(): the simplified network in forms that the chip runs (docs/legalize.md), every operation with
/// its width. `origins` learns what new operations were made for. Does nothing when the recipe leaves it out.
void bring_to_chip_forms(Graph& simplified, const Recipe& recipe, Report& report, Origins* origins = nullptr);

/// The end of convert() for a quantized graph that has changed since, by training for instance: biases, shifts and
/// accumulators come to rest, and the chip graph is made.
Conversion finish(const Graph& quantized, const Dataset& data, const Recipe& recipe = {});

}  // namespace espq
