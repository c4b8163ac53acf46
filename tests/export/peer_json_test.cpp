// The .json of whole runs against those of esp-ppq 1.3.12.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "export/json/json.h"
#include "onnx_frontend/onnx_frontend.h"
#include "tests/export/quantization_json.h"
#include "tests/peer_run.h"

namespace espq {
namespace {

TEST(PeerJson, SlotsAndScalesAreThoseOfTheIncumbent) {
  at::set_num_threads(1);
  const std::set<std::string> networks{"conv_bn_relu", "hard_activations", "matmul_constant",
                                       "mish",         "residual_shared",  "transpose_reshape"};
  int compared = 0;
  for (const PeerRun& run : peer_runs(std::filesystem::path(ESPQ_TEST_DATA) / "../../recipes/esp-ppq-1.3.12.json")) {
    const std::string folder = run.folder.filename();
    if (!networks.contains(run.network) || !folder.ends_with("_w8a8") || !run.has_json()) continue;
    SCOPED_TRACE(run.name());
    Graph graph = import_onnx(run.model);
    const Graph chip = convert(graph, Dataset::open({run.calibration}), run.recipe).chip;
    const auto peer = nlohmann::ordered_json::parse(read_file(run.folder / "peer.json"));
    // Operations that the exporters add have generated names and are left out.
    EXPECT_THAT(quantization_differences(quantization_json(chip), peer, false), testing::IsEmpty());
    ++compared;
  }
  EXPECT_GE(compared, peer_cases().at_least(18, 3));
}

}  // namespace
}  // namespace espq
