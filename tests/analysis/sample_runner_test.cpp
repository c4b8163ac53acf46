#include "core/analysis/sample_runner.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/analysis/match_graphs.h"
#include "core/analysis/metrics.h"
#include "core/exec/float_layout.h"
#include "core/exec/side_by_side.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "export/espdl/writer.h"
#include "passes/lowering/lower.h"
#include "tests/support/graph_builder.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using namespace test;
using test::user_error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Two inputs; outputs in the chip's order of dimensions (a map) and in the model's (rows).
Graph two_headed() {
  GraphBuilder q("esp32p4");
  Variable* a = q.input("a", {1, 3, 4, 5});
  Variable* b = q.input("b", {1, 4, 4, 5});
  Variable* map = q.quantized("Add", "map", {q.quantized_conv("c", a, 4, 3), b});
  Variable* rows = q.quantized("Flatten", "rows", {map}, {{"axis", int64_t{1}}});
  q.outputs({rows, map});
  return std::move(q.graph);
}

Graph through_file(const Graph& chip, bool identify) {
  const EspdlModel model = read_espdl(write_espdl(to_model(chip, {}, {.identify = identify})));
  return from_model(model, find_target("esp32p4"));
}

TEST(SampleRunner, FilesAnswerInTheFloatNetworksLayout) {
  const Graph quantized = two_headed(), chip = lower(quantized);
  const Dataset::Batch sample = {{"a", at::randint(-20, 20, {3, 3, 4, 5}).to(at::kFloat) / 16},
                                 {"b", at::randint(-20, 20, {3, 4, 4, 5}).to(at::kFloat) / 16}};
  // LibTorch's answer on the chip's grid of 1/16: what the convolution gives is clipped, and so is the sum.
  const auto clipped = [](const at::Tensor& value) { return at::clamp(value, -8, 127.0 / 16); };
  const at::Tensor weight = quantized.find_variable("c.weight")->value();
  const at::Tensor map = clipped(clipped(at::conv2d(sample.at("a"), weight, {}, 1, 1)) + sample.at("b"));
  Graph assumed = through_file(chip, false);
  EXPECT_TRUE(assumed.inputs()[0]->permutation().empty());
  assume_permutations(assumed);
  const Graph told = through_file(chip, true);
  for (const Graph* file : {&told, &std::as_const(assumed)}) {
    const Graph& graph = *file;
    EXPECT_THAT(graph.inputs()[0]->permutation(), ElementsAre(0, 2, 3, 1));
    const Tensors got = SampleRunner({graph, Precision::Board}).run(sample, "sample");
    ASSERT_EQ(got[0].sizes(), map.flatten(1).sizes());
    ASSERT_EQ(got[1].sizes(), map.sizes());
    EXPECT_TRUE(at::allclose(got[1], map, 0, 1.0 / 16)) << (got[1] - map).abs().max();
    EXPECT_TRUE(got[0].equal(got[1].flatten(1)));
    // The file's integers are the same numbers; both forms of the sample give them.
    SampleRunner codes({graph, Precision::Board}, {.codes = true});
    const Tensors integers = codes.run(sample, "sample");
    EXPECT_EQ(integers[1].scalar_type(), at::kChar);
    EXPECT_TRUE((integers[1].to(at::kFloat) / 16).equal(got[1]));
    Dataset::Batch stored;
    for (const auto& [name, value] : sample) stored[name] = (value * 16).to(at::kChar);
    EXPECT_TRUE(codes.run(stored, "sample")[1].equal(integers[1]));
    EXPECT_THAT(user_error_of([&] {
                  codes.run({{"a", stored.at("a").to(at::kLong)}, {"b", stored.at("b")}}, "s");
                }),
                HasSubstr("dtype"));
  }
}

TEST(SampleRunner, ChipLayoutIsTheFiles) {
  const Graph chip = lower(two_headed());
  const Dataset::Batch sample = {{"a", at::randint(-20, 20, {1, 3, 4, 5}).to(at::kFloat) / 16},
                                 {"b", at::randint(-20, 20, {1, 4, 4, 5}).to(at::kFloat) / 16}};
  Dataset::Batch turned;
  for (const Variable* input : std::as_const(chip).inputs())
    turned[input->name()] = to_chip_layout(*input, sample.at(input->name()));
  ASSERT_EQ(turned.at("a").sizes(), (Shape{1, 4, 5, 3}));
  const Tensors want = SampleRunner({chip, Precision::Board}).run(sample, "sample"),
                got = SampleRunner({chip, Precision::Board}, {.chip_layout = true}).run(turned, "sample");
  EXPECT_TRUE(got[1].permute({0, 3, 1, 2}).equal(want[1]));
  EXPECT_THAT(user_error_of([&] {
                SampleRunner({chip, Precision::Board}).run(turned, "cat.npy");
              }),
              HasSubstr("cat.npy: input 'a' has shape [1, 3, 4, 5], the data has shape [1, 4, 5, 3]"));
}

TEST(SampleRunner, LayoutsOfFilesAreChecked) {
  EspdlModel model = to_model(lower(two_headed()));
  for (auto& [key, value] : model.metadata)
    if (key == "layout.b") value = "0221";
  EXPECT_THAT(user_error_of([&] { from_model(model, find_target("esp32p4")); }), HasSubstr("'layout.b' = '0221'"));
}

TEST(ShareOut, EveryIndexOnceOnEveryThread) {
  for (const size_t threads : {size_t{1}, size_t{3}, size_t{9}}) {
    std::vector<int> seen(7);
    share_out(seen.size(), threads, [&](size_t index, size_t thread) {
      EXPECT_LT(thread, std::min<size_t>(threads, seen.size()));
      ++seen[index];
    });
    EXPECT_THAT(seen, ::testing::Each(1)) << threads;
  }
  EXPECT_THROW(share_out(5, 2,
                         [](size_t index, size_t) {
                           if (index == 3) throw std::runtime_error("three");
                         }),
               std::runtime_error);
}

TEST(Metrics, CountAndMeasure) {
  EXPECT_THAT(best_classes(at::tensor({1.f, 3.f, 3.f})), ElementsAre(1));
  EXPECT_THAT(best_classes(at::tensor({1.f, 3.f, 5.f, 2.f}).view({2, 2, 1, 1})), ElementsAre(1, 0));
  EXPECT_THAT(user_error_of([] { best_classes(at::zeros({4, 1})); }), HasSubstr("no scores"));
  EXPECT_EQ(percent_equal({1, 2, 3, 4}, {1, 0, 3, 0}), 50);
  EXPECT_NEAR(decibel_of({0.001, 0.019}), 20, 1e-9);
}

}  // namespace
}  // namespace espq
