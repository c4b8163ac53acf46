#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/graph/graph.h"

namespace espq {

/// The quantization of a chip graph in the form of esp-ppq 1.3.12's .json file:
/// - configs: per quantized operation and tensor name bit_width, policy, state, quant_min, quant_max, hash, dominator;
/// - dispatchings: per operation the platform that computes it;
/// - values: per hash of a dominating config scale and zero_point, one number or one per channel.
/// The scale of a tensor is values[configs[operation][tensor].dominator]. Hashes only connect the two parts; here they
/// are the same in every run. Operations that only convert between grids have no entry.
nlohmann::ordered_json quantization_json(const Graph& chip_graph);

/// The incumbent's word for a slot's state: "ACTIVATED", "OVERLAPPED" ...
std::string_view json_state_name(SlotState state);

/// As the incumbent prints it: four blanks of indentation, ASCII, no newline at the end.
std::string quantization_text(const Graph& chip_graph);

}  // namespace espq
