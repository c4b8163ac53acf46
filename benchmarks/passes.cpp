// Quantization and layer-wise error analysis of the same network, in milliseconds. passes CASES_FOLDER [--only NAME
// ...] [Google Benchmark options]; a case is a folder with model.onnx and calib/.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "benchmarks/cases.h"
#include "core/analysis/error_analysis.h"
#include "core/support/error.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/convert.h"

namespace espq {
namespace {

struct Case {
  std::string name;
  Graph network, quantized;
  Dataset data;
};

std::unique_ptr<Case> load(const std::filesystem::path& folder) {
  Graph network = import_onnx(folder / "model.onnx");
  Dataset data = Dataset::open({folder / "calib"});
  Graph quantized = convert(network, data).quantized;
  return std::make_unique<Case>(
      Case{folder.filename().string(), std::move(network), std::move(quantized), std::move(data)});
}

template <typename Work>
void add_benchmark(const std::string& name, Work work) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [work](benchmark::State& state) {
                                 for (auto iteration : state) benchmark::DoNotOptimize(work());
                               })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

void add_case(const Case& network) {
  add_benchmark(network.name + "/quantize",
                [&] { return convert(network.network, network.data).chip.operation_count(); });
  add_benchmark(network.name + "/layerwise", [&] { return layerwise_errors(network.quantized, network.data); });
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 2) {
    std::cerr << "usage: passes CASES_FOLDER [--only NAME ...] [--benchmark_min_time=SECONDS]\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::warn);
  at::set_num_threads(1);
  std::vector<std::unique_ptr<espq::Case>> cases;
  for (const auto& folder : espq::case_folders(argv[1], espq::only_cases(argc, argv))) {
    try {
      cases.push_back(espq::load(folder));
      espq::add_case(*cases.back());
    } catch (const espq::UserError& error) {
      std::cout << folder.filename().string() << " left out: " << error.what() << "\n";
    }
  }
  benchmark::RunSpecifiedBenchmarks();
}
