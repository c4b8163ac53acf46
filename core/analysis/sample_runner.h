#pragma once
#include <string>

#include "core/analysis/compare.h"
#include "core/data/dataset.h"
#include "core/exec/executor.h"

namespace espq {

/// How samples enter a chip graph and results leave it.
struct SampleForm {
  /// Results are the integers of the file, and so are inputs of its dtype (floats are rounded to the grid).
  bool codes = false;
  bool chip_layout = false;  ///< inputs and results in the file's order of dimensions
};

/// Runs a model on samples as its float network takes them: real numbers in the float network's layout on both sides,
/// unless `form` says otherwise. Chip graphs from files should know their permutations (assume_permutations()).
class SampleRunner {
 public:
  /// The graph must outlive it.
  explicit SampleRunner(const Runnable& model, const SampleForm& form = {});

  /// One tensor per graph output. Samples of more rows than the chip graph takes run piece by piece. Throws UserError
  /// that starts with `where` when the sample does not fit.
  Tensors run(const Dataset::Batch& sample, const std::string& where);

 private:
  const Graph& graph_;
  SampleForm form_;
  Graph interface_;  ///< inputs as the samples have them, nothing else
  Executor executor_;
};

}  // namespace espq
