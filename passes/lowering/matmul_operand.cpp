#include "core/support/error.h"
#include "passes/lowering/formats.h"
#include "passes/lowering/permutation.h"
#include "passes/lowering/steps.h"

namespace espq::lowering {
namespace {

/// Builds, in front of the right operand of one MatMul, the nodes that write a computed matrix [.., C, N] in the order
/// which the kernel reads: blocks of `lanes` columns as [N / lanes][C][lanes], the rest as rows of the transposed
/// matrix. The declared shape stays [.., C, N].
class OperandPacking {
 public:
  OperandPacking(Graph& graph, Operation& matmul)
      : graph_(graph), matmul_(matmul), shape_(matmul.input(1)->shape().value()), rank_(shape_.size()) {
    lanes_ = graph.target()->block(matmul.width().value().activations);
    channels_ = shape_[rank_ - 2];
    columns_ = shape_[rank_ - 1];
  }

  void insert() {
    const int64_t aligned = lanes_ ? columns_ / lanes_ * lanes_ : 0;
    if (aligned == columns_) {
      reshape(with_tail({channels_, columns_ / lanes_, lanes_}));
      swap_axes(rank_ + 1, rank_ - 2, rank_ - 1);
    } else {
      swap_axes(rank_, rank_ - 2, rank_ - 1);
      if (aligned > 0) pack_aligned_rows(aligned);
    }
    reshape(shape_);
  }

 private:
  /// The batch dimensions followed by `tail`.
  Shape with_tail(const Shape& tail) const {
    Shape result(shape_.begin(), shape_.end() - 2);
    result.insert(result.end(), tail.begin(), tail.end());
    return result;
  }

  Variable& append(std::string type, AttributeMap attributes, Shape shape) {
    Operation& operation = insert_on_grid(graph_, matmul_, 1, std::move(type), std::move(attributes));
    operation.output()->set_shape(std::move(shape));
    return *operation.output();
  }

  void add_constant(Operation& operation, const std::vector<int64_t>& values) {
    graph_.append_input(operation, &graph_.add_parameter({}, at::tensor(values, at::kLong)));
  }

  void reshape(const Shape& shape) {
    Variable& result = append("Reshape", {{"allowzero", int64_t{0}}}, shape);
    add_constant(*result.producer(), shape);
  }

  void swap_axes(size_t rank, size_t first, size_t second) {
    Permutation order = identity(rank);
    std::swap(order[first], order[second]);
    const Shape before = matmul_.input(1)->shape().value();
    append("Transpose", {{"perm", to_attribute(order)}}, permuted(before, order));
  }

  /// Rows [begin, end) of the transposed matrix.
  Variable& slice_rows(int64_t begin, int64_t end) {
    Variable& rows = append("Slice", {}, with_tail({end - begin, channels_}));
    for (int64_t value : {begin, end, static_cast<int64_t>(rank_ - 2), int64_t{1}})
      add_constant(*rows.producer(), {value});
    return rows;
  }

  void pack_aligned_rows(int64_t aligned) {
    Variable& transposed = *matmul_.input(1);
    slice_rows(0, aligned);
    reshape(with_tail({aligned / lanes_, lanes_, channels_}));
    swap_axes(rank_ + 1, rank_ - 1, rank_);
    reshape(with_tail({aligned, channels_}));
    Variable& joined = append("Concat", {{"axis", static_cast<int64_t>(rank_ - 2)}}, with_tail({columns_, channels_}));
    Operation& concat = *joined.producer();
    graph_.append_input(concat, &transposed);
    concat.edit_input_quant(1) = concat.input_quant().at(0);
    Operation& rest = insert_on_grid(graph_, concat, 1, "Slice", {});
    rest.output()->set_shape(with_tail({columns_ - aligned, channels_}));
    for (int64_t value : {aligned, columns_, static_cast<int64_t>(rank_ - 2), int64_t{1}}) add_constant(rest, {value});
  }

  Graph& graph_;
  Operation& matmul_;
  Shape shape_;
  size_t rank_;
  int64_t lanes_ = 0, channels_ = 0, columns_ = 0;
};

}  // namespace

PassReport place_matmul_operands(Graph& graph, const LowerOptions& options) {
  PassReport report{"place_matmul_operands"};
  for (Operation* operation : graph.topological_order()) {
    if (operation->type() != "MatMul" || !operation->quantized()) continue;
    const bool newer = options.runtime_level == RuntimeLevel::Newer;
    const Variable* right = operation->input(1);
    internal_check(right != nullptr, "MatMul without right operand");
    if (right->is_parameter()) {
      if (!newer) continue;
      operation->set_attribute("input1_layout", std::string("packed"));
    } else if (newer) {
      operation->set_attribute("input1_layout", std::string("native_kn"));
    } else {
      user_check(right->shape() && right->shape()->size() >= 2,
                 "MatMul '{}': its right operand '{}' needs a known shape of rank 2 or more to be packed for the chip",
                 operation->name(), right->name());
      OperandPacking(graph, *operation).insert();
    }
    report.count("right operand in blocks of lanes", operation->name());
  }
  return report;
}

}  // namespace espq::lowering
