// A training step with fused kernels against the same graph by LibTorch's operators one by one, which is what the
// executor runs where a hook watches.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline.h"
#include "qat/trainable_graph.h"
#include "tests/reference_data.h"

namespace espq {
namespace {

class FusedTraining : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(FusedTraining, GivesTheValuesAndGradientsOfSingleOperators) {
  ESPQ_REQUIRE_REFERENCE_DATA("peer_cases");
  const auto [network, target] = GetParam();
  Graph graph = import_onnx(reference_data() / "peer_cases" / network / "model.onnx");
  at::manual_seed(5);
  std::vector<Dataset::Batch> data(2);
  for (Dataset::Batch& batch : data) batch[""] = at::randn(*graph.inputs[0]->shape);
  QuantizeOptions options;
  options.target = target;
  quantize(graph, Dataset(std::move(data)), options);
  const at::Tensor input = 1.3 * at::randn(*graph.inputs[0]->shape);  // some values leave their grids

  TrainableGraph trainable(graph);
  std::map<std::string, at::Tensor> leaves;
  for (const auto& [name, parameter] : trainable.named_parameters())
    leaves[name] = graph.find_variable(name)->value = parameter.detach().clone().requires_grad_();
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

INSTANTIATE_TEST_SUITE_P(
    Networks, FusedTraining,
    ::testing::Combine(::testing::Values("mobilenet_relu", "residual_shared", "inverted_residual", "dilated_conv",
                                         "group_edges", "conv1d_chain", "swish", "pad_modes", "odd_channels", "unet",
                                         "pooling", "conv_transpose", "split_branches", "yolo_head", "se_block",
                                         "channel_shuffle"),
                       ::testing::Values("esp32p4", "esp32s3")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

}  // namespace
}  // namespace espq
