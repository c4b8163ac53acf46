#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "passes/recipe/recipe.h"

// What a chip will make of a network, before anything is calibrated, and of a file that is there already.
namespace espq {

enum class Verdict {
  Runs,       ///< as it is, with integers
  Rewritten,  ///< as something else that computes the same
  Float,      ///< with float kernels
  CannotRun,
};

template <>
struct EnumNames<Verdict> {
  static const std::vector<std::pair<Verdict, std::string_view>> values;
};

/// One operation of the network (or of the file).
struct CheckedOperation {
  std::string type, name;
  Width width = Width::Float;
  Verdict verdict = Verdict::Runs;
  std::vector<std::string> rewrites = {};  ///< what it becomes, where it is rewritten
  std::vector<Refusal> refusals = {};      ///< why it cannot run, and what to do
};

/// Every operation of the simplified network in topological order, by the names that recipes use. Needs no data. Throws
/// UserError on options that do not fit the network.
std::vector<CheckedOperation> check_network(const Graph& network, const Recipe& recipe);

/// Every operation of a chip graph, whoever wrote it: forms that the library misreads, and what its file does not say
/// although the library has no default for it.
std::vector<CheckedOperation> check_file(const Graph& chip, const Deployment& deployment);

/// True when one cannot run.
bool cannot_run(const std::vector<CheckedOperation>& operations);

}  // namespace espq
