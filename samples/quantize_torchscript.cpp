// A TorchScript file becomes an .espdl file: read, quantize, lower, write. docs/torch_import.md explains the first
// step.
#include <iostream>

#include "core/analysis/error_analysis.h"
#include "core/support/error.h"
#include "export/conversion/recipe.h"
#include "export/export.h"
#include "passes/lowering/lower.h"
#include "passes/pipeline.h"
#include "torch_frontend/torch_frontend.h"

namespace {

void quantize_torchscript(const std::string& model, const std::string& input, const std::string& data,
                          const std::string& out) {
  // One .npy file per batch. The first one shows the network's input shape, which TorchScript files do not record.
  const espq::Dataset calibration = espq::Dataset::open({data});
  espq::TorchImportOptions options;
  options.example[input] = calibration[0].begin()->second;
  espq::Graph graph = espq::import_torch(model, options);

  espq::QuantizeOptions recipe;
  recipe.target = "esp32p4";
  espq::quantize(graph, calibration, recipe);
  espq::export_espdl(espq::lower(graph), {}, out);

  const espq::ErrorAnalysisOptions analysis;
  std::cout << espq::error_table(espq::graphwise_errors(graph, calibration, analysis), analysis.measure, 10);
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
