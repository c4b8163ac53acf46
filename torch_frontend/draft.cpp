#include "torch_frontend/draft.h"

#include "core/ops/operator.h"

namespace espq::torch_frontend {
namespace {

std::string folder(const std::string& module_path) {
  if (module_path.empty()) return "/";
  std::string path = "/" + module_path + "/";
  std::replace(path.begin(), path.end(), '.', '/');
  return path;
}

std::string numbered(std::unordered_map<std::string, int>& counts, const std::string& base) {
  const int number = counts[base]++;
  return number == 0 ? base : fmt::format("{}_{}", base, number);
}

}  // namespace

std::string Place::text() const {
  std::string result = module_path.empty() ? "" : "module '" + module_path + "'";
  if (!source.empty()) result += (result.empty() ? "" : ", ") + source;
  return result.empty() ? "the network itself" : result;
}

std::string GraphDraft::operation_name(const std::string& module_path, const std::string& type) {
  return numbered(name_counts_, folder(module_path) + type);
}

std::string GraphDraft::parameter_name(const std::string& module_path, const std::string& suffix) {
  return numbered(name_counts_, folder(module_path) + suffix);
}

std::vector<Variable*> GraphDraft::emit(const Place& place, const std::string& type, std::vector<Variable*> inputs,
                                        AttributeMap attributes, size_t outputs) {
  const std::string base = folder(place.module_path) + type, name = numbered(name_counts_, base);
  std::vector<Variable*> results;
  for (size_t i = 0; i < outputs; ++i) results.push_back(&graph.add_variable(fmt::format("{}_output_{}", name, i)));
  Operation& operation = graph.add_operation(type, name, std::move(inputs), results, std::move(attributes));
  normalize_attributes(operation);
  base_names_.emplace(&operation, base);
  emitted_.push_back(&operation);
  return results;
}

std::vector<const Operation*> GraphDraft::take_emitted() { return std::exchange(emitted_, {}); }

Graph GraphDraft::finish(std::unordered_map<const void*, std::string>& renamed) const {
  const auto live = operations_behind({graph.outputs().begin(), graph.outputs().end()});
  const auto read = [&](const Variable* variable) {
    return graph.is_output(variable) ||
           std::any_of(variable->uses().begin(), variable->uses().end(),
                       [&](const ConstUse& use) { return live.count(use.operation) != 0; });
  };
  Graph result;
  result.name = graph.name;
  std::unordered_map<std::string, int> counts;
  std::unordered_map<const Variable*, Variable*> copies;
  const auto copy = [&](const Variable* variable, const std::string& name) -> Variable* {
    if (!variable) return nullptr;
    const auto found = copies.find(variable);
    if (found != copies.end()) return found->second;
    Variable& made =
        variable->is_parameter() ? result.add_parameter(name, variable->value()) : result.add_variable(name);
    made.set_shape(variable->shape());
    made.set_dtype(variable->dtype());
    renamed[variable] = name;
    return copies[variable] = &made;
  };
  for (const Variable* input : graph.inputs()) result.add_input(*copy(input, input->name()));
  for (const Variable* output : graph.outputs()) copy(output, output->name());
  for (const Operation* operation : graph.operations()) {
    if (!live.count(operation)) continue;
    const std::string name = numbered(counts, base_names_.at(operation));
    std::vector<const Variable*> written(operation->outputs().begin(), operation->outputs().end());
    std::vector<Variable*> inputs, outputs;
    for (const Variable* input : operation->inputs()) inputs.push_back(copy(input, input ? input->name() : ""));
    while (written.size() > 1 && !read(written.back())) written.pop_back();
    for (size_t slot = 0; slot < written.size(); ++slot)
      outputs.push_back(copy(written[slot], fmt::format("{}_output_{}", name, slot)));
    Operation& made = result.add_operation(operation->type(), name, inputs, outputs);
    made.set_attributes(operation->attributes(), operation->implied_attributes());
    renamed[operation] = name;
  }
  for (const Variable* output : graph.outputs()) result.add_output(*copies.at(output));
  return result;
}

}  // namespace espq::torch_frontend
