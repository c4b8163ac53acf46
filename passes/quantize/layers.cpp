#include "passes/quantize/layers.h"

#include <algorithm>

#include "core/support/error.h"
#include "core/support/text.h"

namespace espq {
namespace {

bool is_wildcard(char character) { return character == '*' || character == '?'; }

/// A key that fits one operation.
struct Entry {
  std::string_view key;
  const LayerOptions* options;
  size_t specificity;
};

size_t specificity_of(std::string_view key, std::string_view name) {
  if (key == name) return std::string_view::npos;
  return key.size() - static_cast<size_t>(std::count_if(key.begin(), key.end(), is_wildcard));
}

/// The value of the most specific entry that has one. `entries`: most specific first.
template <typename Field>
Field chosen(const std::vector<Entry>& entries, Field LayerOptions::*field, std::string_view word,
             const Operation& operation) {
  const Entry* found = nullptr;
  for (const Entry& entry : entries) {
    if (!(entry.options->*field)) continue;
    if (!found) {
      found = &entry;
      continue;
    }
    if (entry.specificity < found->specificity) break;
    user_check(entry.options->*field == found->options->*field,
               "layers: '{}' and '{}' are equally specific and set {} of operation '{}' to different values; name the "
               "operation itself",
               found->key, entry.key, word, operation.name());
  }
  return found ? found->options->*field : std::nullopt;
}

[[noreturn]] void report_unknown(const Graph& graph, const std::string& key) {
  std::vector<std::string> names;
  for (const Operation* operation : graph.operations()) names.push_back(operation->name());
  const bool pattern = std::any_of(key.begin(), key.end(), is_wildcard);
  user_error("layers: the simplified network has no operation {}'{}'; did you mean '{}'?", pattern ? "like " : "", key,
             nearest_name(key, names));
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  // Where the last '*' stands and how much of the name it takes up so far; it takes one more when the rest fails.
  size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  return std::all_of(pattern.begin() + static_cast<std::ptrdiff_t>(p), pattern.end(), [](char c) { return c == '*'; });
}

LayerTable::LayerTable(const Graph& graph, const Layers& layers) {
  for (const auto& [key, options] : layers) {
    // A name that happens to hold wildcards means that operation alone.
    if (graph.find_operation(key)) continue;
    const auto fits = [&pattern = key](const Operation* operation) { return matches(pattern, operation->name()); };
    const auto operations = graph.operations();
    const auto is_input = [&pattern = key](const Variable* input) { return matches(pattern, input->name()); };
    if (options.fixes_exponent() && std::any_of(graph.inputs().begin(), graph.inputs().end(), is_input)) continue;
    if (std::none_of(operations.begin(), operations.end(), fits)) report_unknown(graph, key);
  }
  for (const Operation* operation : graph.operations()) {
    std::vector<Entry> entries;
    for (const auto& [key, options] : layers) {
      const bool named = key == operation->name();
      if (named || (!graph.find_operation(key) && matches(key, operation->name())))
        entries.push_back({key, &options, specificity_of(key, operation->name())});
    }
    if (entries.empty()) continue;
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.specificity > b.specificity; });
    options_[operation] = {chosen(entries, &LayerOptions::width, "the width", *operation),
                           chosen(entries, &LayerOptions::observer, "the observer", *operation),
                           chosen(entries, &LayerOptions::parameter_observer, "the parameter observer", *operation),
                           chosen(entries, &LayerOptions::exponent, "the exponent", *operation),
                           chosen(entries, &LayerOptions::range, "the range", *operation)};
  }
}

const LayerOptions& LayerTable::of(const Operation& operation) const {
  static const LayerOptions nothing;
  const auto found = options_.find(&operation);
  return found == options_.end() ? nothing : found->second;
}

}  // namespace espq
