#include "passes/simplify/merge_duplicates.h"

#include <unordered_map>

#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// Compares as bytes would, so that NaN equals NaN and 0 differs from -0.
bool same_tensor(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  if (a.is_same(b)) return true;
  const at::Tensor left = a.contiguous(), right = b.contiguous();
  return std::memcmp(left.const_data_ptr(), right.const_data_ptr(), left.nbytes()) == 0;
}

bool same_attribute(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  if (const auto* tensor = std::get_if<at::Tensor>(&a)) return same_tensor(*tensor, std::get<at::Tensor>(b));
  return std::visit(
      [&](const auto& value) {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, at::Tensor>)
          return false;
        else
          return value == std::get<Value>(b);
      },
      a);
}

bool same_operand(const Variable* a, const Variable* b) {
  if (a == b) return true;
  return a && b && a->is_parameter() && b->is_parameter() && same_tensor(a->value(), b->value());
}

bool same_computation(const Operation& a, const Operation& b) {
  return std::equal(a.inputs().begin(), a.inputs().end(), b.inputs().begin(), b.inputs().end(), same_operand) &&
         a.outputs().size() == b.outputs().size() &&
         std::equal(
             a.attributes().begin(), a.attributes().end(), b.attributes().begin(), b.attributes().end(),
             [](const auto& x, const auto& y) { return x.first == y.first && same_attribute(x.second, y.second); });
}

bool writes_graph_output(const Graph& graph, const Operation& operation) {
  return std::any_of(operation.outputs().begin(), operation.outputs().end(),
                     [&](const Variable* output) { return output && graph.is_output(output); });
}

/// Operations can only be equal when this is: the type and the operands that are no constants.
std::string signature(const Operation& operation) {
  std::string text = operation.type();
  for (const Variable* input : operation.inputs())
    text += input && !input->is_parameter() ? fmt::format("|{}", static_cast<const void*>(input)) : "|";
  return text;
}

}  // namespace

PassReport merge_duplicates(Graph& graph) {
  PassReport report{"merge_duplicates"};
  std::unordered_map<std::string, std::vector<Operation*>> seen;
  for (Operation* operation : graph.topological_order()) {
    if (is_dead(graph, *operation)) continue;
    auto& candidates = seen[signature(*operation)];
    const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Operation* candidate) {
      if (!same_computation(*candidate, *operation)) return false;
      for (size_t slot = 0; slot < operation->outputs().size(); ++slot)
        if (operation->output(slot) && !candidate->output(slot)) return false;
      return true;
    });
    if (found == candidates.end() || writes_graph_output(graph, *operation)) {
      candidates.push_back(operation);
      continue;
    }
    for (size_t slot = 0; slot < operation->outputs().size(); ++slot)
      if (operation->output(slot)) graph.replace_uses(*operation->output(slot), *(*found)->output(slot));
    report.count("repeated " + operation->type() + " merged", operation->name());
    graph.remove(*operation);
  }
  return report;
}

}  // namespace espq
