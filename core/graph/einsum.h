#pragma once
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// How a frontend writes operations into its graph.
class OperationWriter {
 public:
  virtual ~OperationWriter() = default;
  virtual Variable* emit(const std::string& type, std::vector<Variable*> inputs, AttributeMap attributes = {}) = 0;
  /// A one-dimensional integer parameter.
  virtual Variable* integers(const std::string& part, const std::vector<int64_t>& values) = 0;
};

struct EinsumOperand {
  Variable* value;
  Shape shape;
};

/// A sum of products ("bij,bjk->bik") as Transpose, Reshape, ReduceSum and one MatMul per pair of operands (Mul where a
/// pair sums over nothing), from left to right. Knows "...", letters that stand twice in one operand (a diagonal), and
/// results that are left out. Throws UserError when equation and shapes do not fit.
Variable* write_einsum(std::string equation, const std::vector<EinsumOperand>& operands, OperationWriter& writer);

}  // namespace espq
