// Bias correction and equalization as esp-ppq 1.3.12 does them (tests/data/make_incumbent_recovery.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/data/dataset.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/optimize/correct_biases.h"
#include "passes/optimize/equalize.h"
#include "passes/pipeline/convert.h"

namespace espq {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(ESPQ_TEST_DATA) / "incumbent_recovery";

struct Differences {
  double missed = 0;  ///< largest one to what the file holds
  double moved = 0;   ///< largest one of what the file holds to `before`
};

Differences differences(const Graph& before, const Graph& after, const std::filesystem::path& file) {
  Differences found;
  for (const auto& [name, want] : read_npz(file)) {
    const at::Tensor start = before.find_variable(name)->value().reshape(want.sizes());
    const at::Tensor got = after.find_variable(name)->value().reshape(want.sizes());
    found.moved = std::max(found.moved, (want - start).abs().max().item<double>());
    found.missed = std::max(found.missed, (want - got).abs().max().item<double>());
  }
  return found;
}

TEST(IncumbentRecovery, BiasCorrectionGivesTheSameBiases) {
  const std::filesystem::path tqt = std::filesystem::path(ESPQ_TEST_DATA) / "incumbent_tqt";
  const Graph network = import_onnx(tqt / "model.onnx");
  const Dataset data = Dataset::open({tqt / "calib"});
  for (const std::string target : {"esp32p4", "esp32s3"}) {
    Recipe recipe = find_recipe("esp-ppq-1.3.12");
    recipe.target = target;
    const Graph before = convert(network, data, recipe).quantized;
    Graph corrected = before.clone();
    correct_biases(corrected, before, data, {.method = CorrectionMethod::Blocks});
    const Differences found = differences(before, corrected, kFolder / ("bias_correction-" + target + ".npz"));
    // Means of float32 numbers, added up in another order.
    EXPECT_LE(found.missed, 1e-3 * found.moved) << target;
    // On esp32p4 every block of this network gets worse, and esp-ppq, too, takes everything back.
    EXPECT_EQ(found.moved > 1e-3, target == "esp32s3") << target;
  }
}

TEST(IncumbentRecovery, EqualizationGivesTheSameWeights) {
  Recipe recipe = find_recipe("esp-ppq-1.3.12");
  const Graph network = prepare(import_onnx(kFolder / "equalization.onnx"), recipe);
  at::manual_seed(1);
  const Dataset data({{{"x", at::randn({1, 3, 8, 8})}}, {{"x", at::randn({1, 3, 8, 8})}}});
  recipe.equalize = EqualizeOptions{.rule = EqualizeRule::Magnitudes, .iterations = 10};
  Graph equalized = network.clone();
  equalize(equalized, data, find_target("esp32s3"), *recipe.equalize);
  const Differences found = differences(network, equalized, kFolder / "equalization.npz");
  // Ten roundings to float32 there, one here.
  EXPECT_LT(found.missed, 1e-5 * found.moved);
  EXPECT_GT(found.moved, 0.1);
}

}  // namespace
}  // namespace espq
