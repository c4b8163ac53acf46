// Quantizes a network and shows where the chip's numbers leave the float ones.
//   compare_precisions MODEL.onnx DATA REPORT.html      (DATA: .npy or .npz files, or a folder of them)
#include <espq/espq.h>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: compare_precisions MODEL.onnx DATA REPORT.html\n";
    return 2;
  }
  const espq::Dataset data = espq::Dataset::open({argv[2]});
  espq::Recipe recipe;
  recipe.target = "esp32p4";
  const espq::Conversion made = espq::convert(espq::import_onnx(argv[1]), data, recipe);

  // The quantized graph still knows its float weights: it is its own reference.
  const espq::Comparison result =
      espq::compare({made.quantized, espq::Precision::Float}, {made.chip, espq::Precision::Board}, data);
  for (const espq::TensorError& output : result.outputs)
    std::cout << output.name << ": " << output.decibel() << " dB, largest error " << output.max_error << "\n";
  for (const size_t worst : espq::sources_first(result.layers)) {
    const espq::TensorError& layer = result.layers[worst];
    std::cout << "most noise: " << layer.name << ", " << layer.explanation << "; try " << layer.advice << "\n";
    break;
  }
  espq::write_file(argv[3], espq::comparison_page(result, argv[1], "the same for esp32p4"));
  return 0;
} catch (const espq::UserError& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
