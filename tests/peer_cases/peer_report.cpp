// Repeats the runs of esp-ppq 1.3.12 in the reference collection and prints what differs.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "tests/peer_cases/peer_comparison.h"

using namespace espq;

int main(int argc, char** argv) {
  CLI::App app{"Compares espq's files with those of esp-ppq 1.3.12"};
  std::string network, target;
  int bits = 8;
  bool original = false, plain = false;
  size_t shown = 5;
  app.add_option("--case", network, "one network");
  app.add_option("--target", target, "one chip");
  app.add_option("--bits", bits, "8 or 16: width of the runs");
  app.add_flag("--original", original, "from the user's model instead of the one after onnxsim");
  app.add_flag("--plain", plain, "runs without options only");
  app.add_option("--show", shown, "differences to print per run");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  std::map<std::string_view, int> counts;
  for (const PeerRun& run : peer_runs(ESPQ_RECIPES "/esp-ppq-1.3.12.json")) {
    if (!network.empty() && run.network != network) continue;
    if (!target.empty() && run.recipe.target != target) continue;
    if (run.recipe.widths.bits != bits) continue;
    const std::string folder = run.folder.filename();  // <target>_<width>[_<option>]
    if (plain && std::count(folder.begin(), folder.end(), '_') > 1) continue;
    const PeerComparison result = compare_with_peer(run, original ? PeerSource::Original : PeerSource::Simplified);
    ++counts[to_text(result.status)];
    fmt::print("{:45} {:12} {}\n", run.name(), to_text(result.status), result.message);
    for (size_t i = 0; i < std::min(shown, result.differences.size()); ++i) {
      const EspdlDifference& one = result.differences[i];
      fmt::print("    {} {}: {} {}\n", one.kind, one.where, one.what,
                 result.reasons[i].empty() ? "" : "[" + result.reasons[i] + "]");
    }
    if (result.differences.size() > shown) fmt::print("    ... {} in all\n", result.differences.size());
    std::fflush(stdout);
  }
  for (const auto& [status, count] : counts) fmt::print("{}: {}\n", status, count);
  return counts.contains("different") || counts.contains("FAILED") ? 1 : 0;
}
