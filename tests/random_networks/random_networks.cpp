// random_networks --seeds A:B [--out DIR] [--all]: draws networks, converts them and prints a line for each.
#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "core/support/error.h"
#include "passes/run.h"
#include "spdlog/spdlog.h"
#include "tests/random_networks/trial.h"

namespace espq::random_networks {
namespace {

struct Options {
  std::string seeds = "1:100";
  std::filesystem::path out;
  bool all = false;   ///< write files of all that survive, not of outliers only
  bool text = false;  ///< print the networks and their chip graphs
};

std::pair<uint64_t, uint64_t> range_of(const std::string& seeds) {
  const size_t colon = seeds.find(':');
  user_check(colon != std::string::npos, "--seeds: A:B is needed, for seeds A to B - 1");
  return {std::stoull(seeds.substr(0, colon)), std::stoull(seeds.substr(colon + 1))};
}

std::string summary(const Trial& trial) {
  if (trial.end == Trial::End::Refused) return "refused: " + trial.message;
  if (trial.end == Trial::End::Broken) return "BROKEN: " + trial.message;
  const OutputResult* worst = trial.worst();
  if (!worst) return "survived without outputs";
  return fmt::format("{:.1f} dB, {:.1f} expected", worst->ratio(), worst->expected_ratio());
}

/// What tests/peer/random_networks.py compares.
void write(const Options& options, const RandomNetwork& network, const Trial& trial) {
  const std::filesystem::path base = options.out / std::to_string(network.seed);
  onnx_file::write_model(network.model, base.string() + ".onnx");
  for (const auto& [name, value] : trial.inputs) write_npy(fmt::format("{}.{}.npy", base.string(), name), value);
  for (const OutputResult& output : trial.outputs) {
    write_npy(fmt::format("{}.{}.float.npy", base.string(), output.name), output.computed);
    write_npy(fmt::format("{}.{}.board.npy", base.string(), output.name),
              output.board.reshape(output.computed.sizes()).to(at::kFloat));
    write_npy(fmt::format("{}.{}.expected.npy", base.string(), output.name),
              at::scalar_tensor(output.expected, at::kFloat));
  }
}

int run(const Options& options) {
  const auto [first, last] = range_of(options.seeds);
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / fmt::format("espq_random_networks_{}.espdl", first);
  if (!options.out.empty()) std::filesystem::create_directories(options.out);
  std::map<std::string, int> counts;
  int complaints = 0;
  for (uint64_t seed = first; seed < last; ++seed) {
    const RandomNetwork network = draw_network(seed);
    const Trial trial = try_network(network, file);
    const std::string wrong = complaint(network, trial);
    ++counts[trial.end == Trial::End::Survived ? "survived" : trial.end == Trial::End::Refused ? "refused" : "broken"];
    complaints += !wrong.empty();
    std::cout << fmt::format("{} | {} | {} | {} | {}{}\n", seed, network.operators(), network.recipe.target,
                             network.widths(), summary(trial), wrong.empty() ? "" : " | WRONG: " + wrong)
              << std::flush;
    if (options.text) std::cout << to_text(network.graph()) << trial.chip;
    if (!options.out.empty() && (options.all || !wrong.empty())) write(options, network, trial);
  }
  std::filesystem::remove(file);
  for (const auto& [end, count] : counts) std::cout << fmt::format("{} {}, ", count, end);
  std::cout << fmt::format("{} wrong\n", complaints);
  return complaints > 0;
}

}  // namespace
}  // namespace espq::random_networks

int main(int argc, char** argv) {
  using namespace espq::random_networks;
  CLI::App app("Random networks: each is refused, or survives within the noise of its widths");
  Options options;
  app.add_option("--seeds", options.seeds, "A:B, for seeds A to B - 1");
  app.add_option("--out", options.out, "folder for networks, inputs and outputs of those that are wrong");
  app.add_flag("--all", options.all, "for all networks");
  app.add_flag("--text", options.text, "print the networks and their chip graphs");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::err);
  espq::set_verify_passes(true);
  try {
    return run(options);
  } catch (const espq::UserError& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
