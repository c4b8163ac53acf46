#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/graph/graph.h"
#include "export/espdl/model.h"

namespace espq {

/// Recorded inputs and expected outputs, in the layout of the chip graph; stored in this order. Integers of the stored
/// dtype, or floats, which are rounded to the grid of their variable.
struct TestValues {
  std::vector<std::pair<std::string, at::Tensor>> inputs, outputs;
};

/// Metadata "layout.NAME" = "0231" of a graph input or output: Variable::permutation().
inline constexpr std::string_view kLayoutKey = "layout.";

struct EspdlOptions {
  /// Record target, espq's version, the runtime level and the layouts of graph inputs and outputs in the metadata, so
  /// that a reader knows the chip and the float network's order of dimensions. The incumbent writes none of them.
  bool identify = true;
  RuntimeLevel runtime_level = RuntimeLevel::V3_3_9;
  int64_t model_version = 0;
  std::vector<std::pair<std::string, std::string>> metadata = {};  ///< further entries, in this order
};

/// The file of a chip graph (Stage::Chip): weights packed for graph.target(), nodes in topological order, objects in
/// the incumbent's order (tables by first use, nodes, variables in graph order, test values). A graph input or output
/// is a value of the graph; names must be unique. Throws UserError naming tensor or node.
EspdlModel to_model(const Graph& chip_graph, const TestValues& tests = {}, const EspdlOptions& options = {});

/// The chip graph of a file.
/// - Activations have the file's layout and shape; graph inputs and outputs know their permutation if the file tells
/// it. What the file stores as integers with exponents has `storage`.
/// - Parameters are unpacked: filters [N, C, H, W] (1-D: [N, C, W]), a Gemm's operand 1 always [N, K] whatever its
///   attribute transB says, a constant MatMul operand [.., K, N].
/// - Attributes are those of the file plus the operators' defaults; `width` comes from quant_type; slots stay empty.
/// - Look-up tables are parameters that nothing reads, named by attribute `lut`.
/// Throws UserError naming node or tensor: unknown operators, missing tensors, cycles, exponents that do not fit.
Graph from_model(const EspdlModel& model, const Target& target);

/// Test values of a file as tensors of the stored dtypes.
TestValues test_values(const EspdlModel& model);

/// The chip that a file is for, as far as the file proves it: espq's own metadata, weight layouts of chips without
/// vector unit ("c"), one exponent per output channel ("esp32p4"). Throws UserError asking for a target where it does
/// not.
const Target& infer_target(const EspdlModel& model);

/// True when the weights are in the layout of a vector unit; files without packed weights count as such.
bool has_vector_layout(const EspdlModel& model);

/// Elements of a tensor in the order of the file. Throws UserError for types without a LibTorch counterpart.
at::Tensor to_tensor(const EspdlTensor& stored);
/// Elements of a constant in plain order, unpacked the way operand `slot` of `reader` needs it (nullptr: stored order).
at::Tensor to_tensor(const EspdlTensor& stored, const EspdlNode* reader, size_t slot, bool vector_unit);

/// The dtype's type in the file and back. Throw UserError when there is none.
ElementType espdl_type(at::ScalarType dtype);
at::ScalarType scalar_type(ElementType type);

}  // namespace espq
