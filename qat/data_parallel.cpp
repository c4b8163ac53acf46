#include "qat/data_parallel.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/support/error.h"

namespace espq {

struct DataParallel::Implementation {
  Worker worker;
  c10::intrusive_ptr<c10d::TCPStore> store;
  int64_t round = 0;

  static std::string key(int64_t round, int rank) { return fmt::format("{}/{}", round, rank); }

  /// Everyone's numbers, in the order of the ranks.
  std::vector<at::Tensor> gather(const at::Tensor& mine) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(mine.const_data_ptr<float>());
    std::vector<at::Tensor> all(static_cast<size_t>(worker.processes));
    try {
      store->set(key(round, worker.rank), std::vector<uint8_t>(bytes, bytes + mine.nbytes()));
      for (int rank = 0; rank < worker.processes; ++rank) {
        if (rank == worker.rank) {
          all[static_cast<size_t>(rank)] = mine;
          continue;
        }
        const std::vector<uint8_t> received = store->get(key(round, rank));
        user_check(received.size() == mine.nbytes(), "worker {} trains another network than worker {}", rank,
                   worker.rank);
        at::Tensor& other = all[static_cast<size_t>(rank)] = at::empty_like(mine);
        std::memcpy(other.mutable_data_ptr<float>(), received.data(), received.size());
      }
      // Who has sent this round has read the last one.
      if (round > 0) store->deleteKey(key(round - 1, worker.rank));
    } catch (const UserError&) {
      throw;
    } catch (const std::exception& error) {
      const std::string reason = error.what();
      user_error("worker {}: another worker does not answer ({}); continue from the last checkpoint", worker.rank,
                 reason.substr(0, reason.find('\n')));
    }
    ++round;
    return all;
  }
};

DataParallel::DataParallel(const Worker& worker, int timeout_seconds)
    : implementation_(std::make_unique<Implementation>()) {
  implementation_->worker = worker;
  if (worker.processes == 1) return;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(worker.port);
  options.isServer = worker.rank == 0;
  options.numWorkers = static_cast<size_t>(worker.processes);
  options.waitWorkers = true;
  options.timeout = std::chrono::seconds(timeout_seconds);
  if (worker.rank == 0) options.masterListenFd = worker.listener;
  options.useLibUV = false;
  try {
    implementation_->store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  } catch (const std::exception& error) {
    const std::string reason = error.what();
    user_error("worker {}: the workers do not meet ({})", worker.rank, reason.substr(0, reason.find('\n')));
  }
}

DataParallel::~DataParallel() {
  // Rank 0 serves the others: it leaves last.
  if (implementation_->worker.processes == 1 || std::uncaught_exceptions() > 0) return;
  try {
    any(false);
    if (implementation_->worker.rank != 0) {
      implementation_->store->set(fmt::format("left/{}", implementation_->worker.rank), std::vector<uint8_t>{1});
      return;
    }
    for (int rank = 1; rank < implementation_->worker.processes; ++rank)
      implementation_->store->get(fmt::format("left/{}", rank));
  } catch (const std::exception&) {
    // Somebody is gone already; nothing is waiting for us.
  }
}

void DataParallel::average_gradients(const std::vector<at::Tensor>& parameters) {
  if (implementation_->worker.processes == 1) return;
  c10::AutoGradMode no_gradients(false);
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& parameter : parameters) {
    const at::Tensor& gradient = parameter.grad();
    pieces.push_back((gradient.defined() ? gradient : at::zeros_like(parameter)).reshape({-1}).to(at::kFloat));
  }
  user_check(!pieces.empty(), "there are no parameters whose gradients could be averaged");
  const std::vector<at::Tensor> all = implementation_->gather(at::cat(pieces).contiguous());
  at::Tensor mean = all[0].clone();
  for (size_t rank = 1; rank < all.size(); ++rank) mean.add_(all[rank]);
  mean.div_(static_cast<double>(all.size()));
  int64_t begin = 0;
  for (const at::Tensor& parameter : parameters) {
    const at::Tensor part = mean.slice(0, begin, begin + parameter.numel()).reshape(parameter.sizes());
    begin += parameter.numel();
    if (parameter.grad().defined()) {
      parameter.grad().copy_(part);
    } else {
      parameter.mutable_grad() = part.clone();
    }
  }
}

bool DataParallel::any(bool mine) {
  if (implementation_->worker.processes == 1) return mine;
  for (const at::Tensor& answer : implementation_->gather(at::full({1}, mine ? 1.0f : 0.0f)))
    if (answer.item<float>() != 0) return true;
  return false;
}

at::Tensor DataParallel::part(const at::Tensor& rows) const {
  const Worker& worker = implementation_->worker;
  user_check(rows.size(0) % worker.processes == 0, "a batch of {} rows cannot be shared equally by {} processes",
             rows.size(0), worker.processes);
  return rows.slice(0, worker.rank, rows.size(0), worker.processes);
}

}  // namespace espq
