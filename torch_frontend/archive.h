#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "torch_frontend/reader.h"

namespace espq::torch_frontend {

/// The parts of a torch.export archive, whichever layout it has (torch 2.7 to 2.13).
struct Archive {
  nlohmann::json program;                       ///< graph module, signature, constraints
  std::map<std::string, at::Tensor> weights;    ///< parameters and persistent buffers by name
  std::map<std::string, at::Tensor> constants;  ///< other buffers and tensor constants by name
  Tensors sample;                               ///< example inputs in order; empty when none can be read
};

/// Throws UserError on damaged or foreign archives. Numbers are checked before memory is taken for them.
Archive read_archive(std::string_view bytes);

/// Element type by its number in the archive. Throws UserError on those that espq has no use for.
at::ScalarType archive_dtype(int64_t number);
/// Tensors of a pickle that torch.save wrote, by key (dictionaries) or "0", "1", ... LibTorch's unpickler knows tensors
/// and plain containers only; it runs nothing.
std::vector<std::pair<std::string, at::Tensor>> load_pickle(std::string_view bytes);

}  // namespace espq::torch_frontend
