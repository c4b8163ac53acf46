#include "core/ops/operator.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {

void set_gate_exponents(Graph& graph) {
  constexpr int64_t kGateExponent = -9;  // the grid of gates and cell state, fixed by the chip library's tables
  for (Operation* operation : graph.operations())
    if (operation->quantized() && definition_of(*operation).quantization.alignment == AlignmentClass::Recurrent)
      operation->set_attribute("gate_exponent", kGateExponent);
}

}  // namespace espq::lowering
