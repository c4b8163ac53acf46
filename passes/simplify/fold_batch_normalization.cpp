#include "passes/simplify/fold_batch_normalization.h"

#include "core/graph/match.h"
#include "core/ops/linear.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

void fold_into_producer(Graph& graph, Operation& operation, const FoldableNormalization& foldable,
                        at::ScalarType arithmetic) {
  const LinearOperation& linear = foldable.linear;
  const Normalization normalization = foldable.normalization.to(arithmetic);
  Operation& layer = linear.operation(graph);
  linear.set_weight(graph, linear.scaled_rows(normalization.scale()));
  linear.set_bias(graph, normalization.offset(foldable.bias.to(arithmetic)));
  take_over_output(graph, layer, operation);
}

/// gamma and beta become weight and bias under their names.
void replace_by_depthwise(Graph& graph, Operation& operation, const Normalization& normalization, int64_t rank) {
  const int64_t channels = normalization.gamma.numel(), spatial = rank - 2;
  Shape shape(rank, 1);
  shape[0] = channels;
  const at::Tensor bias = normalization.offset(at::zeros_like(normalization.mean)).to(at::kFloat);
  set_constant(graph, operation, 1, normalization.scale().to(at::kFloat).reshape(shape), operation.name() + "_weight");
  set_constant(graph, operation, 2, bias, operation.name() + "_bias");
  become(graph, operation, "Conv", {operation.input(0), operation.input(1), operation.input(2)},
         {{"kernel_shape", Shape(spatial, 1)},
          {"strides", Shape(spatial, 1)},
          {"dilations", Shape(spatial, 1)},
          {"pads", Shape(2 * spatial, 0)},
          {"group", channels}});
}

void replace_by_arithmetic(Graph& graph, Operation& operation, const Normalization& normalization, int64_t rank) {
  Shape shape(rank, 1);
  if (rank > 1) shape[1] = normalization.gamma.numel();
  Variable* source = operation.input(0);
  Variable& factor = graph.add_parameter(free_variable_name(graph, operation.name() + "_scale"),
                                         normalization.scale().to(at::kFloat).reshape(shape));
  Variable& offset =
      graph.add_parameter(free_variable_name(graph, operation.name() + "_offset"),
                          normalization.offset(at::zeros_like(normalization.mean)).to(at::kFloat).reshape(shape));
  Variable& product = add_value(graph, *source, source->shape());
  graph.add_operation("Mul", free_operation_name(graph, operation.name() + "/Mul"), {source, &factor}, {&product});
  become(graph, operation, "Add", {&product, &offset});
}

}  // namespace

Normalization Normalization::to(at::ScalarType dtype) const {
  return {gamma.to(dtype), beta.to(dtype), mean.to(dtype), variance.to(dtype), epsilon};
}

at::Tensor Normalization::scale() const { return gamma / (variance + epsilon).sqrt(); }

at::Tensor Normalization::offset(const at::Tensor& bias) const {
  return gamma * (bias - mean) / (variance + epsilon).sqrt() + beta;
}

std::optional<Normalization> normalization_of(const Graph& graph, const Operation& operation) {
  if (operation.type() != "BatchNormalization" || operation.int_attribute("training_mode", 0) != 0) return std::nullopt;
  for (size_t slot = 1; slot < 5; ++slot) {
    const Variable* input = operation.input(slot);
    if (!input || !input->is_parameter() || input->value().dim() != 1) return std::nullopt;
  }
  for (size_t slot = 1; slot < operation.outputs().size(); ++slot)
    if (const Variable* output = operation.output(slot))
      if (!output->uses().empty() || graph.is_output(output)) return std::nullopt;
  const auto value = [&](size_t slot) { return operation.input(slot)->value(); };
  return Normalization{value(1), value(2), value(3), value(4), operation.float_attribute("epsilon", 1e-5F)};
}

std::optional<FoldableNormalization> foldable_normalization(const Graph& graph, const Operation& operation) {
  const auto normalization = normalization_of(graph, operation);
  const auto linear = normalization ? linear_producer(graph, operation, 0) : std::nullopt;
  if (!linear || !linear->bias_slot() || linear->rows() != normalization->gamma.numel()) return std::nullopt;
  const auto bias = linear->bias();
  if (!bias) return std::nullopt;
  return FoldableNormalization{*linear, *bias, *normalization};
}

std::string fold_batch_normalization(Graph& graph, Operation& operation, const FoldBatchNormalizationOptions& options) {
  if (operation.type() != "BatchNormalization" || is_dead(graph, operation)) return {};
  if (const auto foldable = foldable_normalization(graph, operation)) {
    fold_into_producer(graph, operation, *foldable, options.arithmetic);
    return "BatchNormalization folded into " + foldable->linear.operation().type();
  }
  const auto given = normalization_of(graph, operation);
  const auto rank = rank_of(operation.input(0));
  if (!given || !options.replace_isolated || !rank || *rank < 2) return {};
  const Normalization normalization = given->to(options.arithmetic);
  for (size_t slot = 1; slot < operation.outputs().size(); ++slot) graph.set_output(operation, slot, nullptr);
  if (*rank == 3 || *rank == 4) {
    replace_by_depthwise(graph, operation, normalization, *rank);
    return "BatchNormalization became a depthwise Conv";
  }
  replace_by_arithmetic(graph, operation, normalization, *rank);
  return "BatchNormalization became Mul and Add";
}

PassReport fold_batch_normalization(Graph& graph, const FoldBatchNormalizationOptions& options) {
  PassReport report{"fold_batch_normalization"};
  for (Operation* operation : graph.operations()) {
    const std::string name = operation->name();
    if (std::string change = fold_batch_normalization(graph, *operation, options); !change.empty())
      report.count(std::move(change), name);
  }
  return report;
}

}  // namespace espq
