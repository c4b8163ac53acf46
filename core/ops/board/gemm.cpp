#include "core/ops/gemm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/ops/board/accumulator.h"
#include "core/ops/board/requantize.h"
#include "core/ops/kernels/integer_convolution.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// Rows [..., M, K] times filters [..., N, K] in float32 pieces where they are exact, else in float64.
at::Tensor multiply(const at::Tensor& rows, const at::Tensor& filters, const std::vector<int64_t>& pieces) {
  const at::Tensor columns = filters.transpose(-2, -1);
  if (pieces.empty()) return at::matmul(rows.to(at::kDouble), columns.to(at::kDouble));
  if (pieces.size() == 1) return at::matmul(rows, columns);
  at::Tensor sums;
  int64_t begin = 0;
  for (const int64_t end : pieces) {
    const at::Tensor part = at::matmul(rows.slice(-1, begin, end), columns.slice(-2, begin, end)).to(at::kDouble);
    sums = sums.defined() ? sums.add_(part) : part;
    begin = end;
  }
  return sums;
}

/// The output channels of one filter matrix [N, K] that may leave their lanes.
class LaneGuard {
 public:
  LaneGuard(const AccumulatorRule& rule, const at::Tensor& filters, const at::Tensor& bias, double input_limit)
      : at_risk_(channels_at_risk(rule, filters, bias, input_limit)) {
    if (at_risk_.empty()) return;
    const at::Tensor index = at::tensor(at_risk_);
    risky_ = filters.index_select(0, index);
    const at::Tensor risky_bias = bias.defined() ? bias.index_select(0, index) : bias;
    filter_.emplace(rule, risky_, risky_bias);
    lanes_.emplace(rule, risky_, risky_bias);
    risky_ = risky_.abs();
  }

  /// Whether any sum may leave its lane for these rows, cheaply.
  bool may_overflow(const at::Tensor& rows) const {
    if (at_risk_.empty()) return false;
    const CodeRange range = code_range(rows);
    return filter_->possible(range) && filter_->possible(range, rows.square().sum(1).max().item<double>());
  }

  /// Elements to recompute, [M, channels at risk]; undefined when there are none. `sums` are [M, N] without bias.
  at::Tensor suspects(const at::Tensor& rows, const at::Tensor& sums) const {
    const at::Tensor absolute = at::matmul(rows.abs(), risky_.t());
    const at::Tensor mask = filter_->suspects(absolute, sums.index_select(1, at::tensor(at_risk_)), 1).contiguous();
    return mask.any().item<bool>() ? mask : at::Tensor();
  }

  void replace(const at::Tensor& rows, const at::Tensor& suspects, const Requantizer& requantize,
               const at::Tensor& result) const {
    const at::Tensor patches = rows.contiguous();
    const float* patch = patches.const_data_ptr<float>();
    const auto marked = suspects.accessor<bool, 2>();
    auto code = result.accessor<float, 2>();
    at::parallel_for(0, marked.size(0), 1, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> sums(at_risk_.size());
      for (int64_t row = begin; row < end; ++row) {
        const auto here = marked[row];
        if (!std::any_of(here.data(), here.data() + here.size(0), [](bool value) { return value; })) continue;
        lanes_->run(patch + row * lanes_->taps(), sums.data());
        for (size_t i = 0; i < at_risk_.size(); ++i)
          if (here[i]) code[row][at_risk_[i]] = requantize.code(sums[i], at_risk_[i]);
      }
    });
  }

 private:
  std::vector<int64_t> at_risk_;
  at::Tensor risky_;
  std::optional<OverflowFilter> filter_;
  std::optional<SequentialLanes> lanes_;
};

/// Constant filters [N, K] and rows of any leading dimensions: Gemm, and MatMul with a constant matrix.
BoardKernel constant_product(const BoardContext& context, const at::Tensor& filters, at::Tensor bias) {
  const int bits = context.inputs[0].bits;
  const double input_limit = -quant_min(bits);
  const AccumulatorRule rule = accumulator_rule(context.target, bits, filters.size(0), false);
  bias = lane_bias(rule, bias);
  const double largest = filter_magnitude(filters).max().item<double>() * input_limit;
  std::optional<IntegerConvolution> integers;
  if (IntegerConvolution::supports({}, 1, filters)) integers.emplace(Window{}, 1, filters, input_limit);
  return [filters, integers = std::move(integers), pieces = exact_pieces(filters.abs(), input_limit),
          requantize = Requantizer(context, filters.size(0), bias, largest),
          guard = LaneGuard(rule, filters, bias, input_limit)](const Tensors& inputs) -> Tensors {
    const at::Tensor rows = inputs[0].reshape({-1, filters.size(1)});
    std::vector<int64_t> shape = inputs[0].sizes().vec();
    shape.back() = filters.size(0);
    const bool watch = guard.may_overflow(rows);
    if (integers && !watch) return {integers->run(rows, requantize).reshape(shape)};
    const at::Tensor sums = integers ? integers->sums(rows) : multiply(rows, filters, pieces);
    const at::Tensor suspects = watch ? guard.suspects(rows, sums) : at::Tensor();
    const at::Tensor result = requantize(sums, 1);
    if (suspects.defined()) guard.replace(rows, suspects, requantize, result);
    return {result.reshape(shape)};
  };
}

/// Ends of pieces of a reduction of length `length` when both operands may hold any code.
std::vector<int64_t> uniform_pieces(int64_t length, double input_limit, double filter_limit) {
  const auto most = static_cast<int64_t>((1 << 24) / (input_limit * filter_limit));
  std::vector<int64_t> ends;
  if (most == 0) return ends;
  for (int64_t end = most; end < length; end += most) ends.push_back(end);
  ends.push_back(length);
  return ends;
}

/// MatMul of two computed operands (or a batch of constant matrices).
class DynamicProduct {
 public:
  explicit DynamicProduct(const BoardContext& context)
      : operation_(context.operation),
        target_(context.target),
        bits_(context.inputs[0].bits),
        input_limit_(-quant_min(bits_)),
        filter_limit_(-quant_min(context.inputs[1].bits)),
        packed_(is_packed(context.operation)),
        small_(context, 1, {}, 0),
        large_(context, 1, {}, 0x1p52) {}

  Tensors operator()(const Tensors& inputs) const {
    at::Tensor left = inputs[0], right = packed_ ? unpack_columns(operation_, target_, inputs[1]) : inputs[1];
    const bool left_vector = left.dim() == 1, right_vector = right.dim() == 1;
    if (left_vector) left = left.unsqueeze(0);
    if (right_vector) right = right.unsqueeze(1);
    const int64_t length = left.size(-1);
    user_check(length == right.size(-2), "operation '{}' (MatMul): rows of {} do not fit columns of {}",
               operation_.name(), length, right.size(-2));
    const at::Tensor filters = right.transpose(-2, -1);
    const at::Tensor sums = multiply(left, filters, uniform_pieces(length, input_limit_, filter_limit_));
    const bool guarded = may_overflow(left, filters);
    const bool fits = static_cast<double>(length) * input_limit_ * filter_limit_ < (1 << 23);
    at::Tensor result = (fits ? small_ : large_)(guarded ? sums.clone() : sums, -1);
    if (guarded) guard(left, filters, sums, result);
    if (right_vector) result = result.squeeze(-1);
    if (left_vector) result = result.squeeze(right_vector ? -1 : -2);
    return {result};
  }

 private:
  AccumulatorRule rule(const at::Tensor& filters) const {
    return accumulator_rule(target_, bits_, filters.size(-2), false);
  }

  bool may_overflow(const at::Tensor& left, const at::Tensor& filters) const {
    const AccumulatorRule lanes = rule(filters);
    const auto length = static_cast<double>(left.size(-1));
    if (lanes.vector_channels == 0 || length * input_limit_ * filter_limit_ < lanes.limit()) return false;
    return length * left.abs().max().item<double>() * filters.abs().max().item<double>() >= lanes.limit();
  }

  void guard(const at::Tensor& left, const at::Tensor& filters, const at::Tensor& sums, at::Tensor& result) const {
    const at::IntArrayRef batch = sums.sizes().slice(0, sums.dim() - 2);
    const auto flat = [&](const at::Tensor& tensor) {
      std::vector<int64_t> shape = batch.vec();
      shape.insert(shape.end(), {tensor.size(-2), tensor.size(-1)});
      return tensor.expand(shape).reshape({-1, tensor.size(-2), tensor.size(-1)});
    };
    const at::Tensor rows = flat(left), columns = flat(filters), products = flat(sums);
    result = result.contiguous();
    const at::Tensor codes = result.view({-1, result.size(-2), result.size(-1)});
    for (int64_t index = 0; index < rows.size(0); ++index) {
      const LaneGuard lanes(rule(filters), columns[index], {}, input_limit_);
      if (!lanes.may_overflow(rows[index])) continue;
      const at::Tensor suspects = lanes.suspects(rows[index], products[index]);
      if (suspects.defined()) lanes.replace(rows[index], suspects, small_, codes[index]);
    }
  }

  const Operation& operation_;
  const Target& target_;
  int bits_;
  double input_limit_, filter_limit_;
  bool packed_;
  Requantizer small_, large_;  ///< float32 and float64 arithmetic
};

}  // namespace

BoardKernel gemm_board(const BoardContext& context) {
  const Operation& operation = context.operation;
  const at::Tensor& filters = context.parameters.at(1);
  user_check(filters.defined() && filters.dim() == 2, "operation '{}' (Gemm): the chip needs a constant matrix",
             operation.name());
  user_check(operation.float_attribute("alpha", 1.0f) == 1.0f && operation.float_attribute("beta", 1.0f) == 1.0f &&
                 operation.int_attribute("transA", 0) == 0,
             "operation '{}' (Gemm): the chip knows alpha = beta = 1 and transA = 0 only", operation.name());
  return constant_product(context, filters, context.parameters.size() > 2 ? context.parameters[2] : at::Tensor());
}

BoardKernel matmul_board(const BoardContext& context) {
  const at::Tensor& right = context.parameters.at(1);
  if (right.defined() && right.dim() == 2) return constant_product(context, right.t().contiguous(), {});
  auto kernel = std::make_shared<const DynamicProduct>(context);
  return [kernel](const Tensors& inputs) { return (*kernel)(inputs); };
}

}  // namespace espq
