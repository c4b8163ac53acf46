#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/graph/graph.h"

namespace espq::test {

/// Operations, grids and the bytes of all constants.
inline void expect_same_graph(const Graph& a, const Graph& b) {
  const auto constants = [](const Graph& graph) {
    const auto variables = graph.variables();
    return std::count_if(variables.begin(), variables.end(), [](const auto* one) { return one->is_parameter(); });
  };
  EXPECT_EQ(to_text(a), to_text(b));
  EXPECT_EQ(constants(a), constants(b));
  for (const Variable* variable : a.variables()) {
    if (!variable->is_parameter()) continue;
    const Variable* other = b.find_variable(variable->name());
    ASSERT_TRUE(other && other->is_parameter()) << variable->name();
    EXPECT_TRUE(at::equal(variable->value(), other->value())) << variable->name();
  }
}

}  // namespace espq::test
