#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/ops/lookup_table.h"
#include "core/ops/operator.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// One tensor in, one out, and every further operand is a single number.
bool is_function_of_one_tensor(const Operation& operation) {
  if (operation.inputs().empty() || operation.outputs().size() != 1 || is_constant(operation.input(0))) return false;
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot) {
    const Variable* operand = operation.input(slot);
    if (operand && (!operand->is_parameter() || operand->value().numel() != 1)) return false;
  }
  return true;
}

/// Step of the operation's table; nullopt when it gets none.
std::optional<int> table_step(const Graph& graph, const Operation& operation, const LowerOptions& options,
                              const Quirks& quirks) {
  const ChipFacts& facts = operation.chip();
  if (!operation.quantized() || facts.kernels == Width::Float) return std::nullopt;
  const OperatorDefinition& function = tabulated_definition(operation);
  if (!function.quantization.table_int8 || !is_function_of_one_tensor(operation)) return std::nullopt;
  if (!has_format(graph, operation.input_quant().at(0)) || !has_format(graph, operation.output_quant().at(0)))
    return std::nullopt;
  if (facts.kernels == Width::Int8) return 1;
  const ChipSupport& chip = definition_of(operation).chip;
  if (!chip.reads_int16_table && !quirks.unread_int16_tables) return std::nullopt;
  const auto given = facts.table_step ? facts.table_step : options.int16_table_step;
  if (!given) return std::nullopt;
  const int step = *given;
  user_check(step > 0 && step <= 32768 && (step & (step - 1)) == 0,
             "{} '{}': the step of a 16-bit table is a power of two up to 32768, not {}", operation.type(),
             operation.name(), step);
  return step;
}

/// Operands as real values; the table function fills in the first one.
Tensors real_operands(const Operation& operation) {
  Tensors operands(1);
  for (size_t slot = 1; slot < operation.inputs().size(); ++slot) {
    const Variable* operand = operation.input(slot);
    if (!operand)
      operands.emplace_back();
    else
      operands.push_back(operand->storage() ? dequantize(operand->value(), operand->storage()->exponents, -1)
                                            : operand->value());
  }
  return operands;
}

/// The tables of one graph: equal ones are stored once.
class TableStore {
 public:
  explicit TableStore(Graph& graph) : graph_(graph) {}

  const Variable& find_or_add(std::string_view function, const at::Tensor& table, const std::vector<int>& exponents) {
    for (const Variable* known : tables_)
      if (known->storage()->exponents == exponents && known->dtype() == table.scalar_type() &&
          at::equal(known->value(), table))
        return *known;
    Variable& added = graph_.add_parameter(fmt::format("{}_lut_{}", function, tables_.size()), table);
    added.set_storage(StorageFormat{table.scalar_type(), exponents});
    tables_.push_back(&added);
    return added;
  }

 private:
  Graph& graph_;
  std::vector<const Variable*> tables_;
};

}  // namespace

PassReport attach_tables(Graph& graph, const LowerOptions& options, const Quirks& quirks) {
  PassReport report{"attach_tables"};
  c10::AutoGradMode no_gradients(false);
  TableStore store(graph);
  for (Operation* operation : graph.topological_order()) {
    const auto step = table_step(graph, *operation, options, quirks);
    if (!step) continue;
    const OperatorDefinition& function = tabulated_definition(*operation);
    const Grid input = slot_grid(graph, operation->input_quant()[0]),
               output = slot_grid(graph, operation->output_quant()[0]);
    const at::Tensor table =
        build_table(function, *operation, real_operands(*operation), input, output, *step, graph.target()->rounding);
    operation->edit_chip().table = &store.find_or_add(function.name, table, output.exponents);
    report.count(fmt::format("{} reads a table", function.name), operation->name());
  }
  return report;
}

}  // namespace espq::lowering
