#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/ops/operator.h"
#include "core/ops/quantize_linear.h"
#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

bool is_conversion(const Operation& operation) { return definition_of(operation).quantization.converts; }

/// The node in front of one reader. The chip converts by the formats of input and output; scale and offset are operands
/// that the file format asks for, in the width of the `integers` that the node reads or writes.
void insert(Graph& graph, PassReport& report, const Use& use, std::string type, double scale,
            const SlotQuant& integers) {
  Operation& reader = *use.operation;
  const Variable& source = *reader.input(use.slot);
  const bool to_float = type == "DequantizeLinear";
  const at::ScalarType offset_dtype = integers.bits == 8 ? at::kChar : at::kShort;
  report.count(type + " inserted", reader.name());
  Operation& conversion = graph.insert_before(reader, use.slot, std::move(type), {});
  conversion.set_width(to_float ? Width::Float : reader.width().value().without_weights());
  Variable& result = *conversion.output();
  result.set_shape(source.shape());
  result.set_permutation(source.permutation());
  result.set_dtype(at::kFloat);
  graph.append_input(conversion, &graph.add_parameter({}, at::scalar_tensor(scale, at::kFloat)));
  graph.append_input(conversion, &graph.add_parameter({}, at::scalar_tensor(0, offset_dtype)));
}

double scale_of(const Graph& graph, const SlotQuant& slot) {
  return std::ldexp(1.0, slot_exponents(graph, slot).at(0));
}

bool same_format(const Graph& graph, const SlotQuant& written, const SlotQuant& read, const Quirks& quirks) {
  if (written.bits != read.bits) return false;
  if (quirks.absolute_requantize_threshold) return std::fabs(scale_of(graph, written) - scale_of(graph, read)) < 1e-5;
  return slot_exponents(graph, written) == slot_exponents(graph, read);
}

/// From integers to integers; where the kernel for it fails by way of floats, which hold the codes exactly.
void insert_requantize(Graph& graph, PassReport& report, const Use& use, const SlotQuant& written,
                       const SlotQuant& read, const Quirks& quirks) {
  const Variable& variable = *use.operation->input(use.slot);
  internal_check(variable.shape().has_value(), "no shape: " + variable.name());
  const int64_t elements = c10::multiply_integers(*variable.shape());
  const Grid from = slot_grid(graph, written), to = slot_grid(graph, read);
  if (!quirks.requantize_loses_tail &&
      (loses_half_block(*graph.target(), elements, from, to) || wraps_multiplier(*graph.target(), from, to))) {
    insert(graph, report, use, "DequantizeLinear", scale_of(graph, written), written);
    insert(graph, report, use, "QuantizeLinear", scale_of(graph, read), read);
    return;
  }
  insert(graph, report, use, "RequantizeLinear", scale_of(graph, read) / scale_of(graph, written), read);
}

/// Calls `visit` for every operand that another operation (`inputs` = false) or the caller of the graph (true) writes.
template <typename Visit>
void for_each_use(Graph& graph, bool inputs, Visit visit) {
  for (Operation* operation : graph.topological_order()) {
    if (is_conversion(*operation)) continue;
    for (size_t slot = 0; slot < operation->inputs().size(); ++slot) {
      Variable* variable = operation->input(slot);
      if (is_constant(variable) || (variable->producer() == nullptr) != inputs) continue;
      if (variable->producer() && is_conversion(*variable->producer())) continue;
      visit(Use{operation, static_cast<int>(slot)}, *variable);
    }
  }
}

void quantize(Graph& graph, PassReport& report) {
  for_each_use(graph, false, [&](const Use& use, Variable& variable) {
    const SlotQuant* read = reading_slot(use);
    const SlotQuant* written = writing_slot(variable);
    const bool is_index = at::isIntegralType(variable.dtype(), /*includeBool=*/false);
    if (!read || !has_format(graph, *read) || is_index || (written && !written->is_float())) return;
    insert(graph, report, use, "QuantizeLinear", scale_of(graph, *read), *read);
  });
}

void requantize(Graph& graph, const Quirks& quirks, PassReport& report) {
  for_each_use(graph, false, [&](const Use& use, Variable& variable) {
    const SlotQuant* read = reading_slot(use);
    const SlotQuant* written = writing_slot(variable);
    if (!read || !written || !has_format(graph, *read) || !has_format(graph, *written)) return;
    if (same_format(graph, *written, *read, quirks)) return;
    insert_requantize(graph, report, use, *written, *read, quirks);
  });
}

/// True for a reader that wants the floats: an operation without quantization, or an operand that stays float.
bool reads_floats(const Use& use) {
  const SlotQuant* read = reading_slot(use);
  return !read ||
         (read->is_float() && is_operand_of_arithmetic(definition_of(*use.operation).input_spec(use.slot).role));
}

void dequantize(Graph& graph, PassReport& report) {
  for_each_use(graph, false, [&](const Use& use, Variable& variable) {
    const SlotQuant* written = writing_slot(variable);
    if (!written || !has_format(graph, *written) || !reads_floats(use)) return;
    insert(graph, report, use, "DequantizeLinear", scale_of(graph, *written), *written);
  });
}

/// What of its readers' formats a graph input is stored in: with the most bits. Of these the grid that was chosen for
/// the input itself, where a reader has one: grids that come from elsewhere (a sum, a result that drops it) may be
/// coarser or clip it, and what is lost is lost for all. Of several the finest. A grid one bit coarser is preferred: it
/// costs the others one bit at most, and holds what the finest may clip.
const SlotQuant* stored_format(const Graph& graph, const std::vector<const SlotQuant*>& readers) {
  const auto exponent = [&](const SlotQuant* slot) { return slot_exponents(graph, *slot)[0]; };
  const auto is_own = [](const SlotQuant* slot) { return slot->state == SlotState::Quantizes; };
  const auto rank = [&](const SlotQuant* slot) { return std::tuple(-slot->bits, !is_own(slot), exponent(slot)); };
  const SlotQuant* best =
      *std::min_element(readers.begin(), readers.end(), [&](auto* a, auto* b) { return rank(a) < rank(b); });
  for (const SlotQuant* reader : readers)
    if (reader->bits == best->bits && exponent(reader) == exponent(best) + 1) return reader;
  return best;
}

/// Who reads a graph input.
struct InputReaders {
  std::vector<const SlotQuant*> formats;
  bool floats = false;
};

/// A graph input is stored in one format; readers with another one need a conversion. Floats that one of them wants are
/// not there any more once the input is stored as integers.
void convert_inputs(Graph& graph, const Quirks& quirks, PassReport& report) {
  std::unordered_map<const Variable*, InputReaders> readers;
  for_each_use(graph, true, [&](const Use& use, Variable& variable) {
    const SlotQuant* read = reading_slot(use);
    if (read && has_format(graph, *read)) readers[&variable].formats.push_back(read);
    readers[&variable].floats |= reads_floats(use);
  });
  for_each_use(graph, true, [&](const Use& use, Variable& variable) {
    const auto& [formats, floats] = readers.at(&variable);
    const SlotQuant* read = reading_slot(use);
    if (!read || !has_format(graph, *read)) return;
    const SlotQuant& written = *stored_format(graph, formats);
    if (floats)
      insert(graph, report, use, "QuantizeLinear", scale_of(graph, *read), *read);
    else if (!same_format(graph, written, *read, {}))
      insert_requantize(graph, report, use, written, *read, quirks);
  });
}

}  // namespace

PassReport insert_conversions(Graph& graph, const Quirks& quirks) {
  PassReport report{"insert_conversions"};
  quantize(graph, report);
  requantize(graph, quirks, report);
  dequantize(graph, report);
  if (!quirks.one_format_per_graph_input) convert_inputs(graph, quirks, report);
  return report;
}

}  // namespace espq::lowering
