// One forward pass of the same network, in milliseconds: LibTorch's eager float operators, and espq's three precisions.
// forward CASES_FOLDER [--only NAME ...] [Google Benchmark options, --benchmark_repetitions=5
// --benchmark_enable_random_interleaving=true for networks of microseconds]; a case is a folder with model.onnx and
// calib/.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <iostream>

#include "benchmarks/cases.h"
#include "benchmarks/eager.h"
#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/convert.h"

namespace espq {
namespace {

/// One network in every form; lives as long as the benchmarks that point into it.
struct Case {
  std::string name;
  Graph simplified, quantized, chip;
  Tensors inputs, chip_inputs;
  std::unique_ptr<EagerNetwork> eager;
  std::unique_ptr<Executor> simulated, board;
};

std::unique_ptr<Case> load(const std::filesystem::path& folder) {
  auto network = std::make_unique<Case>();
  network->name = folder.filename().string();
  network->quantized = import_onnx(folder / "model.onnx");
  const Dataset data = Dataset::open({folder / "calib"});
  Conversion made = convert(network->quantized, data);
  network->quantized = std::move(made.quantized);
  network->chip = std::move(made.chip);
  network->inputs = data.inputs(network->quantized, 0);
  for (size_t i = 0; i < network->inputs.size(); ++i) {
    network->chip_inputs.push_back(to_chip_layout(*network->chip.inputs()[i], network->inputs[i]));
  }
  network->eager = std::make_unique<EagerNetwork>(network->quantized);
  network->simulated = std::make_unique<Executor>(network->quantized, Precision::Simulated);
  network->board = std::make_unique<Executor>(network->chip, Precision::Board);
  return network;
}

template <typename Forward>
void add_benchmark(const std::string& name, Forward forward) {
  benchmark::RegisterBenchmark(name.c_str(), [forward](benchmark::State& state) {
    const c10::InferenceMode no_gradients;
    forward();  // compiles the plan
    for (auto iteration : state) benchmark::DoNotOptimize(forward());
  })->Unit(benchmark::kMillisecond);
}

void add_case(Case& network) {
  add_benchmark(network.name + "/eager", [&] { return network.eager->run(network.inputs); });
  add_benchmark(network.name + "/simulated", [&] { return network.simulated->run(network.inputs); });
  add_benchmark(network.name + "/board", [&] { return network.board->run(network.chip_inputs); });
}

/// Keeps the times by name, to print ratios at the end. Of repetitions the fastest counts: what disturbs a run of
/// microseconds only ever adds to it.
class RatioReporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      const auto [time, is_first] = times_.emplace(run.benchmark_name(), run.GetAdjustedRealTime());
      if (!is_first) time->second = std::min(time->second, run.GetAdjustedRealTime());
    }
  }
  void print(const std::vector<std::unique_ptr<Case>>& cases) const {
    std::cout << fmt::format("\n{:<24} {:>10} {:>10} {:>8}\n", "ratio to eager float", "simulated", "board",
                             "eager ms");
    double worst_simulated = 0, worst_board = 0;
    for (const auto& network : cases) {
      const double eager = times_.at(network->name + "/eager");
      const double simulated = times_.at(network->name + "/simulated") / eager;
      const double board = times_.at(network->name + "/board") / eager;
      worst_simulated = std::max(worst_simulated, simulated);
      worst_board = std::max(worst_board, board);
      std::cout << fmt::format("{:<24} {:>10.2f} {:>10.2f} {:>8.3f}\n", network->name, simulated, board, eager);
    }
    std::cout << fmt::format("{:<24} {:>10.2f} {:>10.2f}\n", "worst", worst_simulated, worst_board);
  }

 private:
  std::map<std::string, double> times_;
};

std::vector<std::unique_ptr<Case>> load_all(const std::vector<std::filesystem::path>& folders) {
  std::vector<std::unique_ptr<Case>> cases;
  for (const auto& path : folders) {
    try {
      cases.push_back(load(path));
    } catch (const UserError& error) {
      std::cout << path.filename().string() << " left out: " << error.what() << "\n";
    }
  }
  return cases;
}

}  // namespace
}  // namespace espq

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 2) {
    std::cerr << "usage: forward CASES_FOLDER [--only NAME ...] [--benchmark_min_time=SECONDS]\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::warn);
  at::set_num_threads(1);
  const auto cases = espq::load_all(espq::case_folders(argv[1], espq::only_cases(argc, argv)));
  for (const auto& network : cases) espq::add_case(*network);
  espq::RatioReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.print(cases);
}
