#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "core/data/dataset.h"

namespace espq {

/// Files of samples, each read when it is asked for: folders may hold more than memory does.
class SampleFiles {
 public:
  /// Folders or files, in the order given; of a folder every .npy and .npz file, in name order. Throws UserError naming
  /// the path: missing, of another kind, nothing in it.
  static SampleFiles open(const std::vector<std::filesystem::path>& paths);

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
};

}  // namespace espq
