#include "qat/tensor_file.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include "core/support/error.h"
#include "core/support/file.h"

namespace espq {

void write_tensors(const std::filesystem::path& file, const NamedTensors& tensors) {
  c10::Dict<std::string, at::Tensor> dictionary;
  for (const auto& [name, tensor] : tensors) dictionary.insert(name, tensor.detach().cpu().contiguous());
  const std::vector<char> bytes = torch::jit::pickle_save(dictionary);
  write_file(file, {bytes.data(), bytes.size()});
}

NamedTensors read_tensors(const std::filesystem::path& file) {
  const std::string bytes = read_file(file);
  try {
    const c10::IValue value = torch::jit::pickle_load({bytes.begin(), bytes.end()});
    NamedTensors tensors;
    for (const auto& entry : value.toGenericDict())
      tensors.emplace(entry.key().toStringRef(), entry.value().toTensor());
    return tensors;
  } catch (const c10::Error& error) {
    user_error("{}: does not hold saved tensors, or is damaged ({})", file.string(),
               std::string(error.what_without_backtrace()).substr(0, 120));
  }
}

}  // namespace espq
