#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "core/quant/target.h"
#include "export/espdl/model.h"

namespace espq {

/// How one recorded output compares with what Board precision computes.
struct OutputCheck {
  std::string name;
  int64_t elements = 0;
  int64_t different = 0;
  double largest_difference = 0;  ///< in codes for integers, in values for floats
  bool equal() const { return different == 0; }
};

/// Float results may differ this much: the chip's compiler chooses between a fused and a separate multiplication and
/// addition, and the exponential functions of two C libraries differ in the last bit. It is the tolerance of the chip
/// library's own tests.
inline constexpr double kFloatTolerance = 2e-5;

/// Runs the recorded test inputs of the file in Board precision and compares with the recorded outputs: integers must
/// be equal, floats may differ by kFloatTolerance; NaN equals NaN. Outputs that are no graph outputs are compared, too.
/// Throws UserError when the file records no test values or holds an operator without exact kernel.
std::vector<OutputCheck> verify_model(const EspdlModel& model, const Target& target);

/// The same for a file of which nothing else is expected: throws UserError naming the first output that differs.
void require_verified(const std::filesystem::path& file, const Target& target);

}  // namespace espq
