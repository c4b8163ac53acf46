#include "passes/optimize/held_out.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {
namespace {

constexpr size_t kShare = 4;  // one in so many is held out

bool is_held_out(size_t index, size_t count) { return index % kShare == std::min(kShare, count) - 1; }

/// Samples of a batch; 1 where its tensors do not agree.
int64_t samples_of(const Dataset::Batch& batch) {
  int64_t samples = 0;
  for (const auto& [name, tensor] : batch) {
    const int64_t rows = tensor.dim() == 0 ? 1 : tensor.size(0);
    if (samples != 0 && rows != samples) return 1;
    samples = rows;
  }
  return std::max<int64_t>(samples, 1);
}

Dataset rows_of(const Dataset::Batch& batch, const std::vector<int64_t>& rows) {
  Dataset::Batch result;
  for (const auto& [name, tensor] : batch) result.emplace(name, tensor.index_select(0, at::tensor(rows, at::kLong)));
  return Dataset({std::move(result)});
}

}  // namespace

DividedData hold_out(const Dataset& data) {
  user_check(data.size() > 0, "there are no data to learn from");
  if (data.size() == 1) {
    const int64_t samples = samples_of(data[0]);
    if (samples == 1) return {data, data, true};
    std::vector<int64_t> rows[2];
    for (int64_t row = 0; row < samples; ++row)
      rows[is_held_out(static_cast<size_t>(row), static_cast<size_t>(samples))].push_back(row);
    return {rows_of(data[0], rows[0]), rows_of(data[0], rows[1])};
  }
  std::vector<Dataset::Batch> parts[2];
  for (size_t i = 0; i < data.size(); ++i) parts[is_held_out(i, data.size())].push_back(data[i]);
  return {Dataset(std::move(parts[0])), Dataset(std::move(parts[1]))};
}

Dataset with_mirror_images(const Dataset& data, int64_t width_axis) {
  const bool one_batch = data.size() == 1;
  const size_t count = one_batch ? static_cast<size_t>(samples_of(data[0])) : data.size();
  user_check(count >= kShare, "mirror images: {} pictures are too few, give at least {}", count, kShare);
  std::vector<Dataset::Batch> batches;
  for (size_t i = 0; i < data.size(); ++i) {
    user_check(data[i].size() == 1 && data[i].begin()->second.dim() >= 3,
               "mirror images: batch {} is no picture: it has {} tensors, of {} dimensions", i, data[i].size(),
               data[i].empty() ? 0 : data[i].begin()->second.dim());
    batches.push_back(data[i]);
  }
  const auto mirrored = [&](const at::Tensor& picture) { return picture.flip({width_axis}); };
  // The mirror image of number i comes to a number that leaves the same rest when it is divided by kShare.
  const size_t first = count % kShare;
  if (one_batch) {
    at::Tensor& pictures = batches[0].begin()->second;
    pictures = at::cat({pictures, mirrored(pictures.slice(0, static_cast<int64_t>(first)))});
    return Dataset(std::move(batches));
  }
  for (size_t i = first; i < count; ++i)
    batches.push_back({{data[i].begin()->first, mirrored(data[i].begin()->second)}});
  return Dataset(std::move(batches));
}

Dataset first_batches(const Dataset& data, int64_t count) {
  std::vector<Dataset::Batch> batches;
  for (size_t i = 0; i < std::min(data.size(), static_cast<size_t>(count)); ++i) batches.push_back(data[i]);
  return Dataset(std::move(batches));
}

}  // namespace espq
