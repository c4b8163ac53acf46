#include "passes/pipeline/check.h"

#include <algorithm>
#include <map>

#include "passes/pipeline/convert.h"

namespace espq {

const std::vector<std::pair<Verdict, std::string_view>> EnumNames<Verdict>::values = {
    {Verdict::Runs, "runs"},
    {Verdict::Rewritten, "runs after rewrite"},
    {Verdict::Float, "runs in float"},
    {Verdict::CannotRun, "cannot run"},
};

namespace {

using Table = std::map<std::string, CheckedOperation*, std::less<>>;

/// The operation of the network that `name` belongs to.
CheckedOperation* find(const Table& table, const Origins& origins, const std::string& name) {
  const auto origin = origins.find(name);
  const auto found = table.find(origin == origins.end() ? name : origin->second);
  return found == table.end() ? nullptr : found->second;
}

/// Whose changes are of single operations, and are what they become.
bool is_rewrite(const PassReport& pass) { return pass.pass != "assign_widths" && pass.pass != "remove_dead_code"; }

void add_once(std::vector<std::string>& list, const std::string& entry) {
  if (std::find(list.begin(), list.end(), entry) == list.end()) list.push_back(entry);
}

/// What a file leaves to defaults that the library does not have.
std::vector<Refusal> unsaid(const Operation& operation) {
  std::vector<Refusal> refusals;
  const auto& implied = operation.implied_attributes();
  const OperatorDefinition& definition = definition_of(operation);
  for (const AttributeSpec& attribute : definition.attributes)
    if (attribute.stated &&
        (!operation.has(attribute.name) || std::find(implied.begin(), implied.end(), attribute.name) != implied.end()))
      refusals.push_back({Refusal::Kind::Form, fmt::format("its file does not say '{}'", attribute.name),
                          "write the file again with espq, which states it"});
  if (definition.chip.needs_all_outputs && operation.outputs().size() < definition.outputs.size())
    refusals.push_back(
        {Refusal::Kind::Form,
         fmt::format("its file has {} of {} outputs", operation.outputs().size(), definition.outputs.size()),
         "write the file again with espq, which completes them"});
  return refusals;
}

}  // namespace

std::vector<CheckedOperation> check_network(const Graph& network, const Recipe& recipe) {
  Recipe as_it_is = recipe;
  as_it_is.legalize.reset();
  Graph graph = prepare(network, as_it_is);
  Graph chip_forms = graph.clone();
  assign_widths(graph, recipe.widths, recipe.layers, recipe.quirks);
  std::vector<CheckedOperation> checked;
  for (const Operation* operation : graph.topological_order()) {
    const Width width = *operation->width();
    checked.push_back({operation->type(), operation->name(), width, width.is_float() ? Verdict::Float : Verdict::Runs});
  }
  Table table;
  for (CheckedOperation& operation : checked) table[operation.name] = &operation;
  Origins origins;
  Report report;
  bring_to_chip_forms(chip_forms, recipe, report, &origins);
  // What operations became may take widths that they did not take (a convolution of groups that is one of one group).
  assign_widths(chip_forms, recipe.widths, recipe.layers, recipe.quirks);
  for (const PassReport& pass : report.passes)
    for (const ReportEntry& change : pass.changes)
      if (CheckedOperation* operation = is_rewrite(pass) ? find(table, origins, change.where) : nullptr) {
        operation->verdict = Verdict::Rewritten;
        add_once(operation->rewrites, change.what);
      }
  const Deployment deployment{find_target(recipe.target), recipe.lowering.runtime_level};
  for (const Refused& refused : refused_operations(chip_forms, deployment, recipe.widths, recipe.quirks))
    if (CheckedOperation* operation = find(table, origins, refused.name)) {
      operation->verdict = Verdict::CannotRun;
      operation->refusals.push_back(refused.refusal);
    }
  return checked;
}

std::vector<CheckedOperation> check_file(const Graph& chip, const Deployment& deployment) {
  std::vector<CheckedOperation> checked;
  for (const Operation* operation : chip.topological_order()) {
    const Width width = operation->chip().kernels.value_or(Width::Float);
    CheckedOperation entry{operation->type(), operation->name(), width,
                           width.is_float() ? Verdict::Float : Verdict::Runs};
    entry.refusals = unsaid(*operation);
    if (const auto refusal = refuses(*operation, deployment, width)) entry.refusals.push_back(*refusal);
    if (!entry.refusals.empty()) entry.verdict = Verdict::CannotRun;
    checked.push_back(std::move(entry));
  }
  return checked;
}

bool cannot_run(const std::vector<CheckedOperation>& operations) {
  return std::any_of(operations.begin(), operations.end(),
                     [](const CheckedOperation& operation) { return operation.verdict == Verdict::CannotRun; });
}

}  // namespace espq
