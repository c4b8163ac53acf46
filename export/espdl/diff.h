#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "export/espdl/model.h"

namespace espq {

/// One thing that is not the same in two files.
struct EspdlDifference {
  /// "interface", "operator", "attribute", "value" (type, shape or exponent of a computed tensor), "parameter",
  /// "table", "test value".
  std::string kind;
  std::string where;                    ///< the place, by the names of the first file
  std::string what;                     ///< what differs, first file's value first
  int64_t elements = 0, differing = 0;  ///< numbers compared and found different; 0 where no numbers are concerned
  double largest = 0;                   ///< largest distance between them
};

struct DiffOptions {
  bool test_values = true;  ///< compare recorded inputs and outputs, too
};

/// Compares what two files compute, by data flow and not by name: nodes are matched from the graph outputs (found by
/// name, in any order) backwards along the operands, so generated names and the order of nodes and tensors do not
/// matter, and equal branches cannot be mixed up. Compared are operators, attributes, types, shapes and exponents of
/// tensors, every integer of constants (unpacked, each file by its own layout; a different packing is reported as such)
/// and look-up tables, and test values. Not compared: names, order, metadata, versions.
std::vector<EspdlDifference> diff(const EspdlModel& first, const EspdlModel& second, const DiffOptions& options = {});

/// One line per difference; "" when there is none.
std::string to_text(const std::vector<EspdlDifference>& differences);
/// {"equal": bool, "differences": [{"kind", "where", "what", "elements", "differing", "largest"}]}
nlohmann::ordered_json to_json(const std::vector<EspdlDifference>& differences);

}  // namespace espq
