#include "passes/legalize/fuse_scalar_functions.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"
#include "passes/legalize/scalar_program.h"

namespace espq {
namespace {

/// Shares its grid with the layer in front, which computes nothing beyond its bounds then.
bool belongs_to_layer(const Operation& operation) {
  const Variable* operand = operation.input(0);
  const Operation* front = operand ? operand->producer() : nullptr;
  return definition_of(operation).quantization.fused_activation && front && definition_of(*front).linear &&
         operand->uses().size() == 1;
}

bool can_join(const Operation& operation) { return operation.width() == Width::Int8 && !belongs_to_layer(operation); }

/// All readers are among `path`, and the value does not leave the network.
bool is_inside(const Graph& graph, const Variable& value, const std::vector<Operation*>& path) {
  if (graph.is_output(&value)) return false;
  return std::all_of(value.uses().begin(), value.uses().end(), [&](const ConstUse& use) {
    return std::find(path.begin(), path.end(), use.operation) != path.end();
  });
}

/// The longest path that ends with `last` and may become one operation.
std::vector<Operation*> fusible_path(const Graph& graph, Operation& last, Variable*& x) {
  std::vector<Operation*> path;
  for (Variable* end = last.output();;) {
    const auto program = scalar_program(*end);
    if (!program || !std::all_of(program->path.begin(), program->path.end(),
                                 [](const Operation* operation) { return can_join(*operation); }))
      return path;
    std::vector<Operation*> longer = program->path;
    longer.insert(longer.end(), path.begin(), path.end());
    for (const Operation* operation : longer)
      if (operation != &last && !is_inside(graph, *operation->output(), longer)) return path;
    path = std::move(longer);
    x = end = program->x;
  }
}

}  // namespace

PassReport fuse_scalar_functions(Graph& graph, Origins* origins) {
  PassReport report{"fuse_scalar_functions"};
  std::vector<Operation*> order = graph.topological_order();
  // From the back, so that the longest chains are found first.
  std::reverse(order.begin(), order.end());
  std::unordered_set<const Operation*> gone;
  for (Operation* last : order) {
    if (gone.count(last)) continue;
    if (last->outputs().size() != 1 || (last->output()->uses().empty() && !graph.is_output(last->output()))) continue;
    Variable* x = nullptr;
    const std::vector<Operation*> path = fusible_path(graph, *last, x);
    if (path.size() < 2) continue;
    std::string what;
    for (const Operation* operation : path) what += (what.empty() ? "" : ", ") + operation->type();
    Rewriter(graph, *last, origins).become("ScalarFunction", {x}, {{"steps", scalar_program(*x, path).steps}});
    for (auto operation = path.rbegin() + 1; operation != path.rend(); ++operation) {
      Variable* value = (*operation)->output();
      gone.insert(*operation);
      graph.remove(**operation);
      graph.remove(*value);
    }
    report.count(what + " became one ScalarFunction", last->name());
  }
  return report;
}

}  // namespace espq
