// A TorchScript file becomes an .espdl file: read, convert, write. docs/torch_import.md explains the first
// step.
#include <iostream>

#include "core/analysis/error_analysis.h"
#include "core/support/error.h"
#include "passes/pipeline/write.h"
#include "torch_frontend/torch_frontend.h"

namespace {

void quantize_torchscript(const std::string& model, const std::string& input, const std::string& data,
                          const std::string& out) {
  // One .npy file per batch. The first one shows the network's input shape, which TorchScript files do not record.
  const espq::Dataset calibration = espq::Dataset::open({data});
  espq::TorchImportOptions options;
  options.example[input] = calibration[0].begin()->second;
  const espq::Graph network = espq::import_torch(model, options);

  espq::Recipe recipe;
  recipe.target = "esp32p4";
  const espq::Conversion made = espq::convert(network, calibration, recipe);
  espq::export_espdl(made, {}, out);

  const espq::ErrorAnalysisOptions analysis;
  std::cout << espq::to_text(espq::graphwise_errors(made.quantized, calibration, analysis), analysis.measure, 10);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: quantize_torchscript MODEL.pt INPUT_NAME CALIBRATION_FOLDER OUT.espdl\n";
    return 2;
  }
  try {
    quantize_torchscript(argv[1], argv[2], argv[3], argv[4]);
  } catch (const espq::UserError& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
