#include "tests/peer_cases/peer_comparison.h"

#include <c10/core/GradMode.h>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/lowering/lower.h"

namespace espq {
namespace {

at::Tensor in_file_order(const Variable& variable, const at::Tensor& value) {
  const std::vector<int64_t> order(variable.permutation.begin(), variable.permutation.end());
  return (order.empty() ? value : value.permute(order)).contiguous();
}

/// esp-ppq records the first calibration batch and what its simulation makes of it.
TestValues simulated_values(const Graph& quantized, const Graph& chip, const Dataset& calibration) {
  TestValues values;
  const Tensors inputs = calibration.inputs(quantized, 0);
  const Tensors outputs = Executor(quantized, Precision::Simulated).run(inputs);
  for (size_t i = 0; i < inputs.size(); ++i)
    values.inputs.emplace_back(chip.inputs[i]->name(), in_file_order(*chip.inputs[i], inputs[i]));
  for (size_t i = 0; i < quantized.outputs.size(); ++i)
    for (const Variable* output : chip.outputs)
      if (output->name() == quantized.outputs[i]->name())
        values.outputs.emplace_back(output->name(), in_file_order(*output, outputs[i]));
  return values;
}

/// Why a difference is none for the chip; "" = it is one.
std::string reason_of(const EspdlDifference& difference) {
  // Only tensors that the chip keeps in float have fractions of this size; the simulations round differently on the way
  // (esp-ppq takes the logarithm of a finished Softmax).
  constexpr double kBoardTolerance = 2e-5;  // what the chip library's own test of a model accepts
  if (difference.kind == "test value" && difference.differing > 0 && difference.largest <= kBoardTolerance)
    return "float result within the tolerance of the chip library's own test";
  return {};
}

/// Operators of the peer's file that are missing here.
std::string missing_operators(const EspdlModel& peer) {
  std::string missing;
  for (const EspdlNode& node : peer.nodes)
    if (!operators().find(node.op_type) && missing.find(node.op_type) == std::string::npos)
      missing += (missing.empty() ? "" : ", ") + node.op_type;
  return missing;
}

void compare(const PeerRun& run, PeerSource source, const EspdlModel& peer, PeerComparison& result) {
  c10::AutoGradMode no_gradients(false);
  const Dataset calibration = Dataset::open({run.calibration});
  const bool simplified = source == PeerSource::Simplified;
  Graph graph = import_onnx(simplified ? run.model : run.model.parent_path() / "model.onnx");
  QuantizeOptions recipe = run.options;
  recipe.float_passes.simplify = !simplified;
  recipe.float_passes.format_like_incumbent = true;
  quantize(graph, calibration, recipe);
  const Graph chip = lower(graph, LowerOptions::incumbent());
  EspdlOptions options;
  options.identify = false;
  options.runtime_level = RuntimeLevel::Newer;
  const EspdlModel mine = to_model(chip, simulated_values(graph, chip, calibration), options);
  result.differences = diff(peer, mine);
  for (const EspdlDifference& difference : result.differences) result.reasons.push_back(reason_of(difference));
  const auto unexplained = std::count(result.reasons.begin(), result.reasons.end(), "");
  result.status = unexplained                  ? PeerComparison::Status::Different
                  : result.differences.empty() ? PeerComparison::Status::Equal
                                               : PeerComparison::Status::Explained;
}

}  // namespace

PeerComparison compare_with_peer(const PeerRun& run, PeerSource source) {
  PeerComparison result;
  const EspdlModel peer = read_espdl_file(run.folder / "peer.espdl");
  result.message = run.skipped.empty() ? missing_operators(peer) : run.skipped;
  if (!result.message.empty()) {
    result.status = PeerComparison::Status::Unsupported;
    return result;
  }
  try {
    compare(run, source, peer, result);
  } catch (const std::exception& error) {
    result.status = PeerComparison::Status::Failed;
    result.message = error.what();
  }
  return result;
}

std::string_view to_text(PeerComparison::Status status) {
  switch (status) {
    case PeerComparison::Status::Equal:
      return "equal";
    case PeerComparison::Status::Explained:
      return "explained";
    case PeerComparison::Status::Different:
      return "different";
    case PeerComparison::Status::Unsupported:
      return "unsupported";
    case PeerComparison::Status::Failed:
      return "FAILED";
  }
  return "?";
}

}  // namespace espq
