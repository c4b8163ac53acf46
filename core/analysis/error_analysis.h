#pragma once
#include <string>
#include <vector>

#include "core/analysis/measure.h"
#include "core/data/dataset.h"
#include "core/graph/graph.h"

namespace espq {

/// Error of one operation, averaged over the batches (weighted by their size).
struct OperationError {
  std::string operation;
  std::string type;
  std::string tensor;  ///< what was measured
  double value = 0;
};

struct ErrorAnalysisOptions {
  Measure measure = Measure::NoiseToSignal;
  size_t batches = 8;  ///< at most this many batches of the data set are used
  /// Float network to compare with, of the same names: graphwise_errors() takes the quantized graph's own weights and
  /// biases without it, which passes may have changed to make up for rounding.
  const Graph* reference = nullptr;
};

/// Accumulated error: the whole graph quantized against the whole graph in float. Every value counts.
struct AccumulatedErrors {
  std::vector<OperationError> outputs;     ///< of the network, floating ones; `operation` is what writes the output
  std::vector<OperationError> operations;  ///< every quantized one that computes something, in file order
};
AccumulatedErrors graphwise_errors(const Graph& quantized, const Dataset& data,
                                   const ErrorAnalysisOptions& options = {});

/// Error that one operation alone causes: only that operation is quantized, measured on the graph outputs (mean over
/// them; those that it does not reach have no error). Float values are computed once per batch and only what follows
/// the operation is run again, several operations at a time.
std::vector<OperationError> layerwise_errors(const Graph& quantized, const Dataset& data,
                                             const ErrorAnalysisOptions& options = {});

/// Rows sorted from the largest error down, with a bar per row.
std::string error_table(std::vector<OperationError> errors, Measure measure, size_t rows);

/// What `espq quantize` prints: the outputs, then the operations with the largest error.
std::string to_text(const AccumulatedErrors& errors, Measure measure, size_t rows);

}  // namespace espq
