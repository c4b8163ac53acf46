#include "passes/legalize/scale_small_norms.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/exec/executor.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// A grid of 16 bits that reaches as far has the smallest exponent that the kernel takes, and one bit to spare: what
/// the network computes from rounded weights may be somewhat smaller than what it computes here.
constexpr double kLargeEnough = 1;

std::vector<Operation*> norms_of(Graph& graph) {
  std::vector<Operation*> norms = graph.topological_order();
  std::erase_if(norms, [](const Operation* operation) {
    return operation->type() != "ReduceL2" || operation->width() != Width::Int16;
  });
  return norms;
}

/// The largest magnitude that each of them reads.
std::vector<double> magnitudes_of(const Graph& graph, const std::vector<Operation*>& norms, const Dataset& data,
                                  int64_t batches) {
  std::vector<const Variable*> operands;
  operands.reserve(norms.size());
  for (const Operation* operation : norms) operands.push_back(operation->input(0));
  std::vector<double> magnitudes(norms.size());
  Executor executor(graph, Precision::Float);
  for (size_t batch = 0; batch < std::min(data.size(), static_cast<size_t>(batches)); ++batch) {
    const Tensors values = executor.run(data.inputs(graph, batch), operands);
    for (size_t i = 0; i < norms.size(); ++i)
      if (values[i].numel() > 0) magnitudes[i] = std::max(magnitudes[i], values[i].abs().max().item<double>());
  }
  return magnitudes;
}

}  // namespace

PassReport scale_small_norms(Graph& graph, const Dataset& data, int64_t batches) {
  PassReport report{"scale_small_norms"};
  const std::vector<Operation*> norms = norms_of(graph);
  report.note("norm of 16 bits", static_cast<int64_t>(norms.size()));
  if (norms.empty()) return report;
  const std::vector<double> magnitudes = magnitudes_of(graph, norms, data, batches);
  for (size_t i = 0; i < norms.size(); ++i) {
    Operation* operation = norms[i];
    const double magnitude = magnitudes[i];
    const bool small = magnitude > 0 && magnitude < kLargeEnough;
    if (!small) continue;
    report.count("small numbers of ReduceL2 scaled", operation->name());
    const double factor = std::exp2(1 - std::floor(std::log2(magnitude)));  // to between 2 and 4
    Rewriter rewriter(graph, *operation, nullptr, operation->width()->activations);
    rewriter.before(0, "Mul", "raised", {&rewriter.number("factor", factor)});
    rewriter.after("Mul", "lowered", {&rewriter.number("share", 1 / factor)});
  }
  return report;
}

}  // namespace espq
