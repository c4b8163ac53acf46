#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/ops/operator.h"
#include "tests/random_networks/trial.h"
#include "tests/temporary_folder.h"

namespace espq::random_networks {
namespace {

/// In pieces, so that several run at once.
constexpr uint64_t kSeeds = 100, kPiece = 20;

std::string text_of(const RandomNetwork& network) {
  try {
    return to_text(network.graph());
  } catch (const std::exception& error) {
    return error.what();
  }
}

class Seeds : public ::testing::TestWithParam<uint64_t> {};

TEST_P(Seeds, AreRefusedOrSurvive) {
  const test::TemporaryFolder folder;
  int survived = 0;
  for (uint64_t seed = GetParam(); seed < GetParam() + kPiece; ++seed) {
    const RandomNetwork network = draw_network(seed);
    const Trial trial = try_network(network, folder / "network.espdl");
    survived += trial.end == Trial::End::Survived;
    EXPECT_EQ(complaint(network, trial), "")
        << "seed " << seed << ", " << network.recipe.target << ", " << network.widths() << "\n"
        << text_of(network);
  }
  // A generator of networks that all are refused would show nothing.
  EXPECT_GE(survived, static_cast<int>(kPiece / 4));
}

INSTANTIATE_TEST_SUITE_P(RandomNetworks, Seeds, ::testing::Range<uint64_t>(1, kSeeds, kPiece));

TEST(RandomNetworks, AreDrawnFromTheWholeTable) {
  const std::vector<std::string_view> types = drawn_types();
  const std::set<std::string_view> drawn(types.begin(), types.end());
  // No operators of ONNX, or those of networks that are quantized already: the importer refuses their names.
  const std::set<std::string_view> others{"DequantizeLinear", "InsertZeros",    "LUT",       "QuantizeLinear",
                                          "RequantizeLinear", "StreamingCache", "Attention", "ScalarFunction"};
  for (const OperatorDefinition& definition : operators().all())
    EXPECT_NE(drawn.count(definition.name), others.count(definition.name))
        << definition.name << ": give it a line in the lists of tests/random_networks";
}

TEST(RandomNetworks, FollowFromTheSeed) {
  const RandomNetwork network = draw_network(7), again = draw_network(7), other = draw_network(8);
  EXPECT_EQ(onnx_file::serialize_model(network.model), onnx_file::serialize_model(again.model));
  EXPECT_NE(onnx_file::serialize_model(network.model), onnx_file::serialize_model(other.model));
}

}  // namespace
}  // namespace espq::random_networks
