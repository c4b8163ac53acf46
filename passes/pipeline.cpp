#include "passes/pipeline.h"

#include <spdlog/spdlog.h>

#include "core/exec/executor.h"
#include "passes/quantize/quantize_parameters.h"
#include "passes/simplify/decompose_conv_transpose.h"
#include "passes/simplify/format_like_incumbent.h"

namespace espq {
namespace {

/// Runs passes one after the other, timing and logging each.
class PassLog {
 public:
  template <typename Pass>
  void operator()(Pass&& pass) {
    add(timed(pass));
  }
  void add(PassReport report) {
    spdlog::log(report.changed() ? spdlog::level::info : spdlog::level::debug, "{}", to_text(report));
    for (const std::string& warning : report.warnings) spdlog::warn("{}", warning);
    passes_.push_back(std::move(report));
  }
  /// Whether the last pass did anything.
  bool changed() const { return passes_.back().changed(); }
  QuantizeResult result() && { return {std::move(passes_)}; }

 private:
  std::vector<PassReport> passes_;
};

}  // namespace

QuantizeResult quantize(Graph& graph, const Dataset& dataset, const QuantizeOptions& options) {
  const FloatPassOptions& float_passes = options.float_passes;
  PassLog run;
  if (float_passes.simplify)
    for (PassReport& pass : simplify(graph, float_passes.rewrites).passes) run.add(std::move(pass));
  if (float_passes.format_like_incumbent)
    for (PassReport& pass : format_like_incumbent(graph).passes) run.add(std::move(pass));
  bool known_shapes = float_passes.simplify || float_passes.format_like_incumbent;
  if (float_passes.decompose_conv_transpose) {
    run([&] { return decompose_conv_transpose(graph); });
    known_shapes &= !run.changed();
  }
  if (!known_shapes) infer_shapes(graph, zero_inputs(graph));
  QuantizeResult result = std::move(run).result();
  for (PassReport& pass : quantize_simplified(graph, dataset, options).passes) result.passes.push_back(std::move(pass));
  return result;
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
  run([&] { return fit_accumulators(graph, dataset, options.accumulators); });
  if (run.changed()) run([&] { return derive_exponents(graph, options.derive); });
  run([&] { return retype_tables(graph, options.widths.bits, options.tables); });
  return std::move(run).result();
}

}  // namespace espq
