#include "export/conversion/verify.h"

#include <ATen/ATen.h>

#include "core/exec/executor.h"
#include "core/support/error.h"
#include "export/espdl/convert.h"
#include "export/espdl/reader.h"

namespace espq {
namespace {

OutputCheck compare(const std::string& name, const at::Tensor& computed, const at::Tensor& recorded) {
  OutputCheck check{name, recorded.numel()};
  if (computed.sizes() != recorded.sizes() || computed.scalar_type() != recorded.scalar_type()) {
    check.different = recorded.numel();
    check.largest_difference = std::numeric_limits<double>::infinity();
    return check;
  }
  const at::Tensor a = computed.to(at::kDouble), b = recorded.to(at::kDouble);
  const double tolerance = recorded.is_floating_point() ? kFloatTolerance : 0;
  // Infinities of one sign are equal although their difference is not a number.
  const at::Tensor same = at::isclose(a, b, 0, tolerance, true);
  check.different = recorded.numel() - same.sum().item<int64_t>();
  if (check.different > 0)
    check.largest_difference = (a - b).abs().masked_select(same.logical_not()).max().item<double>();
  return check;
}

}  // namespace

std::vector<OutputCheck> verify_model(const EspdlModel& model, const Target& target) {
  const TestValues tests = test_values(model);
  user_check(!tests.inputs.empty() && !tests.outputs.empty(), "the file records no test values");
  const Graph graph = from_model(model, target);
  NamedTensors inputs;
  std::vector<std::string> names;
  for (const auto& [name, value] : tests.inputs) inputs.emplace(name, value);
  for (const auto& [name, value] : tests.outputs) names.push_back(name);
  const NamedTensors computed = Executor(graph, Precision::Board).run(inputs, names);
  std::vector<OutputCheck> checks;
  for (const auto& [name, value] : tests.outputs) checks.push_back(compare(name, computed.at(name), value));
  return checks;
}

void require_verified(const std::filesystem::path& file, const Target& target) {
  for (const OutputCheck& check : verify_model(read_espdl_file(file), target))
    user_check(check.equal(), "{}: the recorded output '{}' is not what Board precision computes", file.string(),
               check.name);
}

}  // namespace espq
