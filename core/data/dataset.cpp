#include "core/data/dataset.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {
namespace {

/// The name NumPy gives to an array that was saved without one.
constexpr const char* kUnnamedArray = "arr_0";

void check_values(const at::Tensor& tensor, const std::string& where) {
  user_check(tensor.numel() > 0, "{}: holds no values (shape [{}])", where, fmt::join(tensor.sizes(), ", "));
  if (!tensor.is_floating_point()) return;
  const at::Tensor bad = at::isfinite(tensor).logical_not_().flatten().nonzero();
  if (bad.numel() == 0) return;
  const int64_t first = bad[0].item<int64_t>();
  user_error("{}: {} of {} values are NaN or infinite, the first is number {} ({})", where, bad.numel(), tensor.numel(),
             first, tensor.flatten()[first].to(at::kDouble).item<double>());
}

Dataset::Batch read_batch(const std::filesystem::path& file) {
  Dataset::Batch batch;
  if (file.extension() == ".npy") {
    batch[""] = read_npy(file);
  } else {
    batch = read_npz(file);
    user_check(!batch.empty(), "{}: holds no array", file.string());
  }
  for (const auto& [name, tensor] : batch) {
    check_values(tensor, name.empty() ? file.string() : file.string() + ": " + name);
  }
  return batch;
}

bool is_batch_file(const std::filesystem::path& file) {
  return file.extension() == ".npy" || file.extension() == ".npz";
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  std::error_code status;
  if (!std::filesystem::is_directory(path, status)) {
    user_check(std::filesystem::exists(path, status), "{}: does not exist", path.string());
    user_check(is_batch_file(path), "{}: is neither a folder nor a .npy or .npz file", path.string());
    return {path};
  }
  std::vector<std::filesystem::path> files;
  std::filesystem::directory_iterator entries(path, status);
  user_check(!status, "{}: cannot be read: {}", path.string(), status.message());
  for (const auto& entry : entries) {
    if (is_batch_file(entry.path()) && !entry.is_directory(status)) files.push_back(entry.path());
  }
  user_check(!files.empty(), "{}: holds no .npy or .npz file", path.string());
  std::sort(files.begin(), files.end());
  return files;
}

std::string input_names(const Graph& graph) {
  std::vector<std::string_view> names;
  for (const Variable* input : graph.inputs()) names.push_back(input->name());
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The tensor in the dtype of the input; refuses to change a value by more than float rounding does.
at::Tensor convert(const at::Tensor& tensor, const Variable& input, size_t index) {
  if (tensor.scalar_type() == input.dtype()) return tensor;
  at::Tensor converted = tensor.to(input.dtype());
  const bool kept = c10::isFloatingType(input.dtype())
                        ? !tensor.is_floating_point() || at::isfinite(converted).all().item<bool>()
                        : converted.to(at::kDouble).equal(tensor.to(at::kDouble));
  user_check(kept, "batch {}: input '{}' is {}, the data ({}) holds values that do not fit it", index, input.name(),
             c10::toString(input.dtype()), c10::toString(tensor.scalar_type()));
  return converted;
}

/// Equal, but for the number of samples in the batch.
bool fits(Shape data, const Shape& input) {
  if (data.size() > 1 && data.size() == input.size()) data[0] = input[0];
  return data == input;
}

}  // namespace

Dataset Dataset::open(const std::vector<std::filesystem::path>& paths) {
  std::vector<Batch> batches;
  for (const auto& path : paths) {
    for (const auto& file : files_of(path)) batches.push_back(read_batch(file));
  }
  user_check(!batches.empty(), "no data: give folders, .npy or .npz files");
  return Dataset(std::move(batches));
}

std::vector<at::Tensor> Dataset::inputs(const Graph& graph, size_t index) const {
  const Batch& batch = batches_.at(index);
  const bool unnamed = batch.size() == 1 && (batch.count("") != 0 || batch.count(kUnnamedArray) != 0);
  user_check(!unnamed || graph.inputs().size() == 1,
             "batch {}: holds one unnamed array, the model has the inputs {}: give .npz files with these names", index,
             input_names(graph));
  for (const auto& [name, tensor] : batch) {
    const Variable* variable = graph.find_variable(name);
    user_check(unnamed || (variable && graph.is_input(variable)),
               "batch {}: '{}' is no input of the model, which has {}", index, name, input_names(graph));
  }
  std::vector<at::Tensor> tensors;
  for (const Variable* input : graph.inputs()) {
    const auto found = unnamed ? batch.begin() : batch.find(input->name());
    user_check(found != batch.end(), "batch {}: has no array for input '{}'", index, input->name());
    const at::Tensor& tensor = found->second;
    user_check(!input->shape() || fits(tensor.sizes().vec(), *input->shape()),
               "batch {}: input '{}' has shape [{}], the data has shape [{}]", index, input->name(),
               fmt::join(input->shape().value_or(Shape{}), ", "), fmt::join(tensor.sizes(), ", "));
    tensors.push_back(convert(tensor, *input, index));
  }
  return tensors;
}

}  // namespace espq
