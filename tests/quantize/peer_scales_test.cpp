// Every scale that esp-ppq 1.3.12 chose on the reference networks, against the parity recipe. peer.json was written
// after the export steps, so slots are matched by operation and variable name where both graphs have them; whole files
// are compared by the peer file tests.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/operator.h"
#include "export/json/json.h"
#include "onnx_frontend/onnx_frontend.h"
#include "tests/peer_run.h"

namespace espq {
namespace {

struct Comparison {
  int slots = 0, unmatched = 0;
  std::vector<std::string> differences;
};

/// What peer.json says about one slot; no exponents when the package has no scale for it.
struct PeerSlot {
  int bits;
  std::string state;
  std::vector<int> exponents;
};

PeerSlot read_slot(const nlohmann::json& config, const nlohmann::json& values) {
  PeerSlot slot{config.at("bit_width"), config.at("state"), {}};
  const auto found = values.find(std::to_string(config.at("dominator").get<uint64_t>()));
  if (found == values.end() || found->at("scale").is_null()) return slot;
  const nlohmann::json& scale = found->at("scale");
  const auto exponent = [](const nlohmann::json& value) { return static_cast<int>(std::log2(value.get<double>())); };
  if (scale.is_array()) {
    for (const auto& value : scale) slot.exponents.push_back(exponent(value));
  } else {
    slot.exponents.push_back(exponent(scale));
  }
  return slot;
}

class PeerComparison {
 public:
  PeerComparison(const Graph& graph, const nlohmann::json& peer) : graph_(graph), peer_(peer) {}

  Comparison run() {
    for (const auto& [name, slots] : peer_.at("configs").items()) {
      const Operation* operation = graph_.find_operation(name);
      for (const auto& [variable, config] : slots.items()) {
        const SlotQuant* slot = operation ? find_slot(*operation, variable) : nullptr;
        if (!slot) {
          ++result_.unmatched;
          continue;
        }
        compare(fmt::format("{} {}", name, variable), *slot, read_slot(config, peer_.at("values")));
      }
    }
    return result_;
  }

 private:
  /// The slot of that variable. Of two slots on one variable the package's file shows the last. The exporter merged
  /// Relu into the operation in front, which then shows the Relu's output slot.
  const SlotQuant* find_slot(const Operation& operation, const std::string& variable) const {
    const SlotQuant* found = nullptr;
    if (!operation.quantized()) return found;
    for (size_t i = 0; i < operation.inputs().size(); ++i)
      if (operation.input(i) && operation.input(i)->name() == variable) found = &operation.input_quant()[i];
    for (size_t i = 0; i < operation.outputs().size(); ++i)
      if (operation.output(i)->name() == variable) found = &operation.output_quant()[i];
    if (found || !definition_of(operation).chip.fused_relu) return found;
    const auto readers = graph_.downstream(operation);
    if (readers.size() != 1 || readers[0]->type() != "Relu" || readers[0]->output(0)->name() != variable)
      return nullptr;
    return readers[0]->quantized() ? &readers[0]->output_quant()[0] : nullptr;
  }

  void compare(const std::string& where, const SlotQuant& slot, const PeerSlot& peer) {
    ++result_.slots;
    std::vector<int> own;
    if (slot.scale != kNoScale) own = slot_exponents(graph_, slot);
    if (peer.state == "FP32" && slot.is_float()) return;
    if (own != peer.exponents || slot.bits != peer.bits || json_state_name(slot.state) != peer.state)
      result_.differences.push_back(fmt::format("{}: {} bits [{}] {}, package {} bits [{}] {}", where, slot.bits,
                                                fmt::join(own, ","), json_state_name(slot.state), peer.bits,
                                                fmt::join(peer.exponents, ","), peer.state));
  }

  const Graph& graph_;
  const nlohmann::json& peer_;
  Comparison result_;
};

Comparison compare_run(const PeerRun& run) {
  const bool raw = std::getenv("ESPQ_PEER_RAW") != nullptr;  // for a look at the own simplifier
  Graph graph = import_onnx(raw ? run.model.parent_path() / "model.onnx" : run.model);
  graph = convert(graph, Dataset::open({run.calibration}), run.recipe).quantized;
  const auto peer = nlohmann::json::parse(read_file(run.folder / "peer.json"));
  return PeerComparison(graph, peer).run();
}

TEST(PeerScales, AreThoseOfTheIncumbent) {
  at::set_num_threads(1);
  const char* filter = std::getenv("ESPQ_PEER_RUN");
  int compared = 0, equal = 0, slots = 0, unmatched = 0, skipped = 0;
  for (const PeerRun& run : peer_runs(std::filesystem::path(ESPQ_TEST_DATA) / "../../recipes/esp-ppq-1.3.12.json")) {
    if (filter && run.name().find(filter) == std::string::npos) continue;
    if (!run.has_json()) continue;
    const bool recurrent = run.network == "gru" || run.network == "lstm";  // named like their operator
    if (!run.skipped.empty() || (recurrent && !operators().find(run.network == "gru" ? "GRU" : "LSTM"))) {
      ++skipped;
      continue;
    }
    SCOPED_TRACE(run.name());
    try {
      const Comparison result = compare_run(run);
      ++compared;
      equal += result.differences.empty();
      slots += result.slots;
      unmatched += result.unmatched;
      EXPECT_GT(result.slots, 0);
      EXPECT_TRUE(result.differences.empty()) << fmt::format("{}", fmt::join(result.differences, "\n"));
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
  if (!filter) {
    EXPECT_GE(compared, peer_cases().at_least(270, 6));
  }
  fmt::print(
      "{} of {} runs have the package's scales ({} slots, {} slots of the exporter's own making, {} runs "
      "skipped)\n",
      equal, compared, slots, unmatched, skipped);
}

}  // namespace
}  // namespace espq
