#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/operator.h"
#include "passes/quantize/assign_widths.h"
#include "passes/quirks.h"
#include "passes/report.h"

// From what a network asks for to what the chip library runs: forms that the library misreads are rewritten into forms
// that compute the same, and what is left is refused before any work.
namespace espq {

struct LegalizeOptions {
  /// A convolution of several groups becomes one of one group, with zeros between the groups, while its weights stay
  /// within this many elements; beyond it becomes one convolution per group.
  int64_t max_widened_weights = int64_t{1} << 16;
  /// A recurrent cell that the library does not have is written down step by step for up to so many steps.
  int64_t max_unrolled_steps = 32;
  /// Functions of single elements that follow one another become one look-up table (8 bits).
  bool fuse_functions = true;
};

template <class Fields>
void describe(Fields& fields, LegalizeOptions& options) {
  fields("max_widened_weights", options.max_widened_weights);
  fields("max_unrolled_steps", options.max_unrolled_steps);
  fields("fuse_functions", options.fuse_functions);
}

/// Name of the operation of the network that an operation was made for, by the name of the latter.
using Origins = std::map<std::string, std::string, std::less<>>;

/// Rewrites every operation that the chip library does not run as it is (refusal_of) and that something else expresses:
/// the same function of real numbers, up to float rounding. Operations keep their names; what is added is called
/// NAME_part and computes with the width of the operation that it serves (with `bits`, where that operator has no
/// grids). Takes a float graph with shapes whose operations have their widths (assign_widths). What cannot be expressed
/// stays as it is.
PassReport legalize(Graph& graph, const Deployment& deployment, const LegalizeOptions& options = {},
                    Origins* origins = nullptr, int bits = 8);

/// Why the deployment cannot run the operation, which has its width; nullopt when it can. A function of one tensor
/// that becomes a look-up table needs no kernel of its own.
std::optional<Refusal> refusal_of(const Operation& operation, const Deployment& deployment);

/// An operation that cannot run, and why.
struct Refused {
  std::string type, name;
  Refusal refusal;
};

/// All operations of the graph that cannot run, in topological order, less what the application or another tool's file
/// is answerable for (WidthOptions::check_kernels, Quirks::misread_forms).
std::vector<Refused> refused_operations(const Graph& graph, const Deployment& deployment, const WidthOptions& widths,
                                        const Quirks& quirks);

/// Throws UserError naming each of them, why, and what to do: one change of the network should be enough.
PassReport require_runs(const Graph& graph, const Deployment& deployment, const WidthOptions& widths,
                        const Quirks& quirks);

}  // namespace espq
