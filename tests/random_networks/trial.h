#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/exec/executor.h"
#include "tests/random_networks/network.h"

// What becomes of a network: refused, or a file whose board outputs are held against the network's own.
namespace espq::random_networks {

/// One output of the network, in its own layout.
struct OutputResult {
  std::string name;
  at::Tensor computed = {};  ///< by the untouched network
  at::Tensor board = {};     ///< recorded in the file and verified, as real numbers
  double signal = 0;         ///< root mean squares: of the network's output,
  double noise = 0;          ///< of what the board's differs by,
  double expected = 0;       ///< and of what roundings of these widths make it differ by (expected_noise)

  /// In decibels.
  double ratio() const { return 20 * std::log10((signal + 1e-12) / (noise + 1e-12)); }
  double expected_ratio() const { return 20 * std::log10((signal + 1e-12) / (expected + 1e-12)); }
  bool is_outlier() const;
};

struct Trial {
  enum class End {
    Refused,   ///< with a message for the user
    Survived,  ///< converted, written, read back, checked, verified
    Broken,    ///< anything else, see `message`
  } end = End::Broken;
  std::string message = {};
  std::string chip = {};  ///< text of the chip graph, once there is one
  std::vector<OutputResult> outputs = {};
  NamedTensors inputs = {};  ///< of the test run

  /// The one closest to its bound or furthest beyond it; nullptr for none.
  const OutputResult* worst() const;
};

/// Converts the network, writes `file`, reads it back, checks and verifies it, and compares.
Trial try_network(const RandomNetwork& network, const std::filesystem::path& file);

/// "", or what is wrong with the way in which the trial ended.
std::string complaint(const RandomNetwork& network, const Trial& trial);

/// Root mean square, for every output, of the difference that roundings make: see expected_noise.cpp.
std::vector<double> expected_noise(const Graph& network, const Dataset& calibration, const Recipe& recipe,
                                   const Tensors& inputs);

}  // namespace espq::random_networks
