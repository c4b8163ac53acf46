#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "core/data/data_options.h"
#include "core/data/dataset.h"

namespace espq {

/// Files of samples, each read when it is asked for: folders may hold more than memory does.
class SampleFiles {
 public:
  /// Folders or files, in the order given; of a folder every .npy and .npz file, or every image, in name order. Throws
  /// UserError naming the path: missing, of another kind, nothing in it, a folder with both; image options that
  /// contradict each other or that no file is for.
  static SampleFiles open(const std::vector<std::filesystem::path>& paths, const ImageOptions& images = {});

  size_t size() const { return files_.size(); }
  const std::filesystem::path& file(size_t index) const { return files_.at(index); }
  /// The file's name without folder and ending.
  std::string stem(size_t index) const { return file(index).stem().string(); }
  /// Throws UserError naming the file: unreadable, wrong dtype, NaN or Inf values.
  Dataset::Batch read(size_t index) const;
  /// Throws UserError when two files have one stem.
  void check_stems() const;

 private:
  std::vector<std::filesystem::path> files_;
  ImageOptions images_;
};

/// All of it at once: Dataset::open() with options.
Dataset open_dataset(const std::vector<std::filesystem::path>& paths, const DataOptions& options);

/// Drawn inputs for the network, the same for the same seed. Throws UserError naming an input that takes no floats.
Dataset draw_inputs(const Graph& graph, const DrawnInputs& options);

/// One batch for a graph, as Dataset::inputs() gives it; `where` names the batch in messages.
std::vector<at::Tensor> inputs_of(const Graph& graph, const Dataset::Batch& batch, const std::string& where);

}  // namespace espq
