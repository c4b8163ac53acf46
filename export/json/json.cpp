#include "export/json/json.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "core/support/error.h"

namespace espq {
namespace {

using Json = nlohmann::ordered_json;

std::string platform_name(const Graph& graph, const Operation& operation) {
  const Width width = operation.width().value_or(Width::Float);
  if (width == Width::Float) return "FP32";
  const Target& target = *graph.target();
  const std::string prefix = !target.vector_unit ? "ESPDL_C_" : target.name == "esp32s3" ? "ESPDL_S3_" : "ESPDL_";
  if (operation.chip().kernels == Width::Int16Weights8) return prefix + "W8A16";
  return prefix + (width.activations == 8 ? "INT8" : "INT16");
}

Json policy_json(bool per_channel) {
  return {{"PER_TENSOR", !per_channel}, {"PER_CHANNEL", per_channel}, {"LINEAR", true},     {"FLOATING", false},
          {"SYMMETRICAL", true},        {"ASYMMETRICAL", false},      {"POWER_OF_2", true}, {"DYNAMIC", false}};
}

class QuantizationWriter {
 public:
  explicit QuantizationWriter(const Graph& graph) : graph_(graph) {}

  Json write() {
    Json configs = Json::object(), dispatchings = Json::object();
    for (const Operation* operation : graph_.operations()) {
      if (!operation->quantized()) continue;
      Json entry = Json::object();
      add_slots(entry, *operation, operation->inputs(), operation->input_quant());
      add_slots(entry, *operation, operation->outputs(), operation->output_quant());
      configs[operation->name()] = std::move(entry);
      dispatchings[operation->name()] = platform_name(graph_, *operation);
    }
    return {{"configs", std::move(configs)}, {"dispatchings", std::move(dispatchings)}, {"values", std::move(values_)}};
  }

 private:
  const Graph& graph_;
  Json values_ = Json::object();
  std::unordered_map<ScaleId, uint32_t> hashes_;
  uint32_t last_hash_ = 0;

  /// A linear congruential generator with full period: no number comes twice.
  uint32_t next_hash() { return last_hash_ = 214013u * last_hash_ + 2531011u; }
  uint32_t hash_of(ScaleId scale) {
    const auto [known, fresh] = hashes_.try_emplace(scale, 0);
    if (fresh) known->second = next_hash();
    return known->second;
  }

  void add_slots(Json& entry, const Operation& operation, std::span<const Variable* const> variables,
                 const std::vector<SlotQuant>& slots) {
    for (size_t slot = 0; slot < slots.size() && slot < variables.size(); ++slot)
      if (variables[slot]) entry[variables[slot]->name()] = config_json(operation, slots[slot]);
  }

  Json config_json(const Operation& operation, const SlotQuant& slot) {
    const int bits = slot.bits ? slot.bits : operation.width().value_or(Width::Int8).activations;
    const int64_t largest = bits >= 64 ? std::numeric_limits<int64_t>::max() : (int64_t{1} << (bits - 1)) - 1;
    const bool has_scale = slot.scale != kNoScale;
    const uint32_t hash = has_scale ? hash_of(slot.scale) : next_hash();
    uint32_t dominator = hash;
    if (has_scale && !slot.is_float()) {
      // A slot that carries the grid of another one points there; all others have a value of their own.
      if (slot.state == SlotState::Carries) dominator = hash_of(graph_.scales().root(slot.scale));
      add_value(dominator, slot);
    }
    return {{"bit_width", bits},
            {"policy", policy_json(slot.channel_axis >= 0)},
            {"state", json_state_name(slot.state)},
            {"quant_min", -largest - 1},
            {"quant_max", largest},
            {"hash", hash},
            {"dominator", dominator}};
  }

  void add_value(uint32_t hash, const SlotQuant& slot) {
    const std::string key = std::to_string(hash);
    if (values_.contains(key)) return;
    const std::vector<int>& exponents = slot_exponents(graph_, slot);
    Json scale, zero;  // null: not known
    if (slot.channel_axis >= 0) {
      for (const int exponent : exponents) {
        scale.push_back(std::ldexp(1.0, exponent));
        zero.push_back(0.0);
      }
    } else if (!exponents.empty()) {
      scale = std::ldexp(1.0, exponents[0]);
      zero = 0.0;
    }
    values_[key] = {{"scale", std::move(scale)}, {"zero_point", std::move(zero)}};
  }
};

}  // namespace

std::string_view json_state_name(SlotState state) {
  switch (state) {
    case SlotState::Float:
      return "FP32";
    case SlotState::Pending:
      return "INITIAL";
    case SlotState::Derived:
      return "PASSIVE_INIT";
    case SlotState::Quantizes:
      return "ACTIVATED";
    case SlotState::QuantizesShared:
      return "PASSIVE";
    case SlotState::Carries:
      return "OVERLAPPED";
  }
  internal_check(false, "unknown slot state");
  return {};
}

Json quantization_json(const Graph& chip_graph) { return QuantizationWriter(chip_graph).write(); }

std::string quantization_text(const Graph& chip_graph) {
  return quantization_json(chip_graph).dump(4, ' ', true, Json::error_handler_t::replace);
}

}  // namespace espq
