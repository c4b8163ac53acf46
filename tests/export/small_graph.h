#pragma once
#include <ATen/ATen.h>

#include "core/graph/graph.h"
#include "export/espdl/convert.h"

namespace espq {

/// x -> Conv -> Sigmoid by table.
inline Graph small_graph() {
  Graph graph;
  graph.name = "small";
  graph.set_target(&find_target("esp32p4"));
  graph.set_stage(Stage::Chip);
  const auto activation = [&](const char* name, Shape shape, int exponent) {
    Variable& variable = graph.add_variable(name);
    variable.set_shape(std::move(shape));
    variable.set_dtype(at::kChar);
    variable.set_storage(StorageFormat{at::kChar, {exponent}});
    return &variable;
  };
  const auto parameter = [&](const char* name, const at::Tensor& value, std::vector<int> exponents) {
    Variable& variable = graph.add_parameter(name, value);
    variable.set_dtype(value.scalar_type());
    variable.set_shape(value.sizes().vec());
    variable.set_storage(StorageFormat{variable.dtype(), std::move(exponents)});
    return &variable;
  };
  Variable* x = activation("x", {1, 4, 4, 3}, -6);
  Variable* w = parameter("w", at::arange(18 * 3 * 9, at::kInt).remainder(251).to(at::kChar).reshape({18, 3, 3, 3}),
                          std::vector<int>(18, -8));
  Variable* b = parameter("b", at::arange(18, at::kInt) * 1000, std::vector<int>(18, -14));
  Variable* c = activation("c", {1, 2, 2, 18}, -5);
  Variable* y = activation("y", {1, 2, 2, 18}, -7);
  Operation& conv = graph.add_operation("Conv", "conv", {x, w, b}, {c},
                                        {{"dilations", std::vector<int64_t>{1, 1}},
                                         {"group", int64_t{1}},
                                         {"kernel_shape", std::vector<int64_t>{3, 3}},
                                         {"pads", std::vector<int64_t>{0, 0, 0, 0}},
                                         {"strides", std::vector<int64_t>{1, 1}}});
  conv.edit_chip() = {.kernels = Width::Int8, .fused_relu = false};
  const Variable* table = parameter("Sigmoid_lut_0", at::arange(256, at::kInt).floor_divide(2).to(at::kChar), {-7});
  Operation& sigmoid = graph.add_operation("Sigmoid", "sigmoid", {c}, {y});
  sigmoid.edit_chip() = {.kernels = Width::Int8, .table = table};
  graph.set_inputs({x});
  graph.set_outputs({y});
  return graph;
}

inline TestValues small_tests() {
  TestValues tests;
  tests.inputs = {{"x", at::zeros({1, 4, 4, 3}, at::kChar)}};
  tests.outputs = {{"y", at::full({1, 2, 2, 18}, 0.2f)}};  // rounded to the grid 2^-7
  return tests;
}

}  // namespace espq
