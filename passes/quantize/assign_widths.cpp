#include "passes/quantize/assign_widths.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

/// A float function that the chip can only read from a table.
bool needs_table(const Operation& operation) {
  return definition_of(operation).only_as_table() && operation.input(0) && is_floating(*operation.input(0)) &&
         is_floating(*operation.output());
}

/// Operations that stand between layers in float alone. Integers there would round, on a grid that has to hold the
/// range of it all (of squares, say), what was computed in float and is read as float.
class FloatIslands {
 public:
  /// `free`: whose width nobody asked for.
  FloatIslands(const Graph& graph, const std::vector<Operation*>& free) : graph_(graph) {
    for (Operation* operation : free)
      if (!operation->width()->is_float() && runs_cheaply(*operation)) members_.insert(operation);
    // Of all that could be, what is left when nobody at a border is.
    for (bool changed = true; changed;)
      changed = std::erase_if(members_, [&](const Operation* operation) { return !is_enclosed(*operation); }) > 0;
  }

  bool has(const Operation& operation) const { return members_.count(&operation) > 0; }

 private:
  const Graph& graph_;
  std::unordered_set<const Operation*> members_;

  static bool runs_cheaply(const Operation& operation) {
    const OperatorDefinition& definition = definition_of(operation);
    return definition.chip.kernels.float32 && !definition.has_weights();
  }
  bool computes_in_float(const Operation& operation) const {
    return operation.width()->is_float() || members_.count(&operation) > 0;
  }
  bool gives_floats(const Operation& operation) const {
    return computes_in_float(operation) || definition_of(operation).quantization.float_output;
  }
  bool is_enclosed(const Operation& operation) const {
    bool computed = false;
    for (const Variable* input : operation.inputs()) {
      if (!input || input->is_parameter()) continue;
      if (!input->producer() || !gives_floats(*input->producer())) return false;
      computed = true;
    }
    return computed && std::all_of(operation.outputs().begin(), operation.outputs().end(), [&](const Variable* output) {
             return !output || (!graph_.is_output(output) && is_read_as_float(*output));
           });
  }
  bool is_read_as_float(const Variable& variable) const {
    return std::all_of(variable.uses().begin(), variable.uses().end(),
                       [&](const ConstUse& use) { return computes_in_float(*use.operation); });
  }
};

}  // namespace

Width default_width(const Operation& operation, int bits, const Quirks& quirks) {
  const OperatorDefinition& definition = definition_of(operation);
  const bool fits = !quirks.widths_ignore_kernels, table = fits && needs_table(operation);
  if (!definition.quantization.quantizable && !table) return Width::Float;
  const bool eight_only = !table && definition.chip.kernels.int8 && !definition.chip.kernels.int16;
  return bits == 8 || (fits && eight_only) ? Width::Int8 : Width::Int16;
}

bool becomes_table(const Operation& operation) { return needs_table(operation) && !operation.width()->is_float(); }

PassReport assign_widths(Graph& graph, const WidthOptions& options, const Layers& layers, const Quirks& quirks) {
  user_check(options.bits == 8 || options.bits == 16, "widths.bits: {} is not a width of the chips; use 8 or 16",
             options.bits);
  const LayerTable table(graph, layers);
  PassReport report{"assign_widths"};
  std::vector<Operation*> free;
  std::unordered_map<const Operation*, std::optional<Width>> before;
  for (Operation* operation : graph.operations()) {
    before[operation] = operation->width();
    const LayerOptions& own = table.of(*operation);
    if (!operation->width() && !own.width && !own.fixes_exponent()) free.push_back(operation);
    Width width = operation->width().value_or(default_width(*operation, options.bits, quirks));
    if (own.width) width = takes_8bit_weights(*operation) ? *own.width : own.width->without_weights();
    operation->set_width(width);
  }
  const FloatIslands islands(graph, quirks.widths_ignore_kernels ? std::vector<Operation*>() : free);
  for (Operation* operation : graph.operations()) {
    if (islands.has(*operation)) operation->set_width(Width::Float);
    const std::string what = fmt::format("{} operation", enum_name(*operation->width()));
    if (operation->width() == before.at(operation))
      report.note(what);
    else
      report.count(what);
  }
  return report;
}

}  // namespace espq
