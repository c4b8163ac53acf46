#include "core/ops/conv.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/ops/board/accumulator.h"
#include "core/ops/board/requantize.h"
#include "core/ops/kernels/integer_convolution.h"
#include "core/ops/kernels/integer_depthwise.h"
#include "core/ops/window.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// [N, C, W] -> [N, C, 1, W], so that one loop over patches serves both ranks.
at::Tensor as_planes(const at::Tensor& tensor) { return tensor.dim() == 3 ? tensor.unsqueeze(2) : tensor; }

/// LibTorch 2.13 convolves inputs of up to this many elements by gathering patches, which in channels-last memory is
/// one call per pixel: dear with few channels.
constexpr int64_t kSmallInput = 20480, kFewChannels = 16;

/// Geometry of the operation; the file holds its input as [N, spatial..., C].
Window window_of(const Operation& operation, const at::Tensor& filters) {
  const size_t rank = static_cast<size_t>(filters.dim()) - 2;
  Shape input(rank + 2, 1);
  const std::optional<Shape>& stored = operation.input(0)->shape();
  user_check(stored || !operation.string_attribute("auto_pad", "NOTSET").starts_with("SAME"),
             "operation '{}' (Conv): auto_pad needs the shape of the input", operation.name());
  if (stored) {
    user_check(stored->size() == input.size(), "operation '{}' (Conv): an input of {} dimensions, filters of {}",
               operation.name(), stored->size(), filters.dim());
    std::copy_n(stored->begin() + 1, rank, input.begin() + 2);
  }
  return read_window(operation, input, filters.sizes().slice(2).vec());
}

/// Everything a Conv step needs; made once per plan.
class ConvKernel {
 public:
  explicit ConvKernel(const BoardContext& context);
  Tensors operator()(const Tensors& inputs) const;

 private:
  void use_floats(const at::Tensor& filters, double input_limit);
  at::Tensor accumulate(const at::Tensor& given) const;
  at::Tensor absolute_sums(const at::Tensor& input) const;
  double largest_energy(const at::Tensor& input) const;
  bool may_overflow(const at::Tensor& input) const;
  at::Tensor suspects(const at::Tensor& input, const at::Tensor& sums) const;
  void replace(const at::Tensor& input, const at::Tensor& suspects, at::Tensor& result) const;
  void gather_patch(const at::Tensor& input, int64_t group, int64_t row, int64_t column,
                    std::vector<float>& patch) const;

  const Operation& operation_;
  int64_t groups_, channels_;
  Window window_;                                          ///< chip graphs have fixed shapes: read once
  std::optional<IntegerConvolution> integers_, absolute_;  ///< where the processor has them; |filters| at risk
  std::optional<IntegerDepthwise> depthwise_;
  at::Tensor planar_filters_;     ///< channels first, for inputs of few channels and few elements; else undefined
  at::Tensor filters_;            ///< float32, or float64 when nothing less is exact
  std::vector<int64_t> pieces_;   ///< ends of input channel ranges that are summed in float32
  std::vector<int64_t> at_risk_;  ///< output channels that may leave their lanes
  std::optional<Requantizer> requantize_;
  std::optional<OverflowFilter> filter_;
  at::Tensor risky_filters_;            ///< |filters| of the channels at risk (of all channels when grouped)
  std::vector<SequentialLanes> lanes_;  ///< one for all channels at risk (ungrouped), or one per such channel
};

ConvKernel::ConvKernel(const BoardContext& context)
    : operation_(context.operation), groups_(context.operation.int_attribute("group", 1)) {
  const at::Tensor& filters = context.parameters.at(1);
  user_check(filters.defined(), "operation '{}' (Conv): the chip needs constant filters", operation_.name());
  user_check(filters.dim() == 3 || filters.dim() == 4, "operation '{}' (Conv): the chip runs 1-D and 2-D convolutions",
             operation_.name());
  window_ = window_of(operation_, filters);
  const int bits = context.inputs[0].bits;
  const double input_limit = -quant_min(bits);
  channels_ = filters.size(0);
  const AccumulatorRule rule = accumulator_rule(context.target, bits, channels_, groups_ > 1);
  const bool has_bias = context.parameters.size() > 2 && context.parameters[2].defined();
  const at::Tensor bias = has_bias ? lane_bias(rule, context.parameters[2]) : at::Tensor();
  const double largest_sum = filter_magnitude(filters).max().item<double>() * input_limit;
  requantize_.emplace(context, channels_, bias, largest_sum);

  filters_ = filters;
  if (IntegerDepthwise::supports(window_, groups_, filters, input_limit))
    depthwise_.emplace(window_, filters, input_limit);
  else if (IntegerConvolution::supports(window_, groups_, filters))
    integers_.emplace(window_, groups_, filters, input_limit);
  else
    use_floats(filters, input_limit);

  at_risk_ = channels_at_risk(rule, filters, bias, input_limit);
  if (at_risk_.empty()) return;
  const at::Tensor index = at::tensor(at_risk_);
  const at::Tensor risky = filters.index_select(0, index);
  const at::Tensor risky_bias = bias.defined() ? bias.index_select(0, index) : bias;
  filter_.emplace(rule, risky, risky_bias);
  risky_filters_ = (groups_ == 1 ? risky : filters).abs().to(at::kFloat);
  if (groups_ == 1 && integers_) absolute_.emplace(window_, groups_, risky_filters_, input_limit);
  const at::Tensor ordered = as_planes(risky).permute({0, 2, 3, 1}).flatten(1);  // kernel row, column, channel
  const int64_t stride = groups_ == 1 ? static_cast<int64_t>(at_risk_.size()) : 1;
  for (int64_t first = 0; first < static_cast<int64_t>(at_risk_.size()); first += stride)
    lanes_.emplace_back(rule, ordered.narrow(0, first, stride),
                        bias.defined() ? risky_bias.narrow(0, first, stride) : bias);
}

/// Convolutions of LibTorch, in numbers that hold the sums.
void ConvKernel::use_floats(const at::Tensor& filters, double input_limit) {
  pieces_ = exact_pieces(filters.abs().flatten(2).sum(2), input_limit);
  if (groups_ > 1 && pieces_.size() > 1) pieces_.clear();
  filters_ = pieces_.empty() ? filters.to(at::kDouble) : filters;
  // Inputs of chip graphs are channels-last in memory: LibTorch would reorder the filters in every run.
  if (filters_.dim() == 4 && groups_ == 1 && filters_.size(1) < kFewChannels && pieces_.size() == 1)
    planar_filters_ = filters_.contiguous();
  if (filters_.dim() == 4) filters_ = filters_.contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor ConvKernel::accumulate(const at::Tensor& given) const {
  if (integers_) return integers_->sums(given);
  if (depthwise_) return depthwise_->sums(given);
  const bool planar = planar_filters_.defined() && given.numel() <= kSmallInput;
  const at::Tensor input = planar ? given.contiguous() : given;
  if (pieces_.empty()) return convolve(window_, groups_, input.to(at::kDouble), filters_, {});
  if (pieces_.size() == 1) return convolve(window_, groups_, input, planar ? planar_filters_ : filters_, {});
  at::Tensor sums;
  int64_t begin = 0;
  for (const int64_t end : pieces_) {
    const at::Tensor part =
        convolve(window_, groups_, input.slice(1, begin, end), filters_.slice(1, begin, end), {}).to(at::kDouble);
    sums = sums.defined() ? sums.add_(part) : part;
    begin = end;
  }
  return sums;
}

/// Largest sum of squares under one output position (ungrouped).
double ConvKernel::largest_energy(const at::Tensor& input) const {
  std::vector<int64_t> kernel = window_.kernel;
  kernel.insert(kernel.begin(), {1, 1});
  const at::Tensor squares = pad_spatial(input.square().sum(1, true), window_.begin, window_.end, 0);
  const std::vector<int64_t> none(window_.rank(), 0);
  return at::convolution(squares, at::ones(kernel), {}, window_.strides, none, window_.dilations, false, none, 1)
      .max()
      .item<double>();
}

/// Whether any sum may leave its lane for this input, cheaply.
bool ConvKernel::may_overflow(const at::Tensor& input) const {
  if (!filter_) return false;
  const CodeRange range = code_range(input);
  return filter_->possible(range) && (groups_ > 1 || filter_->possible(range, largest_energy(input)));
}

/// Sums of |input| * |filter| of the channels at risk.
at::Tensor ConvKernel::absolute_sums(const at::Tensor& input) const {
  if (absolute_) return absolute_->sums(input.abs());
  const at::Tensor sums = convolve(window_, groups_, input.abs(), risky_filters_, {});
  return groups_ > 1 ? sums.index_select(1, at::tensor(at_risk_)) : sums;
}

/// Output elements to recompute product by product: [N, OH, OW, channels at risk]; undefined when there are none.
at::Tensor ConvKernel::suspects(const at::Tensor& input, const at::Tensor& sums) const {
  const at::Tensor index = at::tensor(at_risk_), absolute = absolute_sums(input);
  const at::Tensor mask = filter_->suspects(absolute, sums.index_select(1, index), 1);
  return mask.any().item<bool>() ? as_planes(mask).permute({0, 2, 3, 1}).contiguous() : at::Tensor();
}

/// The codes under one output position in the order of the lanes; padding counts as zero.
void ConvKernel::gather_patch(const at::Tensor& input, int64_t group, int64_t row, int64_t column,
                              std::vector<float>& patch) const {
  const int64_t depth = input.size(0) / groups_, kernel_rows = filters_.dim() == 4 ? filters_.size(2) : 1;
  const int64_t kernel_columns = filters_.size(-1);
  const bool planar = window_.rank() == 2;
  const size_t last = window_.rank() - 1;
  const auto code = input.accessor<float, 3>();
  float* out = patch.data();
  for (int64_t ky = 0; ky < kernel_rows; ++ky)
    for (int64_t kx = 0; kx < kernel_columns; ++kx) {
      const int64_t y = planar ? row * window_.strides[0] - window_.begin[0] + ky * window_.dilations[0] : 0;
      const int64_t x = column * window_.strides[last] - window_.begin[last] + kx * window_.dilations[last];
      const bool inside = y >= 0 && y < input.size(1) && x >= 0 && x < input.size(2);
      for (int64_t channel = 0; channel < depth; ++channel)
        *out++ = inside ? code[group * depth + channel][y][x] : 0.0f;
    }
}

void ConvKernel::replace(const at::Tensor& input, const at::Tensor& suspects, at::Tensor& result) const {
  const at::Tensor planes = as_planes(input), output = as_planes(result);
  const auto marked = suspects.accessor<bool, 4>();
  auto code = output.accessor<float, 4>();
  const int64_t rows = suspects.size(1), columns = suspects.size(2), risky = suspects.size(3);
  at::parallel_for(0, suspects.size(0) * rows, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> patch(lanes_[0].taps());
    std::vector<int64_t> sums(lanes_[0].channels());
    for (int64_t line = begin; line < end; ++line)
      for (int64_t column = 0; column < columns; ++column) {
        const int64_t sample = line / rows, row = line % rows;
        const auto here = marked[sample][row][column];
        bool fresh = false;
        for (int64_t i = 0; i < risky; ++i) {
          if (!here[i]) continue;
          const int64_t channel = at_risk_[i];
          if (groups_ > 1 || !fresh) {
            const int64_t group = channel / (channels_ / groups_);
            gather_patch(planes[sample], group, row, column, patch);
            lanes_[groups_ > 1 ? i : 0].run(patch.data(), sums.data());
            fresh = true;
          }
          code[sample][channel][row][column] = requantize_->code(sums[groups_ > 1 ? 0 : i], channel);
        }
      }
  });
}

Tensors ConvKernel::operator()(const Tensors& inputs) const {
  const at::Tensor& input = inputs[0];
  const bool watch = may_overflow(input);
  if (!watch && integers_) return {integers_->run(input, *requantize_)};
  if (!watch && depthwise_) return {depthwise_->run(input, *requantize_)};
  const at::Tensor sums = accumulate(input);
  const at::Tensor overflowing = watch ? suspects(input, sums) : at::Tensor();
  at::Tensor result = (*requantize_)(sums, 1);
  if (overflowing.defined()) replace(input, overflowing, result);
  return {result};
}

}  // namespace

BoardKernel conv_board(const BoardContext& context) {
  auto kernel = std::make_shared<const ConvKernel>(context);
  return [kernel](const Tensors& inputs) { return (*kernel)(inputs); };
}

}  // namespace espq
