#include "passes/optimize/layers_named.h"

#include <algorithm>

#include "core/ops/linear.h"
#include "core/support/error.h"
#include "core/support/text.h"
#include "passes/quantize/layers.h"

namespace espq {

std::vector<std::string> layers_named(const Graph& graph, const std::vector<std::string>& patterns,
                                      std::string_view pass) {
  std::vector<std::string> found, known;
  for (const Operation* operation : graph.topological_order())
    if (linear_operation(*operation)) known.push_back(operation->name());
  for (const std::string& pattern : patterns) {
    bool any = false;
    for (const std::string& name : known) {
      if (!matches(pattern, name)) continue;
      any = true;
      if (std::find(found.begin(), found.end(), name) == found.end()) found.push_back(name);
    }
    user_check(any || pattern == "*", "{}.names: no layer with constant weights is called '{}'; did you mean '{}'?",
               pass, pattern, nearest_name(pattern, known));
  }
  return found;
}

}  // namespace espq
