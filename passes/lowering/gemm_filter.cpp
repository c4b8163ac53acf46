#include <ATen/ATen.h>

#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
PassReport turn_gemm_filters(Graph& graph) {
  PassReport report{"turn_gemm_filters"};
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Gemm") continue;
    const bool integers = operation->quantized() && !operation->chip().kernels->is_float();
    if (!operation->input(1)->is_parameter()) continue;
    Variable& filter = *operation->input(1);
    if (operation->int_attribute("transB", 0) == 0) {
      filter.set_value(filter.value().t().contiguous());
      report.count("filter turned", operation->name());
    } else if (integers) {  // the file's mark of a filter that is packed; float filters are stored as they came
      operation->set_attribute("transB", int64_t{0});
      report.count("filter marked as packed", operation->name());
    }
  }
  return report;
}

}  // namespace espq::lowering
