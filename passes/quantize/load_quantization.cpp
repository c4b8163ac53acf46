#include "passes/quantize/load_quantization.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/ops/operator.h"
#include "core/support/error.h"
#include "core/support/file.h"
#include "passes/quantize/slots.h"

namespace espq {
namespace {

using Json = nlohmann::ordered_json;

// ------------------------------------------------------------------------------------------------ the file
int exponent_of(const Json& scale, const std::string& where) {
  user_check(scale.is_number(), "{}: the scale {} is no number", where, scale.dump());
  int exponent = 0;
  user_check(std::frexp(scale.get<double>(), &exponent) == 0.5, "{}: the scale {} is no power of two", where,
             scale.dump());
  return exponent - 1;
}

/// The member, which has to be there.
const Json& member(const Json& object, const std::string& key, const std::string& where) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  user_check(found != object.end(), "{}: has no \"{}\"; a quantization file of espq or esp-ppq has", where, key);
  return *found;
}

StoredGrid read_grid(const std::string& tensor, const Json& config, const Json& values, const std::string& where) {
  StoredGrid grid{tensor};
  const Json &bits = member(config, "bit_width", where), &state = member(config, "state", where);
  user_check(bits.is_number_integer() && state.is_string(), "{}: bit_width or state is of another type", where);
  grid.bits = bits.get<int>();
  grid.is_float = state == "FP32";
  const auto value = values.find(member(config, "dominator", where).dump());
  if (grid.is_float || value == values.end()) return grid;
  const Json& scale = member(*value, "scale", where);
  if (scale.is_array()) {
    for (const Json& single : scale) grid.exponents.push_back(exponent_of(single, where));
  } else if (!scale.is_null()) {
    grid.exponents = {exponent_of(scale, where)};
  }
  return grid;
}

// ------------------------------------------------------------------------------------------------ its places in a
// graph
/// Operands and results, each once: the order of the file.
std::vector<const Variable*> tensors_of(const Operation& operation) {
  std::vector<const Variable*> tensors;
  for (const auto& list : {operation.inputs(), operation.outputs()})
    for (const Variable* variable : list)
      if (variable && std::find(tensors.begin(), tensors.end(), variable) == tensors.end()) tensors.push_back(variable);
  return tensors;
}

/// What the file says of every tensor of an operation that it has.
std::map<const Variable*, const StoredGrid*> grids_of(const Operation& operation,
                                                      const StoredQuantization::Operation& stored) {
  std::map<const Variable*, const StoredGrid*> grids;
  const std::vector<const Variable*> tensors = tensors_of(operation);
  if (tensors.size() == stored.tensors.size()) {
    for (size_t i = 0; i < tensors.size(); ++i) grids[tensors[i]] = &stored.tensors[i];
    return grids;
  }
  for (const Variable* tensor : tensors)
    for (const StoredGrid& grid : stored.tensors)
      if (grid.tensor == tensor->name()) grids[tensor] = &grid;
  return grids;
}

/// The activation's result is in the file as that of the operation in front, into which the exporter fused it.
bool is_fused(const Operation& operation, const StoredQuantization& stored) {
  if (!definition_of(operation).quantization.fused_activation || !operation.input(0)) return false;
  const Operation* producer = operation.input(0)->producer();
  const auto* entry = producer ? stored.find(producer->name()) : nullptr;
  return entry && !entry->tensors.empty() && entry->tensors.back().tensor == operation.output()->name();
}

class Loader {
 public:
  Loader(Graph& graph, const StoredQuantization& stored) : graph_(graph), stored_(stored) {}

  PassReport run() {
    for_each_slot(graph_, [&](Operation& operation, SlotQuant& slot, Variable* variable, int, bool) {
      const StoredGrid* grid = variable ? grid_of(operation, *variable) : nullptr;
      if (grid && slot.state != SlotState::Derived && !slot.is_float()) load(operation, *variable, slot, *grid);
    });
    settle_groups();
    // Owners of a scale that the file knows by another slot: a Relu that the exporter fused.
    for_each_slot(graph_, [&](Operation&, SlotQuant& slot, Variable*, int, bool) {
      if (slot.state == SlotState::Pending && has_exponents(graph_, slot)) slot.state = SlotState::Quantizes;
    });
    list_differences();
    return report_;
  }

 private:
  struct Wanted {
    const Operation* operation;
    SlotQuant* slot;
    std::vector<int> exponents;
  };

  const StoredGrid* grid_of(const Operation& operation, const Variable& variable) {
    const auto [known, is_new] = grids_.try_emplace(&operation);
    if (is_new) {
      if (const auto* stored = stored_.find(operation.name())) known->second = grids_of(operation, *stored);
    }
    const auto found = known->second.find(&variable);
    return found == known->second.end() ? nullptr : found->second;
  }

  void load(const Operation& operation, const Variable& variable, SlotQuant& slot, const StoredGrid& grid) {
    const std::string where =
        fmt::format("{}: operation '{}', tensor '{}'", stored_.file, operation.name(), grid.tensor);
    if (grid.is_float) {
      user_check(slot.state != SlotState::Carries, "{}: is float there, but tied to an integer tensor here", where);
      slot.state = SlotState::Float;
      report_.count("slot left in float", operation.name());
      return;
    }
    if (grid.exponents.empty()) return;
    user_check(grid.bits == slot.bits, "{}: has {} bits there, {} here; give the recipe that it was made with", where,
               grid.bits, slot.bits);
    if (grid.exponents.size() == 1) {
      slot.channel_axis = -1;
    } else {
      user_check(slot.channel_axis >= 0,
                 "{}: has one exponent per channel, which {} does not run; the file is for "
                 "another chip",
                 where, graph_.target()->name);
      const int64_t channels = variable.shape()->at(slot.channel_axis);
      user_check(static_cast<int64_t>(grid.exponents.size()) == channels, "{}: {} exponents for {} channels", where,
                 grid.exponents.size(), channels);
    }
    report_.count("grid", operation.name());
    if (slot.state == SlotState::Pending) slot.state = SlotState::Quantizes;
    wanted_.push_back({&operation, &slot, grid.exponents});
  }

  /// Whoever owns a scale decides for all that are tied to it; those of whom the file says something else leave.
  void settle_groups() {
    ScaleForest& scales = graph_.scales();
    for (const Wanted& wanted : wanted_)
      if (scales.is_root(wanted.slot->scale)) scales.set_exponents(wanted.slot->scale, wanted.exponents);
    for (const Wanted& wanted : wanted_)
      if (!has_exponents(graph_, *wanted.slot)) scales.set_exponents(wanted.slot->scale, wanted.exponents);
    for (bool moved = true; moved;) {
      moved = false;
      for (const Wanted& wanted : wanted_) {
        if (slot_exponents(graph_, *wanted.slot) == wanted.exponents) continue;
        internal_check(!scales.is_root(wanted.slot->scale), "a scale has two owners: " + wanted.operation->name());
        scales.detach(wanted.slot->scale);
        scales.set_exponents(wanted.slot->scale, wanted.exponents);
        wanted.slot->state = SlotState::Quantizes;
        report_.count("slot with a grid of its own", wanted.operation->name());
        moved = true;
      }
    }
  }

  void list_differences() {
    std::vector<std::string> missing, unknown;
    for (const Operation* operation : graph_.operations())
      if (operation->quantized() && !stored_.find(operation->name()) && !is_fused(*operation, stored_))
        missing.push_back(operation->name());
    for (const auto& operation : stored_.operations)
      if (!graph_.find_operation(operation.name)) unknown.push_back(operation.name);
    warn("has no grids for", missing);
    warn("has grids for operations that the network does not have (exporters insert some):", unknown);
  }

  void warn(const char* what, std::vector<std::string> names) {
    if (names.empty()) return;
    report_.warnings.push_back(fmt::format("{} {} '{}'", stored_.file, what, fmt::join(names, "', '")));
  }

  Graph& graph_;
  const StoredQuantization& stored_;
  std::map<const Operation*, std::map<const Variable*, const StoredGrid*>> grids_;
  std::vector<Wanted> wanted_;
  PassReport report_{"load_quantization"};
};

}  // namespace

const StoredQuantization::Operation* StoredQuantization::find(const std::string& name) const {
  const auto found = std::find_if(operations.begin(), operations.end(),
                                  [&](const Operation& operation) { return operation.name == name; });
  return found == operations.end() ? nullptr : &*found;
}

namespace {

/// Of the first operand or result that is data and no constant; 0 when the file has none.
int activation_bits(const Operation& operation, const std::map<const Variable*, const StoredGrid*>& grids) {
  const OperatorDefinition& definition = definition_of(operation);
  const auto bits = [&](const Variable* tensor, OperandRole role) {
    const auto found = grids.find(tensor);
    const bool data = tensor && !tensor->is_parameter() && (role == OperandRole::Data || role == OperandRole::Mask);
    return data && found != grids.end() && !found->second->is_float ? found->second->bits : 0;
  };
  for (size_t i = 0; i < operation.inputs().size(); ++i)
    if (const int found = bits(operation.input(i), definition.input_spec(i).role)) return found;
  for (size_t i = 0; i < operation.outputs().size(); ++i)
    if (const int found = bits(operation.output(i), definition.output_spec(i).role)) return found;
  return 0;
}

}  // namespace

StoredQuantization read_quantization(const std::filesystem::path& file) {
  const Json json = Json::parse(read_file(file), nullptr, false);
  user_check(!json.is_discarded(), "{}: is no JSON", file.string());
  const Json &configs = member(json, "configs", file.string()), &values = member(json, "values", file.string());
  StoredQuantization stored{file.string(), {}};
  for (const auto& [name, tensors] : configs.items()) {
    auto& operation = stored.operations.emplace_back(StoredQuantization::Operation{name, {}});
    user_check(tensors.is_object() && !tensors.empty(), "{}: operation '{}' has no tensors", file.string(), name);
    for (const auto& [tensor, config] : tensors.items()) {
      if (tensor.empty()) continue;  // an omitted operand
      operation.tensors.push_back(read_grid(
          tensor, config, values, fmt::format("{}: operation '{}', tensor '{}'", file.string(), name, tensor)));
    }
  }
  return stored;
}

PassReport load_widths(Graph& graph, const StoredQuantization& stored) {
  PassReport report{"load_widths"};
  for (Operation* operation : graph.operations()) {
    const auto* entry = stored.find(operation->name());
    if (!entry) continue;
    const auto grids = grids_of(*operation, *entry);
    const int bits = activation_bits(*operation, grids);
    if (bits == 0) continue;
    Width width{bits, bits};
    const auto slot = definition_of(*operation).input_slot(OperandRole::Weight);
    const Variable* weight = slot ? operation->input(*slot) : nullptr;
    if (const auto found = grids.find(weight); weight && weight->is_parameter() && found != grids.end())
      width.weights = found->second->bits;
    if (operation->width() == width) continue;
    operation->set_width(width);
    report.count(fmt::format("{} operation", enum_name(width)), operation->name());
  }
  return report;
}

PassReport load_quantization(Graph& graph, const StoredQuantization& stored) { return Loader(graph, stored).run(); }

std::vector<std::string> waiting_tensors(const Graph& graph) {
  std::set<std::string> names;
  for (const Operation* operation : graph.operations()) {
    const auto collect = [&](std::span<const Variable* const> tensors, const std::vector<SlotQuant>& slots) {
      for (size_t i = 0; i < slots.size(); ++i)
        if (slots[i].state == SlotState::Pending && tensors[i]) names.insert(tensors[i]->name());
    };
    collect(operation->inputs(), operation->input_quant());
    collect(operation->outputs(), operation->output_quant());
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> moved_exponents(const Graph& graph, const StoredQuantization& stored) {
  std::vector<std::string> lines;
  for (const Operation* operation : graph.operations()) {
    const auto* entry = operation->quantized() ? stored.find(operation->name()) : nullptr;
    if (!entry) continue;
    const auto grids = grids_of(*operation, *entry);
    const auto compare = [&](std::span<const Variable* const> tensors, const std::vector<SlotQuant>& slots) {
      for (size_t i = 0; i < slots.size(); ++i) {
        const auto found = grids.find(tensors[i]);
        if (found == grids.end() || found->second->exponents.empty() || slots[i].is_float()) continue;
        const std::vector<int>& now = slot_exponents(graph, slots[i]);
        if (now != found->second->exponents)
          lines.push_back(fmt::format("'{}', tensor '{}': 2^{} instead of 2^{}", operation->name(), tensors[i]->name(),
                                      fmt::join(now, ","), fmt::join(found->second->exponents, ",")));
      }
    };
    compare(operation->inputs(), operation->input_quant());
    compare(operation->outputs(), operation->output_quant());
  }
  return lines;
}

}  // namespace espq
