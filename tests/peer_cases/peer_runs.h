#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "passes/pipeline.h"

namespace espq {

/// One run of esp-ppq 1.3.12 in the reference collection: a network, a chip and the options that were used.
struct PeerRun {
  std::string name, folder, target;
  std::filesystem::path case_folder;
  std::string unsupported;  ///< an option of the run that espq does not have (yet); empty when it can be repeated
  std::string error;        ///< what esp-ppq said when it failed; there is no file then
  QuantizeOptions options;  ///< the parity recipe with the options of the run

  std::filesystem::path model() const;  ///< what esp-ppq quantized: the model after onnxsim
  std::filesystem::path original() const { return case_folder / "model.onnx"; }
  std::filesystem::path file() const { return case_folder / folder / "peer.espdl"; }
  Dataset calibration() const { return Dataset::open({case_folder / "calib"}); }
};

/// The runs of the manifest at 8 bit, in its order; empty filters take all.
std::vector<PeerRun> peer_runs(const std::filesystem::path& collection, const std::string& name = {},
                               const std::string& target = {});

}  // namespace espq
