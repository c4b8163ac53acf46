#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace espq {

/// Batches in a fixed order: one .npy (single input, key "") or .npz (keyed by input name) per batch, in name order.
class Dataset {
 public:
  using Batch = std::map<std::string, at::Tensor>;
  Dataset() = default;
  explicit Dataset(std::vector<Batch> batches) : batches_(std::move(batches)) {}

  /// Folders or files. Throws UserError naming the file: unreadable, wrong dtype, NaN or Inf values, no batch at all.
  static Dataset open(const std::vector<std::filesystem::path>& paths);

  size_t size() const { return batches_.size(); }
  const Batch& operator[](size_t index) const { return batches_.at(index); }
  /// The batch as one tensor per graph input, in the order of graph.inputs(), converted to the input's dtype.
  /// A batch may hold another number of samples (dimension 0) than the network was exported with.
  /// Throws UserError naming input and shape on a mismatch.
  std::vector<at::Tensor> inputs(const Graph& graph, size_t index) const;

 private:
  std::vector<Batch> batches_;
};

/// Images with their channels innermost in memory, as LibTorch convolves them fastest (depthwise ones in half the
/// time); numbers and shapes are the same, sums of floats may differ in last bits. Other tensors stay as they are.
at::Tensor channels_innermost(const at::Tensor& tensor);
Dataset channels_innermost(const Dataset& data);

/// NumPy's file format, versions 1 to 3; C and Fortran order; little-endian bool, int, uint and float dtypes.
/// Throws UserError naming the file.
at::Tensor read_npy(const std::filesystem::path& file);
std::map<std::string, at::Tensor> read_npz(const std::filesystem::path& file);
/// Written whole or not at all.
void write_npy(const std::filesystem::path& file, const at::Tensor& tensor);

}  // namespace espq
