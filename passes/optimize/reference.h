#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/data/dataset.h"
#include "core/exec/executor.h"

namespace espq {

/// Noise to signal of the outputs that float rounding explains: products of float32 numbers with as many factors.
inline constexpr double kSameFunction = 1e-8;

/// Float answers of a network as it is now, batch by batch: what a pass that is about to change it compares with. Of a
/// quantized graph the float values of its kernels, rounding left out.
class Reference {
 public:
  /// `variables`: the tensors to keep, by name; none: the network's floating outputs. Batches are run when they are
  /// asked for first and kept up to `bytes`, those beyond are run each time. Throws UserError naming a tensor that the
  /// network does not have.
  Reference(const Graph& network, const Dataset& data, std::vector<std::string> variables = {},
            int64_t bytes = int64_t{1} << 28);

  size_t batches() const { return data_.size(); }
  const std::vector<std::string>& variables() const { return names_; }
  const Dataset& data() const { return data_; }
  /// One tensor per variable. Several threads may ask at once, here and below.
  Tensors answers(size_t batch);

  /// Noise over signal of other answers to the same batches: squared differences over squared answers, each summed over
  /// all batches, mean over variables. 0 is perfect; a variable that is 0 on all data counts its differences.
  double error(const std::function<Tensors(size_t batch)>& others);
  /// The same for what a quantized graph with tensors of these names computes in Simulated precision.
  double simulated_error(const Graph& quantized) { return error_of(quantized, Precision::Simulated); }
  /// The same for what a float network computes.
  double float_error(const Graph& other) { return error_of(other, Precision::Float); }

 private:
  double error_of(const Graph& other, Precision precision);

  Graph network_;
  Dataset data_;
  std::vector<std::string> names_;
  std::vector<const Variable*> wanted_;
  int64_t room_;
  std::vector<Tensors> kept_;  ///< per batch; empty: not kept
  Executor executor_;
  std::mutex running_;
};

}  // namespace espq
