#include "qat/worker_group.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/GradMode.h>

#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include "core/support/error.h"
#include "core/support/first_line.h"

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

}  // namespace

bool has_nccl() {
#ifdef USE_C10D_NCCL
  return true;
#else
  return false;
#endif
}

struct WorkerGroup::Implementation {
  int rank = 0, size = 1;
  GroupOptions options;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> group;  ///< undefined in a group of one

  void choose_device() {
    at::Device& device = options.device;
    if (device.is_cuda()) {
      const int devices = at::detail::getCUDAHooks().getNumGPUs();
      user_check(devices > 0, "training process {} of {}: there is no CUDA device, or LibTorch is one without CUDA",
                 rank + 1, size);
      const int local = setting("LOCAL_RANK") ? number_setting("LOCAL_RANK", 0) : rank;
      if (!device.has_index()) device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(local % devices));
      user_check(device.index() < devices, "training process {} of {}: there is no {}, only {} CUDA devices", rank + 1,
                 size, device.str(), devices);
      const int here = setting("LOCAL_WORLD_SIZE") ? number_setting("LOCAL_WORLD_SIZE", 1) : size;
      if (options.transport == Transport::Automatic && has_nccl() && here <= devices)
        options.transport = Transport::Nccl;
    }
    if (options.transport == Transport::Automatic) options.transport = Transport::Gloo;
    user_check(options.transport != Transport::Nccl || has_nccl(),
               "NCCL was asked for, but espq was built without it: docs/building.md says what it needs");
    user_check(options.transport != Transport::Nccl || device.is_cuda(),
               "NCCL moves numbers between CUDA devices, these processes train on {}", device.str());
  }

  void connect() {
    const char* address = setting("MASTER_ADDR");
    user_check(address,
               "MASTER_ADDR is not set: a training process needs RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    c10d::TCPStoreOptions meeting;
    meeting.port = static_cast<uint16_t>(number_setting("MASTER_PORT", 1));
    meeting.isServer = rank == 0;
    meeting.numWorkers = static_cast<size_t>(size);
    meeting.timeout = options.timeout;
    const bool local = std::string(address) == "127.0.0.1" || std::string(address) == "localhost";
    try {
      store = c10::make_intrusive<c10d::TCPStore>(address, meeting);
      group = options.transport == Transport::Nccl ? make_nccl() : make_gloo(local);
    } catch (const std::exception& error) {
      user_error("training process {} of {}: the group at {}:{} did not come together: {}", rank + 1, size, address,
                 meeting.port, first_line(error));
    }
  }

  c10::intrusive_ptr<c10d::Store> names() const { return c10::make_intrusive<c10d::PrefixStore>("espq", store); }

  c10::intrusive_ptr<c10d::Backend> make_gloo(bool local) const {
    auto gloo = c10d::ProcessGroupGloo::Options::create(options.timeout);
    gloo->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                  : c10d::ProcessGroupGloo::createDefaultDevice());
    return c10::make_intrusive<c10d::ProcessGroupGloo>(names(), rank, size, gloo);
  }

  c10::intrusive_ptr<c10d::Backend> make_nccl() const {
#ifdef USE_C10D_NCCL
    // An exchange ends here, and with an exception when another process is gone: NCCL itself would wait for it forever.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 1);
    auto nccl = c10d::ProcessGroupNCCL::Options::create();
    nccl->timeout = options.timeout;
    auto result = c10::make_intrusive<c10d::ProcessGroupNCCL>(names(), rank, size, nccl);
    result->setBoundDeviceId(options.device);
    return result;
#else
    internal_check(false, "NCCL is not there");
    return nullptr;
#endif
  }

  /// Where the transport takes numbers from.
  at::Device wire() const { return options.transport == Transport::Nccl ? options.device : at::Device(at::kCPU); }

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

  /// `buffer` is on the wire's device.
  void add_up(at::Tensor& buffer) const {
    std::vector<at::Tensor> buffers{buffer};
    exchange("sum", [&] { return group->allreduce(buffers); });
  }
};

WorkerGroup::WorkerGroup(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}
WorkerGroup::~WorkerGroup() = default;
WorkerGroup::WorkerGroup(WorkerGroup&&) noexcept = default;

WorkerGroup WorkerGroup::join(const GroupOptions& options) {
  auto implementation = std::make_unique<Implementation>();
  implementation->options = options;
  if (is_worker()) {
    implementation->rank = number_setting("RANK", 0);
    implementation->size = number_setting("WORLD_SIZE", 1);
    user_check(implementation->rank < implementation->size, "RANK is {}, with a WORLD_SIZE of {} it must be smaller",
               implementation->rank, implementation->size);
  }
  implementation->choose_device();
  if (implementation->size > 1) implementation->connect();
  return WorkerGroup(std::move(implementation));
}

at::Device WorkerGroup::device() const { return implementation_->options.device; }
Transport WorkerGroup::transport() const { return implementation_->options.transport; }
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
  const at::TensorOptions on_wire = at::TensorOptions().dtype(at::kFloat).device(implementation_->wire());
  // One buffer for all, and behind the gradients what tells which of them there are.
  std::vector<at::Tensor> pieces;
  std::vector<float> present;
  for (const at::Tensor& parameter : parameters) {
    const at::Tensor& gradient = parameter.grad();
    present.push_back(gradient.defined() ? 1.0f : 0.0f);
    pieces.push_back(gradient.defined() ? gradient.reshape({-1}).to(on_wire) : at::zeros({parameter.numel()}, on_wire));
  }
  const auto count = static_cast<int64_t>(parameters.size());
  pieces.push_back(at::tensor(present).to(on_wire));
  at::Tensor buffer = at::cat(pieces);
  implementation_->add_up(buffer);
  const at::Tensor anywhere = buffer.slice(0, buffer.numel() - count).cpu();
  int64_t begin = 0;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor& parameter = parameters[static_cast<size_t>(i)];
    const at::Tensor sum = buffer.narrow(0, begin, parameter.numel());
    begin += parameter.numel();
    if (anywhere.const_data_ptr<float>()[i] == 0) continue;
    const at::Tensor mean = sum.reshape(parameter.sizes()).div(size()).to(parameter.options().requires_grad(false));
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
    std::vector<at::Tensor> buffers{tensor.detach().to(implementation_->wire()).contiguous()};
    implementation_->exchange("broadcast", [&] { return implementation_->group->broadcast(buffers); });
    tensor.detach().copy_(buffers[0]);
  }
}

double WorkerGroup::sum(double value) {
  if (size() == 1) return value;
  at::Tensor buffer = at::full({1}, value, at::TensorOptions().dtype(at::kDouble).device(implementation_->wire()));
  implementation_->add_up(buffer);
  return buffer.item<double>();
}

bool is_worker() { return setting("RANK") || setting("WORLD_SIZE"); }

}  // namespace espq
