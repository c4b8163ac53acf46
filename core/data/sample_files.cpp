#include "core/data/sample_files.h"

#include <ATen/ATen.h>

#include <map>

#include "core/support/error.h"

namespace espq {
namespace {

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

}  // namespace

SampleFiles SampleFiles::open(const std::vector<std::filesystem::path>& paths) {
  SampleFiles samples;
  for (const auto& path : paths)
    for (const auto& file : files_of(path)) samples.files_.push_back(file);
  user_check(!samples.files_.empty(), "no data: give folders, .npy or .npz files");
  return samples;
}

Dataset::Batch SampleFiles::read(size_t index) const { return read_batch(file(index)); }

void SampleFiles::check_stems() const {
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < size(); ++i) {
    const auto [first, is_new] = known.emplace(stem(i), i);
    user_check(is_new, "{} and {}: two samples are called '{}'", file(first->second).string(), file(i).string(),
               stem(i));
  }
}

}  // namespace espq
