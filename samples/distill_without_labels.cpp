// Quantization-aware training without labels: the quantized network learns to answer like the float one.
//   distill_without_labels MODEL.onnx DATA STEPS OUT.espdl      (DATA: .npy or .npz files, or a folder of them)
#include <ATen/ATen.h>
#include <torch/optim/adam.h>

#include <iostream>

#include "core/support/error.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "qat/distillation.h"
#include "qat/training.h"

namespace {

using espq::Dataset;
using espq::Executor;
using espq::Graph;
using espq::Precision;

/// Signal to noise of the outputs over all batches, in dB.
double decibel(const Graph& quantized, Executor& teacher, const Dataset& data) {
  Executor student(quantized, Precision::Simulated);
  double noise = 0;
  for (size_t i = 0; i < data.size(); ++i) {
    const espq::Tensors inputs = data.inputs(quantized, i);
    noise += espq::relative_error_loss(student.run(inputs), teacher.run(inputs)).item<double>();
  }
  return -10 * std::log10(noise / static_cast<double>(data.size()));
}

void distill(const std::string& model, const std::string& folder, int64_t steps, const std::string& out) {
  const Dataset data = Dataset::open({folder});
  const espq::Recipe recipe;
  const Graph quantized = espq::convert(espq::import_onnx(model), data, recipe).quantized;
  Executor teacher(quantized, Precision::Float);  // the quantized graph still knows its float weights

  espq::TrainOptions options;
  options.quirks = recipe.quirks;
  options.learn_activation_exponents = true;
  espq::TrainableGraph student(quantized, options);
  using torch::optim::AdamOptions;
  torch::optim::Adam optimizer(
      {torch::optim::OptimizerParamGroup(student.weights()),
       torch::optim::OptimizerParamGroup(student.exponents(), std::make_unique<AdamOptions>(1e-2))},
      AdamOptions(2e-4));
  espq::MovingAverage average(student, 0.95);
  espq::FreezeSchedule freeze;
  freeze.add(steps / 2, espq::is_exponent_name);  // the second half trains weights for grids that stay
  for (int64_t step = 0; step < steps; ++step) {
    freeze.apply(student, step);
    const espq::Tensors inputs = data.inputs(quantized, static_cast<size_t>(step) % data.size());
    optimizer.zero_grad();
    espq::relative_error_loss(student.forward(inputs), teacher.run(inputs)).backward();
    optimizer.step();
    average.update();
  }
  average.exchange();
  const espq::Conversion made = espq::finish(student.graph(), data, recipe);
  std::cout << fmt::format("before: {:.2f} dB, after: {:.2f} dB\n", decibel(quantized, teacher, data),
                           decibel(made.quantized, teacher, data));
  espq::NamedTensors inputs;
  for (size_t i = 0; i < quantized.inputs().size(); ++i)
    inputs.emplace(quantized.inputs()[i]->name(), data.inputs(quantized, 0)[i].slice(0, 0, 1));
  espq::export_espdl(made, inputs, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: distill_without_labels MODEL.onnx DATA STEPS OUT.espdl\n";
    return 2;
  }
  try {
    distill(argv[1], argv[2], std::stoll(argv[3]), argv[4]);
  } catch (const espq::UserError& error) {
    std::cerr << "distill_without_labels: error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
