#include "passes/quantize/retype_tables.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

PassReport retype_tables(Graph& graph, int main_bits, const TableOptions& options) {
  user_check(options.step > 0 && (options.step & (options.step - 1)) == 0,
             "tables.step: {} is not a power of two, which the chip needs", options.step);
  PassReport report{"retype_tables"};
  if (!options.enabled || (main_bits != 16 && !options.in_int8_runs)) return report;
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized || operation->inputs().size() != 1 || operation->outputs().size() != 1) continue;
    if (operation->input_quant[0].bits != 16) continue;
    const bool wanted = options.types.empty() ? definition_of(*operation).quantization.table_int16
                                              : std::find(options.types.begin(), options.types.end(),
                                                          operation->type) != options.types.end();
    if (!wanted) continue;
    operation->attributes["original_op_type"] = operation->type;
    operation->attributes["int16_lut_step"] = int64_t{options.step};
    operation->type = "LUT";
    report.count(fmt::format("{} to table", operation->string_attribute("original_op_type")));
  }
  return report;
}

}  // namespace espq
