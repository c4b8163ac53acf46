#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/graph/graph.h"
#include "passes/report.h"

namespace espq {

/// What a .json file of espq or esp-ppq says about one tensor where one operation reads or writes it.
struct StoredGrid {
  std::string tensor;
  int bits = 0;
  bool is_float = false;
  std::vector<int> exponents = {};  ///< one, or one per channel; empty = the file has none
};

/// The quantization of a network as export/json writes it and as esp-ppq 1.3.12 does.
struct StoredQuantization {
  struct Operation {
    std::string name;
    std::vector<StoredGrid> tensors;  ///< operands, then results, each tensor once
  };
  std::string file;
  std::vector<Operation> operations;

  /// nullptr when the file does not have it.
  const Operation* find(const std::string& name) const;
};

/// Throws UserError naming file, operation and tensor: unreadable, not such a file, a scale that is no power of two.
StoredQuantization read_quantization(const std::filesystem::path& file);

/// Gives operations of the file the widths that they have there. Operations that the file does not have keep theirs.
PassReport load_widths(Graph& graph, const StoredQuantization& stored);

/// Gives the slots (create_slots(), tied) the exponents of the file; they wait for no calibration any more. Operations
/// are found by name, their tensors by place, since exporters rename what they insert. Exponents that follow from
/// others (biases) are left to settle(). What the file does not say still waits.
/// The report warns of operations that only the graph or only the file has.
/// Throws UserError naming operation and tensor when a grid does not fit: channels, or exponents per channel on a chip
/// that has one.
PassReport load_quantization(Graph& graph, const StoredQuantization& stored);

/// Tensors that still wait for calibration, each once.
std::vector<std::string> waiting_tensors(const Graph& graph);

/// Slots whose exponents are not (any more) those of the file, one line each: passes behind load_quantization() may
/// have had to move them.
std::vector<std::string> moved_exponents(const Graph& graph, const StoredQuantization& stored);

}  // namespace espq
