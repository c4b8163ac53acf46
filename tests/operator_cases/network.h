#pragma once
#include "core/data/dataset.h"
#include "tests/operator_cases/operator_case.h"

namespace espq::test {

/// Graph input or constant that operand `slot` of a case becomes.
std::string operand_name(size_t slot);

/// A float network of one operation, 'node': constant operands are its parameters, the others its inputs.
Graph network_of(const OperatorCase& value, const Tensors& operands);

/// What its inputs get: one batch.
Dataset data_of(const OperatorCase& value, const Tensors& operands);

/// The same in the order of the network's inputs.
Tensors inputs_of(const OperatorCase& value, const Tensors& operands);

}  // namespace espq::test
