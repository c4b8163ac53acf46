// esp-ppq 1.3.12's TQT on a small network, weight by weight (tests/data/make_incumbent_tqt.py).
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/data/dataset.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/optimize/train_thresholds.h"
#include "passes/pipeline/convert.h"

namespace espq {
namespace {

TrainThresholdsOptions incumbent_options() {
  TrainThresholdsOptions options;
  options.blocks = BlockCuts::Depth;
  options.block_size = 4;
  options.steps = 60;
  options.batch = 1;
  options.rate = options.exponent_rate = 2e-4;
  options.rate_unit = RateUnit::Absolute;
  options.schedule = RateSchedule::Constant;
  options.warm_up = 0;
  options.exponents = 1;
  options.gradual = 0;
  options.order = SampleOrder::InOrder;
  options.judge = Judge::Training;
  options.fine_tune_steps = 0;
  return options;
}

TEST(IncumbentTqt, TrainsTheSameWeights) {
  const std::filesystem::path folder = std::filesystem::path(ESPQ_TEST_DATA) / "incumbent_tqt";
  const Graph network = import_onnx(folder / "model.onnx");
  const Dataset data = Dataset::open({folder / "calib"});
  for (const std::string target : {"esp32p4", "esp32s3"}) {
    Recipe recipe = find_recipe("esp-ppq-1.3.12");
    recipe.target = target;
    const Graph before = convert(network, data, recipe).quantized;
    Graph trained = before.clone();
    train_thresholds(trained, before, data, incumbent_options(), recipe.quirks);
    double moved = 0;
    for (const auto& [name, want] : read_npz(folder / (target + ".npz"))) {
      const Variable* variable = trained.find_variable(name);
      ASSERT_NE(variable, nullptr) << name;
      const at::Tensor start = before.find_variable(name)->value().reshape(want.sizes());
      const at::Tensor got = variable->value().reshape(want.sizes());
      const double way = (want - start).abs().max().item<double>();
      moved = std::max(moved, way);
      // Adam's steps, 2e-4 each, turn float rounding of nearly vanishing gradients into a few parts of a thousand.
      EXPECT_LE((got - want).abs().max().item<double>(), 0.02 * way) << target << " " << name;
    }
    EXPECT_GT(moved, 1e-3) << target;  // something was trained
  }
}

}  // namespace
}  // namespace espq
