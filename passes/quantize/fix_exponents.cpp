#include "passes/quantize/fix_exponents.h"

#include <map>

#include "core/support/error.h"
#include "passes/quantize/observer.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

class Fixer {
 public:
  Fixer(Graph& graph, const Layers& layers, const Quirks& quirks) : graph_(graph), layers_(layers), quirks_(quirks) {}

  PassReport run() {
    const LayerTable table(graph_, layers_);
    for (const Operation* operation : graph_.operations()) {
      const LayerOptions& options = table.of(*operation);
      if (!options.fixes_exponent()) continue;
      user_check(operation->quantized() && has_exponents(graph_, operation->output_quant()[0]),
                 "layers: the result of operation '{}' has no exponent to fix: it stays float", operation->name());
      fix(operation->name(), operation->output_quant()[0], options);
    }
    for (const Variable* input : std::as_const(graph_).inputs())
      for (const auto& [key, options] : layers_)
        if (options.fixes_exponent() && matches(key, input->name())) fix_input(*input, options);
    return report_;
  }

 private:
  void fix_input(const Variable& input, const LayerOptions& options) {
    bool read = false;
    for (const ConstUse& use : input.uses()) {
      if (!use.operation->quantized()) continue;
      const SlotQuant& slot = use.operation->input_quant()[static_cast<size_t>(use.slot)];
      if (slot.is_float() || !has_exponents(graph_, slot)) continue;
      fix(input.name(), slot, options);
      read = true;
    }
    user_check(read, "layers: input '{}' has no exponent to fix: it stays float", input.name());
  }

  void fix(const std::string& name, const SlotQuant& slot, const LayerOptions& options) {
    user_check(slot.channel_axis < 0, "layers: '{}' has an exponent per channel, which cannot be fixed", name);
    const int exponent = options.exponent ? *options.exponent : exponent_of(name, *options.range, slot.bits);
    const auto [owner, is_new] = fixed_.emplace(graph_.scales().root(slot.scale), std::pair{name, exponent});
    user_check(owner->second.second == exponent,
               "layers: '{}' and '{}' share one scale; 2^{} and 2^{} cannot both be it", owner->second.first, name,
               owner->second.second, exponent);
    if (slot_exponents(graph_, slot) == std::vector<int>{exponent}) return;
    graph_.scales().set_exponents(slot.scale, {exponent});
    report_.count("exponent fixed", name);
  }

  int exponent_of(const std::string& name, const std::vector<double>& range, int bits) const {
    user_check(range.size() == 2 && range[0] <= range[1], "layers: the range of '{}' is no pair of numbers [low, high]",
               name);
    return exponent_of_range(range[0], range[1], bits, range_rule(quirks_));
  }

  Graph& graph_;
  const Layers& layers_;
  const Quirks& quirks_;
  std::map<ScaleId, std::pair<std::string, int>> fixed_;  ///< by owner of the scale: who fixed it, and to what
  PassReport report_{"fix_exponents"};
};

}  // namespace

PassReport fix_exponents(Graph& graph, const Layers& layers, const Quirks& quirks) {
  return Fixer(graph, layers, quirks).run();
}

}  // namespace espq
