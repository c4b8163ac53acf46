// GRU and LSTM: directions and outputs that the chip library does not run.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// The sequence turned in front, and the hidden states turned back behind: the last state is that of the first step.
std::string reverse(Rewriter& rewriter) {
  Operation& cell = rewriter.origin();
  if (cell.string_attribute("direction", "forward") != "reverse" || cell.input(4)) return {};
  const int64_t axis = cell.int_attribute("layout", 0) == 0 ? 0 : 1;
  std::vector<int64_t> backwards(rewriter.shape(0).at(axis));
  std::iota(backwards.rbegin(), backwards.rend(), 0);
  rewriter.graph().set_input(cell, 0, &rewriter.pick(*cell.input(0), axis, backwards, "turned"));
  cell.set_attribute("direction", std::string("forward"));
  if (cell.output(0)) rewriter.pick_after(axis, backwards, "turned_back");
  return "sequence of " + cell.type() + " turned";
}

/// The library looks for every output of the cell, whether or not anybody reads it.
std::string complete_outputs(Rewriter& rewriter) {
  Operation& cell = rewriter.origin();
  const size_t wanted = definition_of(cell).outputs.size();
  std::vector<Variable*> outputs = cell.outputs();
  outputs.resize(wanted);
  if (cell.outputs().size() == wanted && std::find(outputs.begin(), outputs.end(), nullptr) == outputs.end()) return {};
  const std::string type = cell.type();
  rewriter.remake(outputs);
  return "outputs of " + type + " completed";
}

}  // namespace

std::vector<RewriteRule> recurrent_rewrites() {
  return {{"GRU", reverse}, {"LSTM", reverse}, {"GRU", complete_outputs, true}, {"LSTM", complete_outputs, true}};
}

}  // namespace espq
