#include "core/ops/families.h"
#include "core/ops/operator.h"

namespace espq {

void register_builtin_operators(Registry& registry) { register_conv_operators(registry); }

const Registry& operators() {
  static const Registry registry = [] {
    Registry table;
    register_builtin_operators(table);
    return table;
  }();
  return registry;
}

}  // namespace espq
