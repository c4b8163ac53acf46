#include "passes/legalize/cut_arg_max.h"

#include <algorithm>

#include "core/graph/match.h"

namespace espq {
namespace {

bool only_changes_form(const Operation& operation) {
  constexpr std::string_view kTypes[] = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"};
  return std::find(std::begin(kTypes), std::end(kTypes), operation.type()) != std::end(kTypes);
}

/// The search whose place is the output, and what stands behind it, last operation first. Nothing else reads any of it.
struct Search {
  Operation* top = nullptr;
  std::vector<Operation*> behind;
};

Search search_in_front(const Graph& graph, Variable& output) {
  Search search;
  Variable* at = &output;
  while (Operation* producer = at->producer()) {
    const bool last = at == &output;
    if (last ? !at->uses().empty() : !sole_consumer(graph, *at)) return {};
    if (producer->type() == "TopK") {
      const bool place = at->producer_slot() == 1 && scalar_constant(producer->input(1)) == 1.0;
      const Variable* value = producer->output(0);
      const bool read = value && (!value->uses().empty() || graph.is_output(value));
      search.top = place && !read ? producer : nullptr;
      return search;
    }
    if (!only_changes_form(*producer)) return {};
    search.behind.push_back(producer);
    at = producer->input(0);
  }
  return {};
}

std::string warning(const Variable& output, const Operation& top) {
  const Variable& searched = *top.input(0);
  const bool largest = top.int_attribute("largest", 1) != 0;
  return fmt::format(
      "output '{}' is the place of the {} element of '{}' along axis {}, which the chip does not search for: '{}' is "
      "the output instead, search it in the application",
      output.name(), largest ? "largest" : "smallest", searched.name(), top.int_attribute("axis", -1), searched.name());
}

}  // namespace

PassReport cut_arg_max(Graph& graph) {
  PassReport report{"cut_arg_max"};
  std::vector<Variable*> outputs = graph.outputs();
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Search search = search_in_front(graph, *outputs[i]);
    if (!search.top) continue;
    Variable* searched = search.top->input(0);
    const bool given = graph.is_input(searched) || searched->is_parameter() || !searched->producer();
    if (given || std::find(outputs.begin(), outputs.end(), searched) != outputs.end()) continue;
    report.warnings.push_back(warning(*outputs[i], *search.top));
    outputs[i] = searched;
    graph.set_outputs(outputs);
    for (Operation* operation : search.behind) {
      report.count("search left to the application", operation->name());
      graph.remove(*operation);
    }
    report.count("search left to the application", search.top->name());
    graph.remove(*search.top);
  }
  return report;
}

}  // namespace espq
