#pragma once
#include <string>
#include <vector>

#include "export/espdl/diff.h"
#include "tests/peer_run.h"

namespace espq {

/// Where the float graph of a run comes from.
enum class PeerSource {
  Simplified,  ///< the model after onnxsim, formatted as esp-ppq does it: quantization and lowering alone are compared
  Original,    ///< the user's model through espq's own simplifier: the whole way is compared
};

/// What came of repeating one run of esp-ppq with its recipe.
struct PeerComparison {
  enum class Status {
    Equal,      ///< diff() finds nothing
    Explained,  ///< every difference has a reason why the chip is better served by espq's file
    Different,
    Unsupported,  ///< the run uses operators or options that espq does not have yet; `message` says which
    Failed,       ///< espq threw; `message` says what
  } status = Status::Equal;
  std::string message;
  std::vector<EspdlDifference> differences;
  std::vector<std::string> reasons;  ///< parallel to `differences`; empty where there is none
};

/// Whether a difference of a run with `bits` is what other kernels of LibTorch make of it: esp-ppq's numbers were
/// recorded on another kind of processor than this one.
bool from_other_kernels(const EspdlDifference& difference, int bits);

PeerComparison compare_with_peer(const PeerRun& run, PeerSource source);

/// "equal", "explained" ...
std::string_view to_text(PeerComparison::Status status);

}  // namespace espq
