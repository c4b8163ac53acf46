#pragma once
// What the tests of passes that recover accuracy measure with.
#include <cstdint>
#include <functional>
#include <string>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "passes/recipe/recipe.h"

namespace espq::test {

/// Pictures whose mean is not zero, as behind a camera, one per batch, for the first input of the graph.
Dataset pictures(const Graph& graph, int64_t count, uint64_t seed);

/// Noise to signal of the first output in Simulated precision, mean over the batches.
double noise_on(const Dataset& unseen, const Graph& network, const Graph& quantized);
/// The same on pictures that no pass has seen.
double noise_of(const Graph& network, const Graph& quantized);
/// The same of what a recipe makes of the network with eight other pictures.
double noise_with(const Graph& network, const Recipe& recipe);

/// What convert() says to the default recipe with a change that it does not accept.
std::string refusal_of(const Graph& network, const std::function<void(Recipe&)>& change);

}  // namespace espq::test
