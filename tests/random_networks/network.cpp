#include "tests/random_networks/network.h"

#include <numeric>

#include "core/support/error.h"
#include "passes/pipeline/convert.h"
#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

const std::vector<NodeDrawer>& drawers() {
  static const std::vector<NodeDrawer> all = [] {
    std::vector<NodeDrawer> result;
    for (auto* family :
         {layer_drawers, window_drawers, movement_drawers, shape_drawers, elementwise_drawers, normalization_drawers})
      for (const NodeDrawer& drawer : family()) result.push_back(drawer);
    return result;
  }();
  return all;
}

const NodeDrawer& pick_drawer(Random& random) {
  static const int64_t total =
      std::accumulate(drawers().begin(), drawers().end(), int64_t{0},
                      [](int64_t sum, const NodeDrawer& drawer) { return sum + drawer.weight; });
  int64_t place = random.integer(0, total - 1);
  for (const NodeDrawer& drawer : drawers())
    if ((place -= drawer.weight) < 0) return drawer;
  return drawers().back();
}

void draw_nodes(Drawing& drawing) {
  const int64_t wanted = drawing.random.pick<int64_t>({1, 1, 2, 2, 3, 3, 4, 5, 6});
  for (int attempt = 0; attempt < 200 && drawing.nodes() < wanted; ++attempt) {
    Drawing::State before = drawing.state();
    const NodeDrawer& drawer = pick_drawer(drawing.random);
    const auto result = drawer.draw(drawing, drawer.type) ? drawing.evaluate() : Drawing::Result::Useless;
    // What the importer refuses is a case, too; a tenth of such draws will do.
    if (result == Drawing::Result::Broken || (result == Drawing::Result::Refused && drawing.random.chance(0.1))) return;
    if (result != Drawing::Result::Good) drawing.restore(std::move(before));
  }
}

/// Another width for some of the operations that the converter will see.
void draw_layers(Random& random, const Graph& network, Recipe& recipe) {
  const Graph prepared = prepare(network, recipe);
  for (const Operation* operation : prepared.operations()) {
    if (!random.chance(0.4)) continue;
    recipe.layers[operation->name()].width =
        random.pick({Width::Int8, Width::Int8, Width::Int16, Width::Int16, Width::Int16Weights8, Width::Float});
  }
}

}  // namespace

Graph RandomNetwork::graph() const { return import_onnx_bytes(onnx_file::serialize_model(model), "random.onnx", "."); }

std::string RandomNetwork::operators() const {
  std::string result;
  for (const onnx_file::Node& node : model.nodes) result += (result.empty() ? "" : " ") + node.type;
  return result;
}

std::string RandomNetwork::widths() const {
  std::string result = std::to_string(recipe.widths.bits);
  for (const auto& [name, options] : recipe.layers)
    if (options.width) result += fmt::format(" {}={}", name, enum_name(*options.width));
  return result;
}

RandomNetwork draw_network(uint64_t seed) {
  RandomNetwork network{.seed = seed};
  Drawing drawing(seed);
  network.recipe.target = drawing.random.pick<std::string>({"esp32p4", "esp32s3", "c"});
  network.recipe.widths.bits = drawing.random.chance(0.55) ? 8 : 16;
  const bool mixed = drawing.random.chance(0.3);
  draw_nodes(drawing);
  drawing.finish();
  network.model = drawing.state().model;
  network.calibration = Dataset(drawing.state().batches);
  if (mixed) {
    try {
      draw_layers(drawing.random, network.graph(), network.recipe);
    } catch (const std::exception&) {
      network.recipe.layers.clear();  // the conversion will say why
    }
  }
  return network;
}

std::vector<std::string_view> drawn_types() {
  std::vector<std::string_view> types;
  for (const NodeDrawer& drawer : drawers()) types.push_back(drawer.type);
  return types;
}

}  // namespace espq::random_networks
