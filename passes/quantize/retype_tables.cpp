#include "passes/quantize/retype_tables.h"

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq {

namespace {

bool is_wanted(const Operation& operation, int main_bits, const TableOptions& options) {
  if (!options.enabled || (main_bits != 16 && !options.in_int8_runs)) return false;
  if (options.types.empty()) return definition_of(operation).quantization.table_int16;
  return std::find(options.types.begin(), options.types.end(), operation.type()) != options.types.end();
}

}  // namespace

PassReport retype_tables(Graph& graph, int main_bits, const TableOptions& options) {
  user_check(options.step > 0 && (options.step & (options.step - 1)) == 0,
             "tables.step: {} is not a power of two, which the chip needs", options.step);
  PassReport report{"retype_tables"};
  for (Operation* operation : graph.operations()) {
    if (!operation->quantized() || operation->inputs().size() != 1 || operation->outputs().size() != 1) continue;
    const bool wide = operation->input_quant()[0].bits == 16;
    if (!(options.without_kernel && definition_of(*operation).only_as_table()) &&
        !(wide && is_wanted(*operation, main_bits, options)))
      continue;
    operation->set_attribute("original_op_type", operation->type());
    if (wide) operation->set_attribute("int16_lut_step", int64_t{options.step});
    operation->retype("LUT");
    report.count(fmt::format("{} to table", operation->string_attribute("original_op_type")));
  }
  return report;
}

}  // namespace espq
