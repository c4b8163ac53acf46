#pragma once
#include "core/data/dataset.h"
#include "passes/recipe/recipe.h"
#include "passes/report.h"

// Choices that only a quantized network can decide: several are quantized on a part of the data, and the errors of
// their outputs on that part and on another are compared.
namespace espq {

/// equalize() at several strengths, and in two ways each: by weights alone beside the wanted one on chips with one
/// exponent for all weights of a layer, with rows on those with one per row. What gives the smallest error stays, which
/// may be the network as it was. `prepared` is what quantize_network() takes. The rule of another tool is applied as it
/// is.
PassReport equalize_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe);

/// CenteredChannels of layers or of sums, or none: what gives the smallest error.
PassReport center_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe);

/// SplitChannels of results or of weights, or none: what gives the smallest error.
PassReport split_channels_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe);

/// split_layers() of the layers that the recipe names; of those that help where it names none: the worst weights first,
/// one after the other, each quantized and kept when the outputs gain by it.
PassReport split_where_it_helps(Graph& prepared, const Dataset& data, const Recipe& recipe);

/// The recipe with the layers that mixed_precision() chooses, and without the wish for it. What a recipe says of a
/// layer's width stays.
Recipe with_chosen_widths(const Graph& network, const Dataset& data, const Recipe& recipe);

}  // namespace espq
