#include "passes/pipeline.h"

#include <spdlog/spdlog.h>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "passes/quantize/quantize_parameters.h"

namespace espq {
namespace {

/// Runs passes one after the other, timing and logging each.
class PassLog {
 public:
  template <typename Pass>
  void operator()(Pass&& pass) {
    passes_.push_back(timed(pass));
    spdlog::info("{}", to_text(passes_.back()));
  }
  QuantizeResult result() && { return {std::move(passes_)}; }

 private:
  std::vector<PassReport> passes_;
};

}  // namespace

void read_recipe(const std::filesystem::path& file, QuantizeOptions& options) {
  from_json(read_file(file), options, file.string());
}

std::string recipe_text(const QuantizeOptions& options) { return to_json(options); }

QuantizeResult quantize(Graph& graph, const Dataset& dataset, const QuantizeOptions& options) {
  return quantize_simplified(graph, dataset, options);
}

QuantizeResult quantize_simplified(Graph& graph, const Dataset& dataset, const QuantizeOptions& options) {
  const Target& target = find_target(options.target);
  PassLog run;
  run([&] { return assign_widths(graph, options.widths); });
  run([&] { return create_slots(graph, target, options.widths.bits, options.observers); });
  run([&] { return tie_fused(graph, options.ties); });
  run([&] { return tie_consumers(graph, options.ties); });
  run([&] { return quantize_parameters(graph, options.observer_rules); });
  run([&] { return calibrate(graph, dataset, options.calibration, options.observer_rules); });
  run([&] { return align_scales(graph, options.alignment); });
  run([&] { return derive_exponents(graph, options.derive); });
  run([&] { return retype_tables(graph, options.widths.bits, options.tables); });
  return std::move(run).result();
}

}  // namespace espq
