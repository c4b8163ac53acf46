#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/exec/executor.h"
#include "core/graph/graph.h"

namespace espq {

struct TorchImportOptions {
  /// Shapes of inputs by name. TorchScript files record none; .pt2 files record all but the dynamic dimensions.
  std::map<std::string, Shape> input_shapes = {};
  /// Element types of inputs that are not float32; .pt2 files record them.
  std::map<std::string, at::ScalarType> input_types = {};
  /// Example values of inputs by name; they give shapes and types, too. Others are random (floats) or zero (integers).
  NamedTensors example = {};
  /// Values of inputs that are numbers (int, float, bool); they are constants of the graph.
  std::map<std::string, double> input_values = {};
};

/// The float graph of a TorchScript file (.pt, traced or scripted) or of a torch.export archive (.pt2); which of them
/// it is decides the content, not the name. docs/torch_import.md has the rules.
/// The network is run once on example inputs: whatever depends on shapes alone (sizes, branches, loops) is resolved,
/// and every shape of the graph is known. Operations are named after the module that they stand in
/// ("/layer1/conv/Conv"), parameters after their path in the module ("layer1.conv.weight"). The file is never written
/// to, nothing of it runs but the operators of its network. Throws UserError naming the file and the module path and
/// source line: damaged files, operators that espq does not have (all of them at once), control flow that depends on
/// values, inputs without shape.
Graph import_torch(const std::filesystem::path& file, const TorchImportOptions& options = {});

/// How well operations of the graph agree with the operator of the file that they stand for, each on the same inputs.
struct OperatorAgreement {
  std::string target;                   ///< the operator in the file, e.g. "aten::conv2d"
  std::string module_path;              ///< e.g. "layer1.conv"
  std::string source;                   ///< file and line in the user's program; may be empty
  std::vector<std::string> operations;  ///< their names in the graph; none for operators that change nothing
  double largest_error = 0;             ///< largest |graph - LibTorch|, divided by the largest |LibTorch| or 1e-6
  double tolerance = 0;                 ///< of the operator's family; 0 = equal bit by bit
  bool agrees() const { return largest_error <= tolerance; }
};

/// A whole output of the network against LibTorch.
struct OutputAgreement {
  std::string name;
  double largest_error = 0;  ///< as above
  double tolerance = 0;
  bool agrees() const { return largest_error <= tolerance; }
};

struct TorchAgreement {
  std::vector<OperatorAgreement> operators;
  std::vector<OutputAgreement> outputs;
  bool agrees() const;
};

struct CheckedImport {
  Graph graph;
  TorchAgreement agreement;
};

/// import_torch(), and a comparison of the graph with LibTorch on the example inputs: operator by operator, and the
/// outputs of the network, which for TorchScript files come from the module's own forward().
CheckedImport import_torch_checked(const std::filesystem::path& file, const TorchImportOptions& options = {});

}  // namespace espq
