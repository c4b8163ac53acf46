#include "export/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/support/error.h"
#include "core/support/file.h"
#include "export/espdl/reader.h"
#include "export/info/info.h"
#include "export/json/json.h"
#include "tests/export/quantization_json.h"
#include "tests/export/small_graph.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

/// small_graph() with the slots that a quantizer would have left.
Graph quantized_graph() {
  Graph graph = small_graph();
  const auto slot = [&](SlotState state, int bits, std::vector<int> exponents) {
    SlotQuant result{.state = state, .bits = bits, .channel_axis = exponents.size() > 1 ? 0 : -1};
    result.scale = graph.scales().create();
    graph.scales().set_exponents(result.scale, std::move(exponents));
    return result;
  };
  Operation &conv = *graph.find_operation("conv"), &sigmoid = *graph.find_operation("sigmoid");
  conv.set_width(Width::Int8);
  sigmoid.set_width(Width::Int8);
  conv.set_quant({slot(SlotState::Quantizes, 8, {-6}), slot(SlotState::Quantizes, 8, std::vector<int>(18, -8)),
                  slot(SlotState::QuantizesShared, 32, std::vector<int>(18, -14))},
                 {slot(SlotState::Quantizes, 8, {-5})});
  sigmoid.set_quant({slot(SlotState::Carries, 8, {})}, {SlotQuant{}});
  graph.scales().merge(sigmoid.input_quant()[0].scale, conv.output_quant()[0].scale);
  return graph;
}

TEST(QuantizationJson, HoldsEverySlot) {
  const auto json = quantization_json(quantized_graph());
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::ElementsAre("configs", "dispatchings", "values"));
  const auto& conv = json["configs"]["conv"];
  EXPECT_EQ(conv["x"]["state"], "ACTIVATED");
  EXPECT_EQ(conv["w"]["policy"]["PER_CHANNEL"], true);
  EXPECT_EQ(conv["b"]["state"], "PASSIVE");
  EXPECT_EQ(conv["b"]["quant_min"], -2147483648LL);
  EXPECT_EQ(conv["b"]["quant_max"], 2147483647LL);
  const auto scale = [&](const nlohmann::ordered_json& config) {
    return json["values"][std::to_string(config["dominator"].get<uint32_t>())]["scale"];
  };
  EXPECT_EQ(scale(conv["x"]), 1.0 / 64);
  EXPECT_EQ(scale(conv["b"]), std::vector<double>(18, std::ldexp(1.0, -14)));
  const auto& sigmoid = json["configs"]["sigmoid"];
  EXPECT_EQ(sigmoid["c"]["state"], "OVERLAPPED");
  EXPECT_EQ(sigmoid["c"]["dominator"], conv["c"]["hash"]);
  EXPECT_NE(sigmoid["c"]["hash"], conv["c"]["hash"]);
  EXPECT_EQ(sigmoid["y"]["state"], "FP32");
  EXPECT_EQ(sigmoid["y"]["hash"], sigmoid["y"]["dominator"]);
  EXPECT_FALSE(json["values"].contains(std::to_string(sigmoid["y"]["hash"].get<uint32_t>())));
  EXPECT_EQ(json["dispatchings"]["conv"], "ESPDL_INT8");
}

TEST(QuantizationJson, IsPrintedAsPythonPrintsIt) {
  const std::string text = quantization_text(quantized_graph());
  EXPECT_EQ(text, quantization_text(quantized_graph())) << "the same in every run";
  EXPECT_TRUE(text.starts_with(
      "{\n    \"configs\": {\n        \"conv\": {\n            \"x\": {\n                \"bit_width\": 8,"));
  EXPECT_NE(text.find("\"scale\": [\n                6.103515625e-05,\n"), std::string::npos);
  EXPECT_NE(text.find("\"scale\": 0.015625,\n            \"zero_point\": 0.0\n        }"), std::string::npos);
  EXPECT_TRUE(text.ends_with("}\n    }\n}"));
}

/// Python's json module wrote the reference; parsing and printing it again must give the same text.
TEST(QuantizationJson, TextFormEqualsTheIncumbents) {
  const std::string text = read_file(peer_cases().folder / "mish/esp32p4_w8a8/peer.json");
  EXPECT_TRUE(nlohmann::ordered_json::parse(text).dump(4, ' ', true) == text);
}

TEST(QuantizationJson, ComparisonSeesWhatDiffers) {
  const auto json = quantization_json(quantized_graph());
  EXPECT_THAT(quantization_differences(json, json, true), testing::IsEmpty());
  Graph changed = quantized_graph();
  changed.scales().set_exponents(changed.find_operation("conv")->output_quant()[0].scale, {-4});
  const auto lines = quantization_differences(json, quantization_json(changed), true);
  EXPECT_THAT(lines, testing::ElementsAre(testing::HasSubstr("conv, c"), testing::HasSubstr("sigmoid, c")));
}

class ExportFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("espq_export_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  size_t file_count() const {
    return std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator());
  }
  std::filesystem::path folder_;
};

TEST_F(ExportFiles, AppearTogether) {
  const auto result = export_espdl(quantized_graph(), small_tests(), folder_ / "net.espdl");
  EXPECT_EQ(result.files.size(), 3u);
  EXPECT_EQ(file_count(), 3u);
  const EspdlModel model = read_espdl_file(folder_ / "net.espdl");
  EXPECT_EQ(read_file(folder_ / "net.info"), info_text(model));
  EXPECT_EQ(read_file(folder_ / "net.json"), quantization_text(quantized_graph()));
}

TEST_F(ExportFiles, CanBeEncryptedAndAlone) {
  const auto result =
      export_espdl(quantized_graph(), {}, folder_ / "net.espdl", {.file = {}, .companions = false, .encrypt = true});
  EXPECT_EQ(file_count(), 1u);
  EXPECT_THROW(read_espdl_file(folder_ / "net.espdl"), UserError);
  EXPECT_EQ(read_espdl_file(folder_ / "net.espdl", {.key = result.key}).nodes.size(), 2u);
}

TEST_F(ExportFiles, DoNotAppearWhenOneCannotBeWritten) {
  std::filesystem::create_directories(folder_ / "net.json");  // in the way of a companion
  EXPECT_THROW(export_espdl(quantized_graph(), {}, folder_ / "net.espdl"), UserError);
  EXPECT_EQ(file_count(), 1u);
  EXPECT_THROW(export_espdl(quantized_graph(), {}, folder_ / "missing/net.espdl"), UserError);
  EXPECT_THROW(export_espdl(quantized_graph(), {}, folder_ / "net.bin"), UserError);
  TestValues unknown;
  unknown.outputs = {{"gone", at::zeros({1})}};
  EXPECT_THROW(export_espdl(quantized_graph(), unknown, folder_ / "other.espdl"), UserError);
  EXPECT_EQ(file_count(), 1u);
}

}  // namespace
}  // namespace espq
