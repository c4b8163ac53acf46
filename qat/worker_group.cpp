#include "qat/worker_group.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/support/error.h"

namespace espq {
namespace {

const char* setting(const char* name) { return std::getenv(name); }

int number_setting(const char* name, int low) {
  const char* text = setting(name);
  user_check(text, "{} is not set: a training process needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT", name);
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  user_check(end != text && *end == '\0' && value >= low && value < 65536, "{} is '{}', which is no number from {} on",
             name, text, low);
  return static_cast<int>(value);
}

std::string first_line(const std::exception& error) {
  const auto* known = dynamic_cast<const c10::Error*>(&error);
  const std::string text = known ? known->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace

struct WorkerGroup::Implementation {
  int rank = 0, size = 1;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> group;  ///< undefined in a group of one

  void connect(std::chrono::seconds timeout) {
    const char* address = setting("MASTER_ADDR");
    user_check(address,
               "MASTER_ADDR is not set: a training process needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(number_setting("MASTER_PORT", 1));
    options.isServer = rank == 0;
    options.numWorkers = static_cast<size_t>(size);
    options.timeout = timeout;
    const bool local = std::string(address) == "127.0.0.1" || std::string(address) == "localhost";
    try {
      store = c10::make_intrusive<c10d::TCPStore>(address, options);
      auto gloo = c10d::ProcessGroupGloo::Options::create(timeout);
      gloo->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                    : c10d::ProcessGroupGloo::createDefaultDevice());
      group = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("espq", store), rank,
                                                          size, gloo);
    } catch (const std::exception& error) {
      user_error("training process {} of {}: the group at {}:{} did not come together: {}", rank + 1, size, address,
                 options.port, first_line(error));
    }
  }

  /// One exchange of one buffer.
  template <typename Start>
  void exchange(const char* what, const Start& start) const {
    try {
      start()->wait();
    } catch (const std::exception& error) {
      user_error("training process {} of {}: another process of the group is gone or does not answer ({}: {})",
                 rank + 1, size, what, first_line(error));
    }
  }

  void add_up(at::Tensor& buffer) const {
    std::vector<at::Tensor> buffers{buffer};
    exchange("sum", [&] { return group->allreduce(buffers); });
  }
};

WorkerGroup::WorkerGroup(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}
WorkerGroup::~WorkerGroup() = default;
WorkerGroup::WorkerGroup(WorkerGroup&&) noexcept = default;

WorkerGroup WorkerGroup::join(std::chrono::seconds timeout) {
  auto implementation = std::make_unique<Implementation>();
  if (is_worker()) {
    implementation->rank = number_setting("RANK", 0);
    implementation->size = number_setting("WORLD_SIZE", 1);
    user_check(implementation->rank < implementation->size, "RANK is {}, with a WORLD_SIZE of {} it must be smaller",
               implementation->rank, implementation->size);
    if (implementation->size > 1) implementation->connect(timeout);
  }
  return WorkerGroup(std::move(implementation));
}

int WorkerGroup::rank() const { return implementation_->rank; }
int WorkerGroup::size() const { return implementation_->size; }

at::Tensor WorkerGroup::share(const at::Tensor& batch) const {
  const int64_t rows = batch.dim() > 0 ? batch.size(0) : 1, processes = size();
  user_check(rows % processes == 0, "a batch of {} rows cannot be shared by {} processes: choose a multiple", rows,
             processes);
  const int64_t part = rows / processes;
  return processes == 1 ? batch : batch.narrow(0, rank() * part, part);
}

void WorkerGroup::average_gradients(const std::vector<at::Tensor>& parameters) {
  if (size() == 1 || parameters.empty()) return;
  const c10::AutoGradMode no_gradients(false);
  // One buffer for all, and one place behind each gradient that tells whether there is one.
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& parameter : parameters) {
    const at::Tensor& gradient = parameter.grad();
    pieces.push_back(gradient.defined() ? gradient.reshape({-1}).to(at::kFloat)
                                        : at::zeros({parameter.numel()}, at::kFloat));
    pieces.push_back(at::full({1}, gradient.defined() ? 1.0f : 0.0f));
  }
  at::Tensor buffer = at::cat(pieces);
  implementation_->add_up(buffer);
  int64_t begin = 0;
  for (const at::Tensor& parameter : parameters) {
    const int64_t count = parameter.numel();
    const at::Tensor sum = buffer.narrow(0, begin, count);
    const bool present = buffer[begin + count].item<float>() > 0;
    begin += count + 1;
    if (!present) continue;
    const at::Tensor mean = sum.reshape(parameter.sizes()).div(size()).to(parameter.scalar_type());
    if (parameter.grad().defined()) {
      parameter.grad().copy_(mean);
    } else {
      parameter.mutable_grad() = mean;
    }
  }
}

void WorkerGroup::broadcast(const std::vector<at::Tensor>& tensors) {
  if (size() == 1) return;
  for (const at::Tensor& tensor : tensors) {
    std::vector<at::Tensor> buffers{tensor.detach().contiguous()};
    implementation_->exchange("broadcast", [&] { return implementation_->group->broadcast(buffers); });
    tensor.detach().copy_(buffers[0]);
  }
}

double WorkerGroup::sum(double value) {
  if (size() == 1) return value;
  at::Tensor buffer = at::full({1}, value, at::kDouble);
  implementation_->add_up(buffer);
  return buffer.item<double>();
}

bool is_worker() { return setting("RANK") || setting("WORLD_SIZE"); }

}  // namespace espq
