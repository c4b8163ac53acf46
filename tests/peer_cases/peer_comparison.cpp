#include "tests/peer_cases/peer_comparison.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cstdlib>

#include "core/exec/executor.h"
#include "core/ops/operator.h"
#include "core/support/error.h"
#include "export/conversion/test_values.h"
#include "export/conversion/verify.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"
#include "onnx_frontend/onnx_frontend.h"
#include "passes/pipeline/write.h"
#include "tests/recorded_kernels.h"

namespace espq {
namespace {

/// esp-ppq's numbers come from LibTorch's kernels for AVX2. Those for AVX-512 add float32 numbers in another order, and
/// their functions differ in the last bit: here and there a rounding falls the other way, in esp-ppq as in espq. So do
/// sums that several threads share, see compare_with_peer().
const bool same_kernels = [] {
  setenv("ATEN_CPU_CAPABILITY", "avx2", 0);
  setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 0);
  return true;
}();

constexpr const char* kBoardNumbers =
    "esp-ppq simulates this operator with the chip's arithmetic: Board precision gives the recorded numbers";

/// esp-ppq records the first calibration batch and what its simulation makes of it.
NamedTensors first_batch(const Graph& graph, const Dataset& calibration) {
  const Tensors batch = calibration.inputs(graph, 0);
  NamedTensors inputs;
  for (size_t i = 0; i < batch.size(); ++i) inputs[graph.inputs()[i]->name()] = batch[i];
  return inputs;
}

bool only_test_values(const std::vector<EspdlDifference>& differences) {
  return std::all_of(differences.begin(), differences.end(),
                     [](const EspdlDifference& difference) { return difference.kind == "test value"; });
}

/// Why a difference is none for the chip; "" = it is one.
std::string reason_of(const EspdlDifference& difference, int bits) {
  if (from_other_kernels(difference, bits))
    return "floats that LibTorch rounds otherwise on this processor than on the recording one";
  // Only tensors that the chip keeps in float have fractions of this size; the simulations round differently on the way
  // (esp-ppq takes the logarithm of a finished Softmax).
  if (difference.kind == "test value" && difference.differing > 0 && difference.largest <= kFloatTolerance)
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

/// True when the peer recorded what the chip computes. Board precision cannot run some of its 16-bit files.
bool holds_board_numbers(const EspdlModel& peer, const Graph& chip, const NamedTensors& inputs,
                         const EspdlOptions& options) {
  try {
    return diff(peer, to_model(chip, record_test_values(chip, inputs), options)).empty();
  } catch (const UserError&) {
    return false;
  }
}

void compare(const PeerRun& run, PeerSource source, const EspdlModel& peer, PeerComparison& result) {
  c10::AutoGradMode no_gradients(false);
  const Dataset calibration = Dataset::open({run.calibration});
  const bool simplified = source == PeerSource::Simplified;
  Graph graph = import_onnx(simplified ? run.model : run.model.parent_path() / "model.onnx");
  Recipe recipe = run.recipe;
  if (simplified) recipe.simplify.reset();
  const Conversion made = convert(graph, calibration, recipe);
  const EspdlOptions options = file_options(recipe);
  const NamedTensors inputs = first_batch(graph, calibration);
  result.differences = diff(peer, to_model(made.chip, answers(made, inputs), options));
  const bool recorded_board = !result.differences.empty() && only_test_values(result.differences) &&
                              holds_board_numbers(peer, made.chip, inputs, options);
  for (const EspdlDifference& difference : result.differences)
    result.reasons.push_back(recorded_board ? kBoardNumbers : reason_of(difference, run.recipe.widths.bits));
  const auto unexplained = std::count(result.reasons.begin(), result.reasons.end(), "");
  result.status = unexplained                  ? PeerComparison::Status::Different
                  : result.differences.empty() ? PeerComparison::Status::Equal
                                               : PeerComparison::Status::Explained;
}

}  // namespace

bool from_other_kernels(const EspdlDifference& difference, int bits) {
  // Sums of 16-bit factors turn over here and there, and what follows multiplies that; tables by one.
  constexpr double kMostCodes = 32;
  const bool table = difference.kind == "table" && difference.largest <= 1;
  const bool value = difference.kind == "test value" && difference.largest <= kMostCodes;
  return bits == 16 && difference.differing > 0 && (table || value) && !test::kernels_of_the_recording();
}

PeerComparison compare_with_peer(const PeerRun& run, PeerSource source) {
  at::set_num_threads(1);
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
