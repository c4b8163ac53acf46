#pragma once
#include <ATen/core/Tensor.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "qat/trainable_graph.h"

namespace torch::optim {
class Optimizer;
}

// Pieces of a training loop, each usable alone. The loop itself, optimizers and learning rate schedules are LibTorch's.
namespace espq {

/// Which rows make a batch: a new permutation of all rows every epoch, a function of seed and step alone. The last rows
/// of an epoch that fill no batch wait for another epoch.
class BatchOrder {
 public:
  /// Throws UserError when there are fewer rows than one batch needs.
  BatchOrder(int64_t rows, int64_t batch_size, uint64_t seed);
  int64_t batches_per_epoch() const { return rows_ / batch_size_; }
  /// Indices (int64, `batch_size` of them) of the rows of batch `step`, counted from the first epoch on.
  at::Tensor batch(int64_t step);

 private:
  int64_t rows_, batch_size_, epoch_ = -1;
  uint64_t seed_;
  at::Tensor order_;
};

/// Parameters that stop learning while training runs, e.g. exponents once activations have settled.
class FreezeSchedule {
 public:
  /// From `step` on (the number of finished steps), parameters whose name satisfies the predicate keep their value.
  void add(int64_t step, std::function<bool(const std::string& name)> predicate);
  /// From `step` on, kept BatchNormalizations use their running statistics.
  void freeze_batch_normalizations(int64_t step) { normalizations_ = step; }
  /// To be called before every step; right after a resume, too.
  void apply(TrainableGraph& graph, int64_t step) const;

 private:
  std::vector<std::pair<int64_t, std::function<bool(const std::string& name)>>> entries_;
  std::optional<int64_t> normalizations_;
};

/// True for the names of learnable exponents.
bool is_exponent_name(const std::string& name);

/// Exponential moving average of everything that learns, running statistics included: average <- decay * average + (1 -
/// decay) * value, after each step. The decay of step t is at most (1 + t) / (10 + t), so that the start does not weigh
/// on it for long.
class MovingAverage {
 public:
  MovingAverage(TrainableGraph& graph, double decay);
  void update();
  /// Puts the averages into the graph and keeps its values, or the other way round: call it before and after an
  /// evaluation.
  void exchange();

  NamedTensors state() const;
  /// Throws UserError when the state belongs to another network.
  void load_state(const NamedTensors& state);

 private:
  TrainableGraph::NamedParameters parameters_;
  std::vector<at::Tensor> averages_;
  double decay_;
  int64_t updates_ = 0;
};

/// While it lives, SIGINT and SIGTERM only set a flag: the loop finishes its step, saves and leaves. A second signal
/// ends the program at once.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  /// The signal that asked to stop; 0 = none.
  static int received();

 private:
  using Handler = void (*)(int);
  Handler interrupt_, terminate_;
};

/// What a checkpoint holds beside the state of LibTorch's default random generator.
struct TrainingState {
  TrainableGraph& graph;
  torch::optim::Optimizer* optimizer = nullptr;
  MovingAverage* average = nullptr;
  int64_t step = 0;  ///< number of finished steps: with a BatchOrder it also tells which data come next
};

/// Written whole or not at all: a run that is killed at any moment leaves the last checkpoint.
void save_checkpoint(const std::filesystem::path& file, const TrainingState& training);
/// Brings everything back, `step` included; a run continued from there computes what the uninterrupted one would have.
/// Returns false and changes nothing when there is no such file. Throws UserError when the file is damaged or belongs
/// to another network or optimizer.
bool load_checkpoint(const std::filesystem::path& file, TrainingState& training);

}  // namespace espq
