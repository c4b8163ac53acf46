#include <algorithm>

#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {

PassReport state_defaults(Graph& graph) {
  PassReport report{"state_defaults"};
  for (Operation* operation : graph.operations()) {
    std::vector<std::string> implied = operation->implied_attributes();
    const size_t before = implied.size();
    for (const AttributeSpec& attribute : definition_of(*operation).attributes)
      if (attribute.stated) std::erase(implied, attribute.name);
    if (implied.size() == before) continue;
    operation->set_attributes(operation->attributes(), std::move(implied));
    report.count("default stated", operation->name(),
                 static_cast<int64_t>(before - operation->implied_attributes().size()));
  }
  return report;
}

}  // namespace espq::lowering
