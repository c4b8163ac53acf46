// One training step of the same network, in milliseconds: LibTorch's eager float operators, and espq's QAT.
// qat_step MODEL.onnx BATCH STEPS [TARGET [DEVICE]]; prints one line of JSON. Both sides take turns; the medians count.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>
#include <torch/optim/sgd.h>

#include <chrono>
#include <iostream>

#include "benchmarks/eager.h"
#include "core/exec/device.h"
#include "core/support/error.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/convert.h"
#include "qat/trainable_graph.h"

namespace espq {
namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Mean square of all outputs as the loss: every output needs a gradient, and the loss itself costs next to nothing.
template <typename Forward>
double step(const Forward& forward, torch::optim::Optimizer& optimizer) {
  const auto start = std::chrono::steady_clock::now();
  optimizer.zero_grad();
  at::Tensor loss;
  for (const at::Tensor& output : forward()) {
    const at::Tensor part = output.square().mean();
    loss = loss.defined() ? loss + part : part;
  }
  loss.backward();
  optimizer.step();
  loss.item<float>();  // waits for a CUDA device
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

int run(const std::string& model, int64_t batch, int64_t steps, const std::string& target, at::Device device) {
  Graph quantized = import_onnx(model);
  at::manual_seed(1);
  std::vector<Dataset::Batch> data(2);
  for (Dataset::Batch& one : data)
    for (const Variable* input : quantized.inputs())
      one[quantized.inputs().size() == 1 ? "" : input->name()] = at::rand(*input->shape());
  Recipe recipe;
  recipe.target = target;
  quantized = convert(quantized, Dataset(std::move(data)), recipe).quantized;
  Tensors inputs;
  for (const Variable* input : quantized.inputs()) {
    Shape shape = *input->shape();
    shape[0] = batch;
    inputs.push_back(at::rand(shape).to(device));
  }
  TrainableGraph trainable(quantized, {.device = device});
  torch::optim::SGD qat(trainable.parameters(), torch::optim::SGDOptions(1e-5));
  // The float network: the same graph, the same leaf tensors, no rounding.
  Graph floats = quantized.clone();
  move_parameters(floats, device);
  std::vector<at::Tensor> leaves;
  for (const auto& [name, parameter] : trainable.named_parameters()) {
    leaves.push_back(parameter.detach().clone().requires_grad_());
    floats.find_variable(name)->set_value(leaves.back());
  }
  const EagerNetwork eager(floats);
  torch::optim::SGD plain(leaves, torch::optim::SGDOptions(1e-5));
  std::vector<double> float_times, qat_times;
  for (int64_t i = -2; i < steps; ++i) {
    const double a = step([&] { return eager.run(inputs); }, plain);
    const double b = step([&] { return trainable.forward(inputs); }, qat);
    if (i < 0) continue;  // the first ones compile plans and reserve memory
    float_times.push_back(a);
    qat_times.push_back(b);
  }
  std::cout << fmt::format("{{\"float_ms\": {:.3f}, \"qat_ms\": {:.3f}}}\n", median(float_times), median(qat_times));
  return 0;
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: qat_step MODEL.onnx BATCH STEPS [TARGET [DEVICE]]\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::warn);
  try {
    return espq::run(argv[1], std::stoll(argv[2]), std::stoll(argv[3]), argc > 4 ? argv[4] : "esp32p4",
                     at::Device(argc > 5 ? argv[5] : "cpu"));
  } catch (const espq::UserError& error) {
    std::cerr << "qat_step: error: " << error.what() << "\n";
    return 1;
  }
}
