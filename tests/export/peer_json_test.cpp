// The .json of whole runs against those of esp-ppq 1.3.12.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "export/json/json.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/lowering/lower.h"
#include "tests/export/quantization_json.h"
#include "tests/peer_run.h"

namespace espq {
namespace {

TEST(PeerJson, SlotsAndScalesAreThoseOfTheIncumbent) {
  ESPQ_REQUIRE_REFERENCE_DATA("peer_cases");
  at::set_num_threads(1);
  const std::set<std::string> networks{"conv_bn_relu", "hard_activations", "matmul_constant", "residual_shared"};
  int compared = 0;
  for (const PeerRun& run : peer_runs(std::filesystem::path(ESPQ_TEST_DATA) / "../../recipes/esp-ppq-1.3.12.json")) {
    const std::string folder = run.folder.filename();
    if (!networks.contains(run.network) || !folder.ends_with("_w8a8")) continue;
    SCOPED_TRACE(run.name());
    Graph graph = import_onnx(run.model);
    quantize(graph, Dataset::open({run.calibration}), run.options);
    const Graph chip = lower(graph, LowerOptions::incumbent());
    const auto peer = nlohmann::ordered_json::parse(read_file(run.folder / "peer.json"));
    // Operations that the exporters add have generated names and are left out.
    EXPECT_THAT(quantization_differences(quantization_json(chip), peer, false), testing::IsEmpty());
    ++compared;
  }
  EXPECT_EQ(compared, 12);
}

}  // namespace
}  // namespace espq
