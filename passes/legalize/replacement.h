#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"
#include "passes/legalize/legalize.h"

namespace espq {

/// Takes the place of one operation that no chip runs at any width: what it adds is called NAME_part and has shapes but
/// no width, which assign_widths gives it. `origins` (may be null) learns what the new operations were made for.
class Replacement {
 public:
  Replacement(Graph& graph, Operation& origin, Origins* origins) : graph_(graph), origin_(origin), origins_(origins) {}

  Variable& constant(std::string_view part, const at::Tensor& value);
  Variable& constant(std::string_view part, const std::vector<int64_t>& values);
  Variable& number(std::string_view part, double value);
  /// A new operation; its result.
  Variable& add(std::string_view type, std::string_view part, const std::vector<Variable*>& inputs,
                AttributeMap attributes = {});
  /// The origin becomes the last operation.
  void finish(std::string_view type, const std::vector<Variable*>& inputs, AttributeMap attributes = {});

 private:
  Graph& graph_;
  Operation& origin_;
  Origins* origins_;
};

}  // namespace espq
