#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/support/error.h"
#include "core/support/file.h"
#include "tests/torch_frontend/cases.h"

namespace espq {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string refusal(const std::string& name, const TorchImportOptions& options = {}) {
  const auto file = TorchCase::folder() / name;
  try {
    import_torch(file, options);
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), StartsWith(file.string() + ": "));
    return error.what();
  }
  return "no error";
}

TorchImportOptions shape(const Shape& dims) { return {.input_shapes = {{"x", dims}}}; }

TEST(TorchRefusal, ListsEveryUnsupportedOperatorWithModuleAndSource) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string ending : {".pt", ".pt2"}) {
    const std::string text =
        refusal("bad_unsupported" + ending, ending == ".pt" ? shape({2, 3, 3}) : TorchImportOptions{});
    EXPECT_THAT(text, AllOf(HasSubstr("aten::digamma"), HasSubstr("det"), HasSubstr("aten::kthvalue"),
                            HasSubstr("module 'stem'"), HasSubstr("module 'head'"), HasSubstr("make_torch_cases.py:")))
        << ending;
  }
}

TEST(TorchRefusal, NamesTheLineOfControlFlowThatDependsOnValues) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string name : {"bad_dynamic.pt", "bad_many_sizes.pt", "bad_state.pt"})
    EXPECT_THAT(refusal(name, shape({2, 3})), HasSubstr("make_torch_cases.py:")) << name;
  EXPECT_THAT(refusal("bad_dynamic.pt", shape({2, 3})), HasSubstr("depend on the inputs"));
  EXPECT_THAT(refusal("bad_state.pt", shape({2, 3})), HasSubstr("'last'"));
  EXPECT_THAT(refusal("bad_condition.pt2"), HasSubstr("control flow"));
}

/// Whatever the buffer's values are when forward() begins, the first run would see others than the second.
TEST(TorchRefusal, NamesTheLineThatWritesToABuffer) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string name : {"cache", "part_cache", "constant_cache"})
    for (const std::string ending : {".pt", "_script.pt", ".pt2", "_functional.pt2"}) {
      const std::string text = refusal(fmt::format("bad_{}{}", name, ending),
                                       ending.ends_with(".pt") ? shape({2, 3}) : TorchImportOptions{});
      EXPECT_THAT(text, AllOf(HasSubstr("'cache'"), HasSubstr("make_torch_cases.py:"),
                              HasSubstr("make such state an input and an output")))
          << name << ending;
    }
}

TEST(TorchRefusal, FindsACountOfTheRuns) {
  ESPQ_REQUIRE_TORCH_CASES();
  EXPECT_THAT(refusal("bad_counter.pt", shape({2, 3})), AllOf(HasSubstr("'runs'"), HasSubstr("make_torch_cases.py:")));
}

TEST(TorchRefusal, SaysWhatIsWrongWithShapes) {
  ESPQ_REQUIRE_TORCH_CASES();
  EXPECT_THAT(refusal("small.pt"), AllOf(HasSubstr("'x' has no shape"), HasSubstr("--input-shape x=")));
  EXPECT_THAT(refusal("small.pt", shape({2, 5, 6, 6})), AllOf(HasSubstr("example inputs"), HasSubstr("module 'conv'")));
  EXPECT_THAT(refusal("small.pt", {.input_shapes = {{"y", {1, 3, 6, 6}}}}), HasSubstr("no input 'y' (its inputs: x)"));
  EXPECT_THAT(refusal("small.pt", {.input_shapes = {{"x", {1, 3, 6, 6}}}, .input_values = {{"rate", 3}}}),
              HasSubstr("no input 'rate'"));
  EXPECT_THAT(refusal("small.pt2", {.input_values = {{"rate", 3}}}), HasSubstr("no input 'rate'"));
  EXPECT_THAT(refusal("small.pt2", shape({2, 5, 6, 6})), HasSubstr("?x3x6x6"));
  EXPECT_THAT(refusal("small.pt2", shape({9, 3, 6, 6})), HasSubstr("1 to 8"));
  EXPECT_THAT(refusal("bad_raises.pt", shape({2, 3})), HasSubstr("four dimensions, please, not 2"));
}

TEST(TorchRefusal, RunsNothingButTheNetwork) {
  ESPQ_REQUIRE_TORCH_CASES();
  EXPECT_THAT(refusal("bad_set_state.pt", shape({2, 3})), HasSubstr("__setstate__"));
  EXPECT_THAT(refusal("bad_reads_file.pt", shape({4})), HasSubstr("aten::from_file is refused"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/espq_must_not_exist"));
  EXPECT_THAT(refusal("bad_endless.pt", shape({2, 3})), HasSubstr("more than 1000000 steps"));
}

TEST(TorchRefusal, ExplainsOtherFiles) {
  ESPQ_REQUIRE_TORCH_CASES();
  EXPECT_THAT(refusal("bad_weights.pt"), HasSubstr("weights only"));
  EXPECT_THAT(refusal("small.npz"), HasSubstr("neither"));
  EXPECT_THAT(refusal("bad_training.pt", {.input_shapes = {{"input", {2, 3}}}}), HasSubstr("eval()"));
  EXPECT_THAT(refusal("bad_operator.pt2"), HasSubstr("torch.ops.mine.relu"));
  EXPECT_THAT(refusal("bad_schema.pt2"), HasSubstr("version 7"));
}

TEST(TorchRefusal, ChecksNumbersOfAHostileArchive) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string name : {"sizes", "negative", "overflow", "dtype", "json", "unknown_name", "missing"})
    EXPECT_THAT(refusal("bad_" + name + ".pt2"), StartsWith("/")) << name;
}

/// Damage that a disk or a network does, and worse: an error or a network, nothing else.
void damage(const std::string& name) {
  const std::string bytes = read_file(TorchCase::folder() / name);
  const auto file = std::filesystem::temp_directory_path() / ("espq_damaged_" + name);
  const auto attempt = [&](const std::string& content) {
    write_file(file, content);
    try {
      import_torch(file, shape({2, 3, 6, 6}));
      return false;
    } catch (const UserError&) {
      return true;
    }
  };
  for (size_t part = 0; part < 16; ++part) EXPECT_TRUE(attempt(bytes.substr(0, bytes.size() * part / 16))) << part;
  const at::Tensor places = at::randint(0, static_cast<int64_t>(bytes.size()), {60},
                                        at::make_generator<at::CPUGeneratorImpl>(uint64_t{1}), at::kLong);
  for (int64_t i = 0; i < places.numel(); ++i) {
    std::string changed = bytes;
    changed[static_cast<size_t>(places[i].item<int64_t>())] ^= 0x55;
    attempt(changed);
  }
  std::filesystem::remove(file);
}

TEST(TorchRefusal, SurvivesDamagedFiles) {
  ESPQ_REQUIRE_TORCH_CASES();
  for (const std::string name : {"small.pt", "small.pt2", "small_flat.pt2"}) damage(name);
}

}  // namespace
}  // namespace espq
