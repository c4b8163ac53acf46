// A training step with fused kernels against the same graph by LibTorch's operators one by one, which is what the
// executor runs where a hook watches.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/convert.h"
#include "qat/trainable_graph.h"
#include "tests/qat/cuda.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

/// A network of the collection, quantized with random data, and an input some of whose values leave their grids.
struct QuantizedPeer {
  Graph graph;
  at::Tensor input;
  QuantizedPeer(const std::string& network, const char* target)
      : graph(import_onnx(peer_cases().folder / network / "model.onnx")) {
    at::manual_seed(5);
    std::vector<Dataset::Batch> data(2);
    for (Dataset::Batch& batch : data) batch[""] = at::randn(*graph.inputs()[0]->shape());
    Recipe recipe;
    recipe.target = target;
    graph = convert(graph, Dataset(std::move(data)), recipe).quantized;
    input = 1.3 * at::randn(*graph.inputs()[0]->shape());
  }
};

class FusedTraining : public ::testing::TestWithParam<std::tuple<std::string, const char*>> {};

TEST_P(FusedTraining, GivesTheValuesAndGradientsOfSingleOperators) {
  const auto [network, target] = GetParam();
  auto [graph, input] = QuantizedPeer(network, target);

  TrainableGraph trainable(graph);
  std::map<std::string, at::Tensor> leaves;
  for (const auto& [name, parameter] : trainable.named_parameters()) {
    leaves[name] = parameter.detach().clone().requires_grad_();
    graph.find_variable(name)->set_value(leaves[name]);
  }
  Executor single(graph, Precision::Simulated);
  single.set_training(true);
  single.set_hook([](SlotEvent&) {});
  Executor plain(graph, Precision::Simulated);

  const Tensors got = trainable.forward({input}), want = single.run(Tensors{input}),
                inference = plain.run(Tensors{input});
  at::Tensor got_loss, want_loss;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(at::equal(got[i], want[i]));
    EXPECT_TRUE(at::equal(got[i], inference[i]));
    const at::Tensor weight = at::randn(got[i].sizes());
    const at::Tensor a = (got[i] * weight).sum(), b = (want[i] * weight).sum();
    got_loss = i ? got_loss + a : a;
    want_loss = i ? want_loss + b : b;
  }
  got_loss.backward();
  want_loss.backward();
  for (const auto& [name, parameter] : trainable.named_parameters()) {
    const at::Tensor theirs = leaves.at(name).grad();
    ASSERT_EQ(parameter.grad().defined(), theirs.defined()) << name;
    if (!theirs.defined()) continue;
    // Only the order of additions in float32 differs.
    const double largest = theirs.abs().max().item<double>();
    EXPECT_LE((parameter.grad() - theirs).abs().max().item<double>(), 1e-5 * largest) << name;
  }
}

class CudaTraining : public FusedTraining {};

TEST_P(CudaTraining, GivesTheValuesAndGradientsOfTheProcessor) {
  if (!test::has_cuda()) GTEST_SKIP() << "no CUDA device";
  const test::WholeFloat32 whole_float32;
  const auto [network, target] = GetParam();
  const QuantizedPeer peer(network, target);
  TrainableGraph here(peer.graph), there(peer.graph, {.device = at::kCUDA});
  const Tensors want = here.forward({peer.input}), got = there.forward({peer.input.to(at::kCUDA)});
  at::Tensor want_loss = at::zeros({}), got_loss = at::zeros({}, at::kCUDA);
  for (size_t i = 0; i < got.size(); ++i) {
    // On NVIDIA's H100. Another device's Sigmoid may differ in the last bit, and a rounding behind it fall the other
    // way.
    EXPECT_TRUE(at::equal(got[i].detach().cpu(), want[i].detach())) << i;
    const at::Tensor weight = at::randn(want[i].sizes());
    want_loss = want_loss + (want[i] * weight).sum();
    got_loss = got_loss + (got[i] * weight.to(at::kCUDA)).sum();
  }
  want_loss.backward();
  got_loss.backward();
  const auto mine = here.named_parameters(), theirs = there.named_parameters();
  for (size_t i = 0; i < mine.size(); ++i) {
    const at::Tensor gradient = mine[i].second.grad(), other = theirs[i].second.grad();
    ASSERT_EQ(gradient.defined(), other.defined()) << mine[i].first;
    if (!gradient.defined()) continue;
    // Only the order of additions in float32 differs.
    const double largest = gradient.abs().max().item<double>();
    EXPECT_LE((other.cpu() - gradient).abs().max().item<double>(), 1e-5 * largest) << mine[i].first;
  }
}

std::vector<std::string> networks() {
  std::vector<std::string> names = {
      "mobilenet_relu", "residual_shared", "inverted_residual", "dilated_conv",   "group_edges", "conv1d_chain",
      "swish",          "pad_modes",       "odd_channels",      "unet",           "pooling",     "conv_transpose",
      "split_branches", "yolo_head",       "se_block",          "channel_shuffle"};
  const ReferenceCases cases = peer_cases();
  if (!cases.whole)
    std::erase_if(names, [&](const auto& name) { return !std::filesystem::exists(cases.folder / name); });
  return names;
}

TEST(FusedTrainingNetworks, AreThere) { EXPECT_GE(std::ssize(networks()), peer_cases().at_least(16, 5)); }

const auto kNetworks = ::testing::Combine(::testing::ValuesIn(networks()), ::testing::Values("esp32p4", "esp32s3"));
const auto kName = [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); };
INSTANTIATE_TEST_SUITE_P(Networks, FusedTraining, kNetworks, kName);
INSTANTIATE_TEST_SUITE_P(Networks, CudaTraining, kNetworks, kName);

}  // namespace
}  // namespace espq
