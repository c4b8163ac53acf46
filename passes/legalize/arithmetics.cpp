// Element-wise operators and matrix products in forms that the chip library has no kernel for.
#include <ATen/ATen.h>

#include "core/graph/edit.h"
#include "core/graph/match.h"
#include "core/ops/operator.h"
#include "passes/legalize/rewriter.h"
#include "passes/simplify/rewrite.h"

namespace espq {
namespace {

// ------------------------------------------------------------------------------------------------ many operands
/// The first `count` of the operands added up: ((a + b) + c) + ...
Variable& add_up(Rewriter& rewriter, const std::vector<Variable*>& operands, size_t count) {
  Variable* sum = operands.at(0);
  for (size_t i = 1; i < count; ++i) sum = &rewriter.add("Add", fmt::format("sum{}", i), {sum, operands[i]});
  return *sum;
}

std::string sum(Rewriter& rewriter) {
  const std::vector<Variable*> operands = rewriter.origin().inputs();
  if (operands.size() < 2) return {};
  rewriter.become("Add", {&add_up(rewriter, operands, operands.size() - 1), operands.back()});
  return "Sum became Add";
}

std::string mean(Rewriter& rewriter) {
  const std::vector<Variable*> operands = rewriter.origin().inputs();
  if (operands.size() < 2) return {};
  Variable& sum = add_up(rewriter, operands, operands.size());
  const at::Tensor share = at::scalar_tensor(1.0 / static_cast<double>(operands.size()), sum.dtype());
  Variable& factor = rewriter.constant("share", share);
  rewriter.become("Mul", {&sum, &factor});
  return "Mean became Add and Mul";
}

/// max(a, b) = a + relu(b - a), min(a, b) = a - relu(a - b).
std::string extremum(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const std::string type = operation.type();
  const bool largest = type == "Max";
  const std::vector<Variable*> operands = operation.inputs();
  if (operands.size() < 2 || !at::isFloatingType(operation.output()->dtype())) return {};
  Variable* best = operands[0];
  for (size_t i = 1; i < operands.size(); ++i) {
    Variable* other = operands[i];
    if (best->is_parameter()) std::swap(best, other);
    Variable& difference =
        rewriter.add("Sub", fmt::format("difference{}", i), {largest ? other : best, largest ? best : other});
    Variable& excess = rewriter.add("Relu", fmt::format("excess{}", i), {&difference});
    const char* join = largest ? "Add" : "Sub";
    if (i + 1 < operands.size())
      best = &rewriter.add(join, fmt::format("best{}", i), {best, &excess});
    else
      rewriter.become(join, {best, &excess});
  }
  return fmt::format("{} became Sub, Relu and {}", type, largest ? "Add" : "Sub");
}

// ------------------------------------------------------------------------------------------------ PRelu
/// Slopes brought to [C, 1, 1]; nullopt when they vary along another axis.
std::optional<at::Tensor> channel_slopes(const at::Tensor& slope, const Shape& shape) {
  const int64_t rank = static_cast<int64_t>(shape.size()), channels = rank > 1 ? shape[1] : shape[0];
  if (slope.numel() == 1) return slope.reshape({1}).expand({channels}).reshape({channels, 1, 1}).contiguous();
  Shape aligned(rank - std::min<int64_t>(rank, slope.dim()), 1);
  for (const int64_t size : slope.sizes()) aligned.push_back(size);
  for (int64_t axis = 0; axis < rank; ++axis)
    if (aligned[axis] != 1 && (axis != 1 || aligned[axis] != channels)) return std::nullopt;
  return slope.reshape({channels, 1, 1});
}

/// relu(x) + slope * min(x, 0): one of the two is zero everywhere.
std::string split_prelu(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  Variable *x = operation.input(0), *slope = operation.input(1);
  Variable& above = rewriter.add("Relu", "above", {x});
  Variable& zero = rewriter.constant("zero", at::scalar_tensor(0.0, x->dtype()));
  Variable& below = rewriter.add("Clip", "below", {x, nullptr, &zero});
  Variable& sloped = rewriter.add("Mul", "sloped", {&below, slope});
  rewriter.become("Add", {&above, &sloped});
  return "PRelu became Relu, Clip, Mul and Add";
}

/// Several samples: channels in front, and all positions of all samples along one axis.
void turn_samples(Rewriter& rewriter, const Shape& shape) {
  Shape order, turned = shape;
  for (size_t axis = 0; axis < shape.size(); ++axis) order.push_back(static_cast<int64_t>(axis));
  std::swap(order[0], order[1]);
  std::swap(turned[0], turned[1]);
  rewriter.before(0, "Transpose", "turned", {}, {{"perm", order}});
  const Shape plane{1, shape[1], c10::multiply_integers(shape) / shape[1], 1};
  rewriter.before(0, "Reshape", "plane", {&rewriter.constant("plane_shape", plane)});
  rewriter.after("Transpose", "turned_back", {}, {{"perm", order}});
  rewriter.after("Reshape", "back", {&rewriter.constant("turned_shape", turned)});
}

/// The kernel takes [1, C, H, W] with one slope per channel.
std::string prelu(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  Variable* slope = operation.input(1);
  const Shape shape = rewriter.shape(0);
  if (!slope || !slope->is_parameter() || shape.empty()) return {};
  const auto slopes = channel_slopes(slope->value(), shape);
  if (!slopes || (shape.size() > 4 && shape[0] == 1)) return split_prelu(rewriter);
  const bool stated = slope->shape() == slopes->sizes().vec();
  if (stated && shape.size() == 4 && shape[0] == 1) return {};
  set_constant(rewriter.graph(), operation, 1, *slopes, operation.name() + "_slope");
  if (shape[0] > 1 && shape.size() > 1) {
    turn_samples(rewriter, shape);
    return "PRelu of several samples turned";
  }
  if (shape.size() == 4) return "slopes of PRelu stated per channel";
  Shape plane = shape.size() == 1 ? Shape{1, shape[0]} : shape;
  plane.resize(4, 1);
  rewriter.before(0, "Reshape", "plane", {&rewriter.constant("plane_shape", plane)});
  rewriter.after("Reshape", "back", {&rewriter.constant("shape", shape)});
  return "PRelu brought to four dimensions";
}

// ------------------------------------------------------------------------------------------------ Gemm, MatMul
/// The kernel adds one constant per result column. What varies by row, or is no constant, is added behind.
std::string gemm_bias(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  Variable* bias = operation.input(2);
  const auto& result = operation.output()->shape();
  if (!bias || !bias->shape() || !result || result->size() != 2) return {};
  const int64_t columns = result->at(1);
  const Shape& shape = *bias->shape();
  const bool per_column = shape.empty() || ((shape.back() == columns || shape.back() == 1) &&
                                            c10::multiply_integers(shape) == shape.back());
  if (per_column && bias->is_parameter()) {
    if (shape == Shape{columns}) return {};
    const at::Tensor row = bias->value().reshape({-1}).expand({columns}).contiguous();
    set_constant(rewriter.graph(), operation, 2, row, operation.name() + "_bias");
    return "bias of Gemm stated per column";
  }
  Variable* addend = bias;
  if (const float beta = operation.float_attribute("beta", 1); beta != 1) {
    Variable& factor = rewriter.constant("beta", at::scalar_tensor(beta, bias->dtype()));
    addend = &rewriter.add("Mul", "scaled", {bias, &factor});
    operation.set_attribute("beta", 1.0F);
  }
  rewriter.graph().truncate_inputs(operation, 2);
  rewriter.after("Add", "bias", {addend});
  return "bias of Gemm became Add";
}

std::string gemm(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  if (operation.int_attribute("transA", 0) != 0) {
    rewriter.before(0, "Transpose", "turned", {}, {{"perm", Shape{1, 0}}});
    operation.set_attribute("transA", int64_t{0});
    return "transA of Gemm became Transpose";
  }
  return gemm_bias(rewriter);
}

/// A vector is a matrix of one row or column.
std::string matmul(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const Shape left = rewriter.shape(0), right = rewriter.shape(1);
  if (left.size() != 1 && right.size() != 1) return {};
  const auto result = operation.output()->shape();
  if (!result) return {};
  if (left.size() == 1)
    rewriter.before(0, "Reshape", "row", {&rewriter.constant("row_shape", std::vector<int64_t>{1, left[0]})});
  if (right.size() == 1) {
    Variable* vector = operation.input(1);
    if (vector->is_parameter())
      set_constant(rewriter.graph(), operation, 1, vector->value().reshape({right[0], 1}), vector->name() + "_column");
    else
      rewriter.before(1, "Reshape", "column", {&rewriter.constant("column_shape", std::vector<int64_t>{right[0], 1})});
  }
  rewriter.after("Reshape", "back", {&rewriter.constant("shape", *result)});
  return "vector of MatMul became a matrix";
}

// ------------------------------------------------------------------------------------------------ batches of MatMul
/// Neighbouring batch axes along which each operand has all matrices, or one.
struct BatchGroup {
  int64_t size;
  bool left, right;  ///< whether it has them all
};

std::vector<BatchGroup> batch_groups(const Shape& left, const Shape& right) {
  const size_t axes = std::max(left.size(), right.size()) - 2;
  const auto size_of = [&](const Shape& shape, size_t axis) {
    const size_t missing = axes + 2 - shape.size();
    return axis < missing ? 1 : shape[axis - missing];
  };
  std::vector<BatchGroup> groups;
  for (size_t axis = 0; axis < axes; ++axis) {
    const int64_t a = size_of(left, axis), b = size_of(right, axis);
    if (a == 1 && b == 1) continue;
    const BatchGroup group{std::max(a, b), a != 1, b != 1};
    if (!groups.empty() && groups.back().left == group.left && groups.back().right == group.right)
      groups.back().size *= group.size;
    else
      groups.push_back(group);
  }
  return groups;
}

/// Operand `slot` in another shape of the same elements.
void reshape_operand(Rewriter& rewriter, size_t slot, const Shape& shape, std::string_view part) {
  Operation& operation = rewriter.origin();
  if (rewriter.shape(slot) == shape) return;
  if (Variable* value = operation.input(slot); value->is_parameter())
    set_constant(rewriter.graph(), operation, slot, value->value().reshape(shape),
                 fmt::format("{}_{}", value->name(), part));
  else
    rewriter.before(slot, "Reshape", part, {&rewriter.constant(fmt::format("{}_shape", part), shape)});
}

/// Batch axes that both operands have, or one of them, become one; axes of one element vanish. Where the two take turns
/// too often, each gets all matrices.
std::string merge_batches(Rewriter& rewriter) {
  Operation& operation = rewriter.origin();
  const Shape shapes[] = {rewriter.shape(0), rewriter.shape(1)};
  const auto result = operation.output()->shape();
  constexpr size_t kAxes = 4;
  if (!result || std::max(shapes[0].size(), shapes[1].size()) <= kAxes) return {};
  std::vector<BatchGroup> groups = batch_groups(shapes[0], shapes[1]);
  if (groups.size() > kAxes - 2) {
    int64_t all = 1;
    for (const BatchGroup& group : groups) all *= group.size;
    for (size_t slot : {0, 1}) {
      Shape full(result->begin(), result->end() - 2);
      full.insert(full.end(), shapes[slot].end() - 2, shapes[slot].end());
      if (full == shapes[slot]) continue;
      if (Variable* value = operation.input(slot); value->is_parameter())
        set_constant(rewriter.graph(), operation, slot, value->value().expand(full).contiguous(),
                     value->name() + "_batches");
      else
        rewriter.before(slot, "Expand", slot ? "right_batches" : "left_batches",
                        {&rewriter.constant(slot ? "right_batches_shape" : "left_batches_shape", full)});
    }
    groups = {{all, true, true}};
  }
  for (size_t slot : {0, 1}) {
    Shape shape;
    for (const BatchGroup& group : groups) shape.push_back((slot ? group.right : group.left) ? group.size : 1);
    shape.insert(shape.end(), shapes[slot].end() - 2, shapes[slot].end());
    reshape_operand(rewriter, slot, shape, slot ? "right" : "left");
  }
  rewriter.after("Reshape", "back", {&rewriter.constant("shape", *result)});
  return "batches of MatMul merged";
}

}  // namespace

std::vector<RewriteRule> arithmetic_rewrites() {
  return {{"Sum", sum},     {"Mean", mean}, {"Max", extremum},        {"Min", extremum},
          {"PRelu", prelu}, {"Gemm", gemm}, {"MatMul", matmul, true}, {"MatMul", merge_batches}};
}

}  // namespace espq
