#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "core/support/error.h"
#include "qat/training.h"
#include "qat/worker_group.h"

namespace espq {
namespace {

using Clock = std::chrono::steady_clock;

/// How long the others may take to notice that one of them is gone.
constexpr std::chrono::seconds kGrace{5};

/// A port of this machine that nobody uses at the moment.
int free_port() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool found =
      listener >= 0 && bind(listener, generic, length) == 0 && getsockname(listener, generic, &length) == 0;
  const int failure = errno;
  if (listener >= 0) close(listener);
  user_check(found, "no port for the training processes to meet at: {}", std::strerror(failure));
  return ntohs(address.sin_port);
}

pid_t start(int rank, int count, int port, char** arguments) {
  const pid_t process = fork();
  user_check(process >= 0, "training process {} of {} cannot be started: {}", rank + 1, count, std::strerror(errno));
  if (process > 0) return process;
  setpgid(0, 0);                     // a terminal's Ctrl-C must arrive once: by way of this program, which passes it on
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // and nobody trains on when it is killed
  setenv("RANK", std::to_string(rank).c_str(), 1);
  setenv("WORLD_SIZE", std::to_string(count).c_str(), 1);
  const auto threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / count);
  setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 0);  // else each would take all cores
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(port).c_str(), 1);
  execv("/proc/self/exe", arguments);
  _exit(127);
}

/// The processes that still run, by rank; 0 = ended.
struct Workers {
  std::vector<pid_t> processes;

  void signal(int number) const {
    for (const pid_t process : processes)
      if (process > 0) kill(process, number);
  }
  bool running() const {
    return std::any_of(processes.begin(), processes.end(), [](pid_t process) { return process > 0; });
  }
  /// Rank of one that ended since the last call, and its status; -1 = none.
  int collect(int& status) {
    for (size_t rank = 0; rank < processes.size(); ++rank) {
      if (processes[rank] <= 0 || waitpid(processes[rank], &status, WNOHANG) != processes[rank]) continue;
      processes[rank] = 0;
      return static_cast<int>(rank);
    }
    return -1;
  }
};

}  // namespace

int run_workers(int count, char** arguments) {
  user_check(count >= 1, "{} training processes were asked for", count);
  const int port = free_port();
  const StopSignal stop;
  Workers workers;
  for (int rank = 0; rank < count; ++rank) workers.processes.push_back(start(rank, count, port, arguments));
  int passed_on = 0, code = 0;
  std::string killed;
  std::optional<Clock::time_point> end;  // set by the first failure
  while (workers.running()) {
    if (const int number = StopSignal::received(); number != passed_on) workers.signal(passed_on = number);
    if (end && Clock::now() > *end) workers.signal(SIGKILL);
    int status = 0;
    const int rank = workers.collect(status);
    if (rank < 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      continue;
    }
    const bool signaled = WIFSIGNALED(status);
    if (!end && signaled)
      killed = fmt::format("training process {} of {} was ended by signal {} ({})", rank + 1, count, WTERMSIG(status),
                           strsignal(WTERMSIG(status)));
    if (!signaled && WEXITSTATUS(status) != 0 && code == 0) code = WEXITSTATUS(status);
    if (!end && (signaled || WEXITSTATUS(status) != 0)) end = Clock::now() + kGrace;
  }
  if (!killed.empty())
    user_error("{}; the others were ended, too. The last checkpoint is complete: start again to go on from it", killed);
  return code;
}

}  // namespace espq
