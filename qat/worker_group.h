#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <vector>

// Data-parallel training: several processes hold the same network, each computes gradients on its share of every batch,
// and all take the same step with the mean of their gradients. LibTorch's own c10d moves the numbers.
namespace espq {

/// What moves the numbers: gloo (over the processors' memory, wherever the tensors are) or NCCL (from one CUDA device
/// to the next, each of which serves one process).
enum class Transport { Automatic, Gloo, Nccl };

/// True where espq was built with NCCL: LibTorch for CUDA and the headers of CUDA and NCCL were there.
bool has_nccl();

struct GroupOptions {
  /// For joining and for every exchange.
  std::chrono::seconds timeout{60};
  /// Where the processes train. CUDA without a number: LOCAL_RANK (or RANK) modulo the number of CUDA devices.
  at::Device device = at::kCPU;
  /// Automatic: NCCL for CUDA when espq has it and no two processes of this machine share a device, else gloo.
  Transport transport = Transport::Automatic;
};

/// The processes that train together, as one of them sees it. All of them must make the same calls in the same order.
/// Every call throws UserError when another process is gone or does not answer in time.
class WorkerGroup {
 public:
  /// Joins the group that the environment names by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as run_workers() and
  /// launchers such as torchrun set them; a group of one where they are not set. Throws UserError when only some of
  /// them are set or the others do not come, when there is no such device, and when NCCL is asked for but not there.
  static WorkerGroup join(const GroupOptions& options = {});
  ~WorkerGroup();
  WorkerGroup(WorkerGroup&&) noexcept;

  int rank() const;
  int size() const;
  /// True in the one process that prints, evaluates and writes files.
  bool is_first() const { return rank() == 0; }
  /// Where this process trains, with its number: what TrainOptions::device wants.
  at::Device device() const;
  /// What moves its numbers: gloo or NCCL, also in a group of one.
  Transport transport() const;

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

/// Starts this program `count` times with the same arguments as a group on this machine and waits for all. They share
/// the cores, unless OMP_NUM_THREADS says how many threads each has. SIGINT and SIGTERM go on to the processes, which
/// stop when they see fit. Returns the exit code that they agree on, or the first that is not 0. When one is killed or
/// ends with a code that is not 0, the others get a moment to end by themselves and are then ended, too; throws
/// UserError naming the process and what happened to it when it was killed.
int run_workers(int count, char** arguments);

}  // namespace espq
