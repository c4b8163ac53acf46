#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "torch_frontend/torch_frontend.h"
#include "torch_frontend/tracer.h"

namespace espq::torch_frontend {

/// What reading one file gives: the trace, the example inputs in graph order and LibTorch's outputs.
struct Reading {
  bool record;
  Tracer tracer;
  Tensors example, outputs;
  explicit Reading(bool recording) : record(recording), tracer(recording) {}
};

/// A tensor input of the network before it has an example value.
struct InputSpec {
  std::string name;
  std::optional<Shape> shape;  ///< -1 = open; nullopt = the file does not tell
  std::optional<at::ScalarType> type;
  at::Tensor recorded = {};
  std::optional<Shape> usual = std::nullopt;  ///< sizes that the network was exported with, for the open dimensions
};

/// Example values for all inputs: what the options give, else what the file records, else random. Throws UserError
/// naming the input whose shape is missing or does not fit; on options for inputs that do not exist.
Tensors example_inputs(const std::vector<InputSpec>& inputs, const TorchImportOptions& options);

/// Runs and traces a TorchScript archive. `bytes` is the whole file, let go as soon as its tensors are read.
void read_torchscript(std::string bytes, const TorchImportOptions& options, Reading& reading);
/// The same for a torch.export archive.
void read_exported_program(std::string bytes, const TorchImportOptions& options, Reading& reading);

}  // namespace espq::torch_frontend
