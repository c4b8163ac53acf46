#pragma once
#include <cstdint>
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

  /// The tensors of these names in another graph.
  std::vector<const Variable*> variables_in(const Graph& other) const;

  /// What the differences of one batch's answers, one tensor per variable, add to the error.
  struct Powers {
    std::vector<double> noise = {}, signal = {};  ///< per variable
  };
  Powers powers(size_t batch, const Tensors& got);
  double error(const std::vector<Powers>& batches) const;

  /// Noise over signal of what `executor` makes of the same batches with `other`, which has tensors of these names:
  /// squared differences over squared answers, each summed over all batches, mean over variables. 0 is perfect; a
  /// variable that is 0 on all data counts its differences.
  double error(const Graph& other, Executor& executor);
  /// The same for a quantized graph in Simulated precision.
  double simulated_error(const Graph& quantized) { return error_in(quantized, Precision::Simulated); }
  /// The same for a float graph.
  double float_error(const Graph& other) { return error_in(other, Precision::Float); }

 private:
  /// Batches run side by side, each on one thread.
  double error_in(const Graph& other, Precision precision);

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
