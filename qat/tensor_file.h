#pragma once
#include <filesystem>

#include "core/exec/executor.h"

namespace espq {

/// Named tensors in LibTorch's own container (a dictionary in a zip archive, which torch.load reads, too). Equal
/// tensors give equal bytes. Written whole or not at all.
void write_tensors(const std::filesystem::path& file, const NamedTensors& tensors);
/// Throws UserError naming the file when it cannot be read or holds something else.
NamedTensors read_tensors(const std::filesystem::path& file);

}  // namespace espq
