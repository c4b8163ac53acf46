#include "export/conversion/verify.h"

#include <iostream>

#include "cli/model_files.h"
#include "cli/verbs.h"

namespace espq::cli {

int verify(const VerifyCommand& command) {
  const EspdlModel model = read_espdl_file(command.model, read_options(command.access));
  const Target& target = choose_target(model, command.target);
  bool equal = true;
  for (const OutputCheck& check : verify_model(model, target)) {
    equal = equal && check.equal();
    std::cout << (check.equal() ? fmt::format("{}: {} elements equal\n", check.name, check.elements)
                                : fmt::format("{}: {} of {} elements differ, by up to {}\n", check.name,
                                              check.different, check.elements, check.largest_difference));
  }
  std::cout << fmt::format("{}: {} on {}\n", command.model.string(), equal ? "verified" : "DIFFERENT", target.name);
  return equal ? kSuccess : kFailure;
}

}  // namespace espq::cli
