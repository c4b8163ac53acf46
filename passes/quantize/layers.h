#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// What one operation, or one graph input, does differently from the rest of the network; empty = like the rest.
struct LayerOptions {
  std::optional<Width> width = {};                  ///< "float", "int8", "int16" or "w8a16"
  std::optional<Observer> observer = {};            ///< of its activations
  std::optional<Observer> parameter_observer = {};  ///< of its constants; weights per channel always use minmax
  std::optional<int> exponent = {};                 ///< of its first result, or of the graph input: scale 2^exponent
  /// The same by the lowest and highest value that it has to hold.
  std::optional<std::vector<double>> range = {};

  bool fixes_exponent() const { return exponent || range; }

  bool operator==(const LayerOptions&) const = default;
};

template <class Fields>
void describe(Fields& fields, LayerOptions& options) {
  fields("width", options.width);
  fields("observer", options.observer);
  fields("parameter_observer", options.parameter_observer);
  fields("exponent", options.exponent);
  fields("range", options.range);
}

/// Settings by name of an operation of the simplified network (of a graph input, where an exponent is fixed), or by
/// pattern: '*' stands for any characters ('/'
/// included), '?' for one. For every field of an operation the most specific key that sets it wins: its own name before
/// patterns, then the pattern with the most characters that are no wildcard. The order of the keys says nothing.
using Layers = std::map<std::string, LayerOptions>;

/// True when `name` is the pattern, or the pattern's wildcards can stand for what differs.
bool matches(std::string_view pattern, std::string_view name);

/// The settings of every operation of one graph.
class LayerTable {
 public:
  /// Throws UserError naming the key: one that no operation has (with the nearest name), or two patterns that are
  /// equally specific and set a field of one operation to different values.
  LayerTable(const Graph& graph, const Layers& layers);

  /// Nothing set for operations that no key names.
  const LayerOptions& of(const Operation& operation) const;

 private:
  std::unordered_map<const Operation*, LayerOptions> options_;
};

}  // namespace espq
