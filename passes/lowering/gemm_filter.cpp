#include <ATen/ATen.h>

#include "core/support/error.h"
#include "passes/lowering/slots.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

void check_form(const Operation& gemm) {
  user_check(gemm.input(1) && gemm.input(1)->is_parameter() && gemm.input(1)->value().dim() == 2,
             "Gemm '{}': the chip library needs a constant matrix as its second operand; use MatMul for computed ones",
             gemm.name());
  user_check(gemm.float_attribute("alpha", 1) == 1 && gemm.float_attribute("beta", 1) == 1,
             "Gemm '{}': the chip library has no alpha and beta; multiply them into weights and bias", gemm.name());
  user_check(gemm.int_attribute("transA", 0) == 0,
             "Gemm '{}': the chip library cannot transpose the first operand; put a Transpose in front", gemm.name());
}

}  // namespace

void turn_gemm_filters(Graph& graph) {
  for (Operation* operation : graph.operations()) {
    if (operation->type() != "Gemm") continue;
    const bool integers = operation->quantized() && operation->string_attribute("quant_type") != "F32";
    if (integers) check_form(*operation);
    if (!operation->input(1)->is_parameter()) continue;
    Variable& filter = *operation->input(1);
    if (operation->int_attribute("transB", 0) == 0) {
      filter.set_value(filter.value().t().contiguous());
    } else if (integers) {  // the file's mark of a filter that is packed; float filters are stored as they came
      operation->set_attribute("transB", int64_t{0});
    }
  }
}

}  // namespace espq::lowering
