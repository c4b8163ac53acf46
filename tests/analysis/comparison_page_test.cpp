#include "export/html/comparison_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/analysis/comparison_report.h"
#include "export/html/html.h"

namespace espq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TensorError layer(const std::string& name, double noise, double own, Cause cause) {
  TensorError error;
  error.name = error.reference = name;
  error.operation = name + ":op";
  error.type = "Conv";
  error.elements = 100;
  error.different = 10;
  error.noise_to_signal = noise;
  error.own = OwnNoise{own};
  error.cause = cause;
  error.explanation = "because of " + name;
  error.advice = "do something";
  GridError grid;
  grid.bits = 8;
  grid.exponent = -3;
  grid.clipped = 0.25;
  grid.error = {-16.5, 16.5, std::vector<int64_t>(33, 3), 0, 1};
  grid.values = {-24.0625, 23.9375, std::vector<int64_t>(96, 1), 2, 2};
  error.grid = grid;
  return error;
}

Comparison comparison() {
  Comparison result;
  result.batches = 1;
  result.samples = 2;
  result.layers = {layer("a", 0.001, 0.001, Cause::Resolution),
                   layer("<script>alert('&')</script>", 0.2, 0.19, Cause::Clipping),
                   layer("c", 0.3, 0.01, Cause::Resolution), layer("d", 0, 0, Cause::None)};
  result.layers[2].carried_from = "a";
  result.outputs = {result.layers[2]};
  result.unmatched = {"\"lost\""};
  result.parting = 0.01;
  result.first_difference = 0;
  result.first_parting = 1;
  return result;
}

TEST(ComparisonReport, OrdersLayers) {
  EXPECT_THAT(worst_first(comparison().layers), ElementsAre(2, 1, 0, 3));
  EXPECT_THAT(sources_first(comparison().layers), ElementsAre(1, 2, 0));
}

TEST(ComparisonReport, IsValidJsonEvenWithoutNoise) {
  const std::string text = to_json(comparison()).dump();
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["layers"].size(), 4u);
  EXPECT_TRUE(json["layers"][3]["snr_decibel"].is_null());
  EXPECT_EQ(json["first_parting"], json["layers"][1]["name"]);
  EXPECT_EQ(json["layers"][1]["cause"], "clipping");
}

TEST(ComparisonReport, TextNamesLayersAndCauses) {
  const std::string text = to_text(comparison(), 2);
  EXPECT_THAT(text, HasSubstr("layers: 4 of 5 matched"));
  EXPECT_THAT(text, HasSubstr("not matched: \"lost\""));
  EXPECT_THAT(text, HasSubstr("because of c"));
  EXPECT_THAT(text, Not(HasSubstr("because of a")));  // not among the two largest sources
  EXPECT_THAT(text, HasSubstr("carried"));
}

TEST(ComparisonPage, EscapesNamesAndLoadsNothing) {
  const std::string page = comparison_page(comparison(), "a.onnx", "<b>.espdl");
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;&amp;&#39;)"));
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;.espdl"));
  for (const char* loading : {"http:", "https:", "src=", "href=", "url(", "@import"})
    EXPECT_THAT(page, Not(HasSubstr(loading)));
  EXPECT_THAT(page, HasSubstr("25 % clipped"));
  EXPECT_THAT(page, HasSubstr("<html lang=\"en\">"));
}

TEST(ComparisonPage, TagsAreBalanced) {
  const std::string page = comparison_page(comparison(), "a", "b");
  const auto count = [&](const std::string& text) {
    size_t number = 0;
    for (size_t at = page.find(text); at != std::string::npos; at = page.find(text, at + 1)) ++number;
    return number;
  };
  for (const std::string tag : {"div", "section", "svg", "table", "details", "main", "dl", "p", "ul", "rect", "title"})
    EXPECT_EQ(count("<" + tag + ">") + count("<" + tag + " "), count("</" + tag + ">")) << tag;
}

}  // namespace
}  // namespace espq
