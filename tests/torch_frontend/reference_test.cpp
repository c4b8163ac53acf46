// Files of the reference collection that came out wrong before, where there is a collection; make_torch_cases.py has
// networks of the same kinds.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/data/dataset.h"
#include "tests/reference_data.h"
#include "torch_frontend/torch_frontend.h"

namespace espq {
namespace {

struct ReferenceFile {
  std::string folder, file;
  Shape shape;  ///< of the input x
};

std::vector<ReferenceFile> reference_files() {
  const Shape picture{1, 3, 12, 12};
  return {{"adaptmax_5", "A.pt", picture},
          {"b_max", "A.pt", picture},
          {"causal_position_buffer", "z_causal.pt", {1, 6, 8}},
          {"causal_position_buffer", "z_causal.pt2", {1, 6, 8}},
          {"expand", "A.pt", picture},
          {"gn", "A.pt", picture},
          {"int_buffer_index", "lead.pt", {1, 4, 5, 5}},
          {"pt2_no_grad", "z_nograd.pt2", {1, 3, 8, 8}},
          {"s_sdpa_causal", "A.pt", {1, 3, 20}},
          {"silent_wrong_u8", "w_u8.pt", {1, 3, 6, 6}},
          {"silent_wrong_u8", "w_u8.pt2", {1, 3, 6, 6}},
          {"where_gt", "A.pt", picture}};
}

#define ESPQ_REQUIRE_COLLECTION()                              \
  const auto collection = reference_collection("torch_cases"); \
  if (!std::filesystem::exists(collection)) GTEST_SKIP() << "no reference collection"

TEST(TorchReference, EveryFileAgreesWithTheModuleAsItStands) {
  ESPQ_REQUIRE_COLLECTION();
  for (const ReferenceFile& each : reference_files()) {
    const auto file = collection / each.folder / each.file;
    const CheckedImport imported = import_torch_checked(file, {.input_shapes = {{"x", each.shape}}});
    EXPECT_FALSE(imported.agreement.outputs.empty()) << file;
    EXPECT_TRUE(imported.agreement.agrees()) << file;
  }
}

TEST(TorchReference, IntegersOfEightBitsWrapAround) {
  ESPQ_REQUIRE_COLLECTION();
  const auto folder = collection / "silent_wrong_u8";
  const at::Tensor x = read_npy(folder / "calib" / "x.npy"), wanted = read_npy(folder / "w_u8.npy");
  for (const std::string name : {"w_u8.pt", "w_u8.pt2"}) {
    const Graph graph = import_torch(folder / name, {.example = {{"x", x}}});
    const at::Tensor found = Executor(graph, Precision::Float).run(Tensors{x}).at(0);
    EXPECT_TRUE(at::allclose(found, wanted, 1e-5, 1e-5)) << name;
  }
}

}  // namespace
}  // namespace espq
