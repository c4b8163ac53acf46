#include "passes/simplify/matmul_to_gemm.h"

#include <numeric>

#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

/// `written`: the shape as the operand says it, where -1 stands for what is left.
Variable& reshape(Graph& graph, Variable& source, const Shape& written, const Shape& shape, const std::string& name) {
  Variable& target = graph.add_parameter(free_variable_name(graph, name + "_shape"), integer_tensor(written));
  Variable& result = add_value(graph, source, shape);
  Operation& operation =
      graph.add_operation("Reshape", free_operation_name(graph, name), {&source, &target}, {&result});
  normalize_attributes(operation);
  return result;
}

/// The Gemm computes rows: leading dimensions are joined before and split again after it.
void wrap(Graph& graph, Operation& gemm, const Shape& shape) {
  const std::string name = gemm.name();
  const int64_t rows = std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
  graph.set_input(gemm, 0,
                  &reshape(graph, *gemm.input(0), {-1, shape.back()}, {rows, shape.back()}, name + "/Flatten"));
  Variable* result = gemm.output();
  const int64_t columns = gemm.input(1)->value().size(1);
  Variable& flat = add_value(graph, *result, Shape{rows, columns});
  Shape unfolded = shape;
  unfolded.back() = columns;
  graph.set_output(gemm, 0, &flat);
  Variable& target =
      graph.add_parameter(free_variable_name(graph, name + "/Unflatten_shape"), integer_tensor(unfolded));
  Operation& restore =
      graph.add_operation("Reshape", free_operation_name(graph, name + "/Unflatten"), {&flat, &target}, {result});
  normalize_attributes(restore);
}

/// The constant [N] that an Add behind the MatMul adds; nullopt when there is no such Add.
std::optional<at::Tensor> added_bias(const LinearOperation& linear, const Operation& add) {
  const auto slot = constant_operand(add);
  if (add.type() != "Add" || !slot) return std::nullopt;
  return output_vector(linear, add.input(*slot)->value());
}

bool convert(Graph& graph, Operation& matmul, const MatMulToGemmOptions& options) {
  const auto linear = linear_operation(matmul);
  if (!linear || linear->rank().value_or(0) < 2) return false;
  const Shape shape = *matmul.input(0)->shape();
  const bool flat = shape.size() == 2;
  if (!flat && (!options.higher_rank || std::find(shape.begin(), shape.end(), 0) != shape.end())) return false;
  Operation* add = sole_consumer(graph, *matmul.output());
  const auto bias = add ? added_bias(*linear, *add) : std::nullopt;
  if (!bias && !(flat && options.without_bias)) return false;
  Variable* constant = bias ? add->input(*constant_operand(*add)) : nullptr;
  const int64_t rows = linear->rows();
  if (bias) take_over_output(graph, matmul, *add);
  become(graph, matmul, "Gemm", {matmul.input(0), matmul.input(1)},
         {{"alpha", 1.0f}, {"beta", 1.0f}, {"transA", int64_t{0}}, {"transB", int64_t{0}}});
  if (constant && constant->value().dim() == 1 && constant->value().numel() == rows)
    graph.append_input(matmul, constant);
  else if (bias)
    set_constant(graph, matmul, 2, bias->to(matmul.input(1)->value().scalar_type()), matmul.name() + "_bias");
  if (!flat) wrap(graph, matmul, shape);
  return true;
}

}  // namespace

PassReport matmul_to_gemm(Graph& graph, const MatMulToGemmOptions& options) {
  PassReport report{"matmul_to_gemm"};
  std::vector<Operation*> candidates = graph.operations();
  std::erase_if(candidates, [](const Operation* operation) { return operation->type() != "MatMul"; });
  for (Operation* operation : candidates)
    if (convert(graph, *operation, options)) report.count("MatMul and Add became Gemm", operation->name());
  return report;
}

}  // namespace espq
