#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {

PassReport set_gate_exponents(Graph& graph) {
  PassReport report{"set_gate_exponents"};
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized() || definition_of(*operation).quantization.alignment != AlignmentClass::Recurrent)
      continue;
    operation->edit_chip().gate_exponent = kGateExponent;
    report.count("grid of gates", operation->name());
  }
  return report;
}

}  // namespace espq::lowering
