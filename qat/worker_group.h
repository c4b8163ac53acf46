#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <vector>

// Data-parallel training: several processes hold the same network, each computes gradients on its share of every batch,
// and all take the same step with the mean of their gradients. LibTorch's own c10d moves the numbers (gloo, on
// processors).
namespace espq {

/// The processes that train together, as one of them sees it. All of them must make the same calls in the same order.
/// Every call throws UserError when another process is gone or does not answer in time.
class WorkerGroup {
 public:
  /// Joins the group that the environment names by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as run_workers() and
  /// launchers such as torchrun set them; a group of one where they are not set. `timeout` is for joining and for every
  /// exchange. Throws UserError when only some of them are set or the others do not come.
  static WorkerGroup join(std::chrono::seconds timeout = std::chrono::seconds(60));
  ~WorkerGroup();
  WorkerGroup(WorkerGroup&&) noexcept;

  int rank() const;
  int size() const;
  /// True in the one process that prints, evaluates and writes files.
  bool is_first() const { return rank() == 0; }

  /// The rows of a batch (along dimension 0) that are this process's. Throws UserError when the number of rows is no
  /// multiple of the number of processes: unequal shares would weigh some rows more than others.
  at::Tensor share(const at::Tensor& batch) const;

  /// Replaces every gradient by the mean over all processes: with losses that are means over rows, the gradient of
  /// the loss over all shares together. Parameters without a gradient count as zero, if another process has one.
  void average_gradients(const std::vector<at::Tensor>& parameters);
  /// Overwrites the tensors by those of the first process.
  void broadcast(const std::vector<at::Tensor>& tensors);
  /// The sum over all processes.
  double sum(double value);
  /// True in all of them when it is in one: whether to stop must be decided together.
  bool any(bool value) { return sum(value ? 1 : 0) > 0; }

 private:
  struct Implementation;
  explicit WorkerGroup(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

/// True in a process that was started as part of a group: join() it. False in the one that the user started.
bool is_worker();

/// Starts this program `count` times with the same arguments as a group on this machine and waits for all. SIGINT and
/// SIGTERM go on to the processes, which stop when they see fit. Returns the exit code that they agree on, or the first
/// that is not 0. When one is killed or ends with a code that is not 0, the others get a moment to end by themselves
/// and are then ended, too; throws UserError naming the process and what happened to it when it was killed.
int run_workers(int count, char** arguments);

}  // namespace espq
