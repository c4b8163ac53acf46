#include "core/data/sample_files.h"

#include <ATen/ATen.h>

#include <map>

#include "core/data/image_sample.h"
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

Dataset::Batch read_batch(const std::filesystem::path& file, const ImageOptions& images) {
  Dataset::Batch batch;
  if (is_image_file(file)) {
    batch[""] = read_image_sample(file, images);
  } else if (file.extension() == ".npy") {
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

bool is_array_file(const std::filesystem::path& file) {
  return file.extension() == ".npy" || file.extension() == ".npz";
}

std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  std::error_code status;
  if (!std::filesystem::is_directory(path, status)) {
    user_check(std::filesystem::exists(path, status), "{}: does not exist", path.string());
    user_check(is_array_file(path) || is_image_file(path),
               "{}: is neither a folder nor a .npy or .npz file nor an image (.jpg, .jpeg, .png)", path.string());
    return {path};
  }
  std::vector<std::filesystem::path> arrays, images;
  std::filesystem::directory_iterator entries(path, status);
  user_check(!status, "{}: cannot be read: {}", path.string(), status.message());
  for (const auto& entry : entries) {
    if (entry.is_directory(status)) continue;
    if (is_array_file(entry.path())) arrays.push_back(entry.path());
    if (is_image_file(entry.path())) images.push_back(entry.path());
  }
  user_check(arrays.empty() || images.empty(), "{}: holds arrays ({}) and images ({}): which are the data?",
             path.string(), arrays.empty() ? "" : arrays[0].filename().string(),
             images.empty() ? "" : images[0].filename().string());
  std::vector<std::filesystem::path>& files = arrays.empty() ? images : arrays;
  user_check(!files.empty(), "{}: holds no .npy or .npz file and no image", path.string());
  std::sort(files.begin(), files.end());
  return files;
}

void check_options(const ImageOptions& options) {
  const int sizes =
      int(options.resize.has_value()) + int(options.resize_shorter.has_value()) + int(options.letterbox.has_value());
  user_check(sizes < 2, "images: resize and letterbox exclude each other");
  user_check(!options.letterbox || !options.crop, "images: letterbox and crop exclude each other");
}

}  // namespace

SampleFiles SampleFiles::open(const std::vector<std::filesystem::path>& paths, const ImageOptions& images) {
  check_options(images);
  SampleFiles samples;
  samples.images_ = images;
  for (const auto& path : paths)
    for (const auto& file : files_of(path)) samples.files_.push_back(file);
  user_check(!samples.files_.empty(), "no data: give folders, .npy or .npz files, or images");
  user_check(images == ImageOptions{} || std::any_of(samples.files_.begin(), samples.files_.end(), is_image_file),
             "{}: options for images were given, but no image", samples.files_[0].string());
  return samples;
}

Dataset::Batch SampleFiles::read(size_t index) const { return read_batch(file(index), images_); }

void SampleFiles::check_stems() const {
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < size(); ++i) {
    const auto [first, is_new] = known.emplace(stem(i), i);
    user_check(is_new, "{} and {}: two samples are called '{}'", file(first->second).string(), file(i).string(),
               stem(i));
  }
}

}  // namespace espq
