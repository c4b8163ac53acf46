// Quantization-aware training without labels: the quantized network learns to answer like the float one.
//   distill_without_labels MODEL.onnx DATA STEPS OUT.espdl      (DATA: .npy or .npz files, or a folder of them)
#include <ATen/ATen.h>
#include <torch/optim/adam.h>

#include <iostream>

#include "export/conversion/test_values.h"
#include "export/export.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/lowering/lower.h"
#include "passes/pipeline.h"
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
  Graph quantized = espq::import_onnx(model);
  espq::quantize(quantized, data, espq::QuantizeOptions{});
  Executor teacher(quantized, Precision::Float);  // the quantized graph still knows its float weights

  espq::TrainOptions options;
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
  const Graph trained = student.graph();
  std::cout << fmt::format("before: {:.2f} dB, after: {:.2f} dB\n", decibel(quantized, teacher, data),
                           decibel(trained, teacher, data));
  espq::NamedTensors inputs;
  for (size_t i = 0; i < trained.inputs().size(); ++i)
    inputs.emplace(trained.inputs()[i]->name(), data.inputs(trained, 0)[i].slice(0, 0, 1));
  const Graph chip = espq::lower(trained);
  espq::export_espdl(chip, espq::record_test_values(chip, inputs), out);
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
