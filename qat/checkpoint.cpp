// The one place of this room where LibTorch's training API is compiled.
#include <torch/optim/optimizer.h>
#include <torch/serialize.h>

#include <sstream>

#include "core/support/error.h"
#include "core/support/first_line.h"
#include "qat/tensor_file.h"
#include "qat/training.h"

namespace espq {
namespace {

at::Tensor bytes_tensor(const std::string& bytes) {
  at::Tensor result = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::copy(bytes.begin(), bytes.end(), result.mutable_data_ptr<uint8_t>());
  return result;
}

at::Tensor optimizer_bytes(const torch::optim::Optimizer& optimizer) {
  torch::serialize::OutputArchive archive;
  optimizer.save(archive);
  std::ostringstream stream;
  archive.save_to(stream);
  return bytes_tensor(stream.str());
}

void load_optimizer(torch::optim::Optimizer& optimizer, const at::Tensor& bytes) {
  torch::serialize::InputArchive archive;
  // A run may go on where it did not start.
  const at::Device device = optimizer.param_groups()[0].params()[0].device();
  archive.load_from(reinterpret_cast<const char*>(bytes.const_data_ptr<uint8_t>()), static_cast<size_t>(bytes.numel()),
                    device);
  optimizer.load(archive);
}

void add_all(NamedTensors& all, const std::string& prefix, const NamedTensors& part) {
  for (const auto& [name, tensor] : part) all.emplace(prefix + name, tensor);
}

NamedTensors part_of(const NamedTensors& all, const std::string& prefix) {
  NamedTensors part;
  for (const auto& [name, tensor] : all)
    if (name.rfind(prefix, 0) == 0) part.emplace(name.substr(prefix.size()), tensor);
  return part;
}

at::Generator default_generator() { return at::globalContext().defaultGenerator(at::kCPU); }

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const TrainingState& training) {
  NamedTensors all{{"step", at::tensor({training.step}, at::kLong)}, {"random", default_generator().get_state()}};
  add_all(all, "graph/", training.graph.state());
  if (training.average) add_all(all, "average/", training.average->state());
  if (training.optimizer) all.emplace("optimizer", optimizer_bytes(*training.optimizer));
  write_tensors(file, all);
}

bool load_checkpoint(const std::filesystem::path& file, TrainingState& training) {
  if (!std::filesystem::exists(file)) return false;
  const NamedTensors all = read_tensors(file);
  const auto need = [&](const std::string& name) {
    const auto found = all.find(name);
    user_check(found != all.end(), "{}: holds no {}; it was not written by a run like this one", file.string(), name);
    return found->second;
  };
  const at::Tensor step = need("step"), random = need("random");
  try {
    training.graph.load_state(part_of(all, "graph/"));
    if (training.average) training.average->load_state(part_of(all, "average/"));
    if (training.optimizer) load_optimizer(*training.optimizer, need("optimizer"));
  } catch (const UserError& error) {
    user_error("{}: {}", file.string(), error.what());
  } catch (const c10::Error& error) {
    user_error("{}: the optimizer's state does not fit this optimizer: {}", file.string(), first_line(error));
  }
  default_generator().set_state(random);
  training.step = step.item<int64_t>();
  return true;
}

}  // namespace espq
