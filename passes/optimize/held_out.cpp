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

Dataset first_batches(const Dataset& data, int64_t count) {
  std::vector<Dataset::Batch> batches;
  for (size_t i = 0; i < std::min(data.size(), static_cast<size_t>(count)); ++i) batches.push_back(data[i]);
  return Dataset(std::move(batches));
}

}  // namespace espq
