#error "LEAD 17:59: main has qat/worker_group.h + run_workers.cpp (same thing, with the real ProcessGroupGloo; header trick in qat/declarations). DROP your data_parallel/workers files and tests. Use WorkerGroup in qat_digits (--nproc) instead, add docs, then report."
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

// Training on several processes of one machine: every process has the whole network and a part of each batch.
namespace espq {

/// One of the processes, as launch_workers() hands it to the worker.
struct Worker {
  int rank = 0;       ///< 0 to processes - 1; by custom, 0 alone writes files
  int processes = 1;  ///< how many there are
  int port = 0;       ///< where they meet, on this machine
  int listener = -1;  ///< rank 0: the open socket of that port
};

/// Forks `processes` workers, waits for them and returns the first exit code that is not 0, or 0. SIGINT and SIGTERM
/// are passed on to all of them. A worker that dies by a signal ends the run: the others are stopped, and UserError
/// names the worker and the signal. To be called before LibTorch computes anything: its threads do not survive a fork.
int launch_workers(int processes, const std::function<int(const Worker&)>& worker);

/// Keeps the workers' gradients equal. All workers make the same calls in the same order. They meet in LibTorch's
/// c10d::TCPStore, which rank 0 serves; sums are made in the order of the ranks, so that all get the same bits.
/// Throws UserError when another worker does not answer for `timeout_seconds`.
class DataParallel {
 public:
  explicit DataParallel(const Worker& worker, int timeout_seconds = 300);
  ~DataParallel();

  /// Replaces each gradient by its mean over the workers: what one process computes for all their rows together, when a
  /// loss is a mean over rows and all workers have equally many. A missing gradient counts as zeros.
  void average_gradients(const std::vector<at::Tensor>& parameters);
  /// True for all workers when it is true for one: how a signal that only one has seen yet stops all after one step.
  bool any(bool mine);
  /// The rows of a batch that are this worker's: every processes-th one. Throws UserError when they cannot be shared
  /// equally.
  at::Tensor part(const at::Tensor& rows) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace espq
