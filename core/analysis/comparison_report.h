#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/analysis/compare.h"

namespace espq {

/// For a terminal: outputs, first parting, and a bar for each of the `rows` layers with the most noise, with its cause.
std::string to_text(const Comparison& comparison, size_t rows);

/// Everything; numbers that JSON does not have (infinite) are null.
nlohmann::ordered_json to_json(const Comparison& comparison);

/// A bar of `cells` characters.
std::string text_bar(double share, int cells = 20);

/// Positions in `errors`, most noise first.
std::vector<size_t> worst_first(const std::vector<TensorError>& errors);
/// "carried", else the name of the cause; empty without one.
std::string_view shown_cause(const TensorError& error);

/// Positions of those that make noise themselves, most own noise first.
std::vector<size_t> sources_first(const std::vector<TensorError>& errors);

}  // namespace espq
