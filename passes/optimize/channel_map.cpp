#include "passes/optimize/channel_map.h"

#include <ATen/ATen.h>

#include <numeric>
#include <unordered_map>

#include "core/graph/match.h"
#include "core/ops/limits.h"
#include "core/ops/operator.h"
#include "passes/optimize/channel_probe.h"

namespace espq {
namespace {

/// Union-find over channels; those tied to `fixed` have no factor.
class Ties {
 public:
  int create() {
    parents_.push_back(static_cast<int>(parents_.size()));
    return parents_.back();
  }
  int root(int channel) {
    while (parents_[channel] != channel) channel = parents_[channel] = parents_[parents_[channel]];
    return channel;
  }
  void tie(int a, int b) { parents_[root(a)] = root(b); }
  int size() const { return static_cast<int>(parents_.size()); }

 private:
  std::vector<int> parents_;
};

/// The channels of a tensor, by their number in Ties.
struct Channels {
  int64_t axis = 0;
  std::vector<int> numbers;
};

/// Powers of two from 1/4 to 4, neighbours apart.
at::Tensor probe_factors(int64_t count) { return at::exp2(((at::arange(count) * 7) % 5 - 2).to(at::kFloat)); }

class Mapper {
 public:
  explicit Mapper(const Graph& graph) : graph_(graph), fixed_(ties_.create()) {}

  ChannelMap run() {
    const std::vector<const Operation*> order = graph_.topological_order();
    for (const Operation* operation : order) pass(*operation);
    for (const Variable* output : graph_.outputs()) fix(output);
    ChannelMap map;
    number_classes(map);
    for (auto& [linear, channels] : layers_)
      map.layers.push_back({linear, classes(channels.first), classes(channels.second)});
    for (auto& [operation, rows] : gains_)
      map.gains.push_back({operation, *definition_of(*operation).gain, classes(rows)});
    for (const Operation* operation : order)
      for (const Variable* output : operation->outputs())
        if (const auto found = output ? channels_.find(output) : channels_.end(); found != channels_.end())
          map.values.push_back({output, found->second.axis, classes(found->second.numbers)});
    for (const auto& [operation, bounds] : clamps_)
      map.clamps.push_back(
          {operation, bounds.first, bounds.second, classes(channels_.at(operation->output()).numbers)});
    return map;
  }

 private:
  void pass(const Operation& operation) {
    if (const auto linear = linear_operation(operation); linear && through_layer(*linear)) return;
    std::vector<size_t> data;  // slots with values of the network
    for (size_t slot = 0; slot < operation.inputs().size(); ++slot)
      if (const Variable* input = operation.input(slot); input && !input->is_parameter()) data.push_back(slot);
    const OperatorDefinition& definition = definition_of(operation);
    const bool constants = data.size() < operation.inputs().size();
    if (definition.gain && data.size() == 1) begin_at_gain(operation, *definition.gain);
    bool through = false;
    if (data.size() == 1 && channels_.contains(operation.input(data[0])))
      through = through_clamp(operation) || through_function(operation, data[0]);
    else if (data.size() > 1 && !constants && definition.layout == LayoutRule::Concat)
      through = through_concat(operation);
    else if (data.size() > 1 && !constants && definition.quantization.alignment == AlignmentClass::Elementwise)
      through = through_sum(operation);
    else if (data.size() == 2 && definition.quantization.product && !definition.linear)
      through = through_product(operation);
    if (!through)
      for (const size_t slot : data) fix(operation.input(slot));
  }

  /// False where the layer is no place for factors: its channels lie along another axis than those of its data.
  bool through_layer(const LinearOperation& linear) {
    const Operation& operation = linear.operation();
    const Variable& data = *operation.input(0);
    const auto bias = linear.bias();
    const auto rank = rank_of(operation.output());
    if (!bias || !rank || operation.int_attribute("transA", 0) != 0) return false;
    const int64_t axis = linear.rule().channel_axis < 0 ? *rank - 1 : linear.rule().channel_axis;
    Channels rows{axis, {}};
    for (int64_t row = 0; row < linear.rows(); ++row) rows.numbers.push_back(ties_.create());
    std::vector<int> columns(static_cast<size_t>(linear.input_channels()), fixed_);
    if (const auto found = channels_.find(&data); found != channels_.end()) {
      if (found->second.axis == axis && found->second.numbers.size() == columns.size())
        columns = found->second.numbers;
      else
        fix(&data);
    }
    layers_.push_back({linear, {rows.numbers, std::move(columns)}});
    channels_[operation.output()] = std::move(rows);
    return true;
  }

  /// Channels that are free behind a normalization; those in front of it are not.
  void begin_at_gain(const Operation& operation, const GainRule& rule) {
    const auto& shape = operation.output()->shape();
    if (!shape || shape->empty()) return;
    const auto is_vector = [&](size_t slot) { return operation.input(slot)->value().sizes().equals({shape->back()}); };
    if (!is_vector(rule.gain)) return;
    if (rule.offset && operation.input(*rule.offset) && !is_vector(*rule.offset)) return;
    Channels rows{static_cast<int64_t>(shape->size()) - 1, {}};
    for (int64_t row = 0; row < shape->back(); ++row) rows.numbers.push_back(ties_.create());
    gains_.push_back({&operation, rows.numbers});
    channels_[operation.output()] = std::move(rows);
  }

  /// Relu6 and the like. (A Relu alone lets every factor through, which through_function() finds.)
  bool through_clamp(const Operation& operation) {
    if (operation.type() != "Clip") return false;
    double bounds[] = {-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
    for (const size_t slot : {1, 2}) {
      if (!operation.input(slot)) continue;
      const auto bound = scalar_constant(operation.input(slot));
      if (!bound) return false;
      bounds[slot - 1] = *bound;
    }
    if (bounds[0] > 0 || bounds[1] < 0) return false;
    channels_[operation.output()] = channels_.at(operation.input(0));
    clamps_.push_back({&operation, {bounds[0], bounds[1]}});
    return true;
  }

  /// An operation on one tensor: true when factors per channel of the operand come out as factors per channel of every
  /// result.
  bool through_function(const Operation& operation, size_t slot) {
    const Variable& operand = *operation.input(slot);
    const Channels in = channels_.at(&operand);
    if (!operand.shape()) return false;
    const at::Tensor values = probe_values(*operand.shape());
    const at::Tensor factors = probe_factors(values.size(in.axis));
    const Tensors plain = run_on(operation, slot, values);
    const Tensors scaled = run_on(operation, slot, values * along(factors, in.axis, values.dim()));
    std::vector<Channels> out;
    for (size_t i = 0; i < plain.size(); ++i) {
      if (!at::isFloatingType(plain[i].scalar_type())) return false;
      if (plain[i].dim() > in.axis && plain[i].size(in.axis) == factors.numel() &&
          scaled[i].equal(plain[i] * along(factors, in.axis, plain[i].dim())))
        out.push_back(in);
      else if (auto moved = moved_channels(operation, slot, in, i);
               moved && fits(*moved, in, factors, plain[i], scaled[i]))
        out.push_back(std::move(*moved));
      else
        return false;
    }
    for (size_t i = 0; i < out.size(); ++i)
      if (const Variable* output = operation.outputs()[i]) channels_[output] = out[i];
    return true;
  }

  /// Where channels go in an operation that only moves values: nullopt when they do not lie along one axis behind it.
  std::optional<Channels> moved_channels(const Operation& operation, size_t slot, const Channels& in, size_t result) {
    const QuantizationRule& rule = definition_of(operation).quantization;
    if (!rule.passive) return std::nullopt;
    const Shape& shape = *operation.input(slot)->shape();
    const at::Tensor numbers = along(at::arange(static_cast<int64_t>(in.numbers.size())).to(at::kFloat), in.axis,
                                     static_cast<int64_t>(shape.size()));
    const at::Tensor moved = run_on(operation, slot, numbers.expand(shape).contiguous())[result];
    for (int64_t axis = 0; axis < moved.dim(); ++axis) {
      const at::Tensor rows = moved.movedim(axis, 0).reshape({moved.size(axis), -1});
      if (rows.size(1) == 0 || !rows.equal(rows.select(1, 0).unsqueeze(1).expand_as(rows))) continue;
      const at::Tensor first = rows.select(1, 0).contiguous();
      Channels channels{axis, {}};
      for (int64_t i = 0; i < first.numel(); ++i)
        channels.numbers.push_back(in.numbers[static_cast<size_t>(first.const_data_ptr<float>()[i])]);
      moved_from_ = first.to(at::kLong);
      return channels;
    }
    return std::nullopt;
  }

  /// Whether the factors of the operand's channels are found again on those that they went to.
  bool fits(const Channels& moved, const Channels&, const at::Tensor& factors, const at::Tensor& plain,
            const at::Tensor& scaled) const {
    return scaled.equal(plain * along(factors.index_select(0, moved_from_), moved.axis, plain.dim()));
  }

  bool through_concat(const Operation& operation) {
    const int64_t rank = rank_of(operation.output()).value_or(0);
    int64_t along_axis = operation.int_attribute("axis");
    if (along_axis < 0) along_axis += rank;
    const auto first = channels_.find(operation.input(0));
    if (first == channels_.end() || first->second.axis != along_axis) return through_sum(operation);
    Channels joined{along_axis, {}};
    for (const Variable* input : operation.inputs()) {
      const auto found = channels_.find(input);
      if (found != channels_.end() && found->second.axis == along_axis) {
        joined.numbers.insert(joined.numbers.end(), found->second.numbers.begin(), found->second.numbers.end());
        continue;
      }
      // Nothing scales this part; the others are free.
      if (!input->shape()) return false;
      fix(input);
      joined.numbers.insert(joined.numbers.end(), static_cast<size_t>(input->shape()->at(along_axis)), fixed_);
    }
    channels_[operation.output()] = std::move(joined);
    return true;
  }

  /// Operands that need the same factor, channel by channel.
  bool through_sum(const Operation& operation) {
    const auto first = channels_.find(operation.input(0));
    if (first == channels_.end()) return false;
    const Channels in = first->second;
    for (const Variable* input : operation.inputs()) {
      const auto found = channels_.find(input);
      if (found == channels_.end() || found->second.axis != in.axis ||
          found->second.numbers.size() != in.numbers.size() || rank_of(input) != rank_of(operation.output()))
        return false;
    }
    for (const Variable* input : operation.inputs()) {
      const std::vector<int>& numbers = channels_.at(input).numbers;
      for (size_t i = 0; i < numbers.size(); ++i) ties_.tie(numbers[i], in.numbers[i]);
    }
    channels_[operation.output()] = in;
    return true;
  }

  /// A gate: the larger operand's channels come through, the other is left as it is.
  bool through_product(const Operation& operation) {
    const Variable *a = operation.input(0), *b = operation.input(1);
    const Variable* value = element_count(a) >= element_count(b) ? a : b;
    if (a == b || rank_of(value) != rank_of(operation.output())) return false;
    const auto found = channels_.find(value);
    if (found == channels_.end() || operation.output()->shape() != value->shape()) return false;
    const Channels in = found->second;
    fix(value == a ? b : a);
    channels_[operation.output()] = in;
    return true;
  }

  void fix(const Variable* variable) {
    const auto found = channels_.find(variable);
    if (found == channels_.end()) return;
    for (const int number : found->second.numbers) ties_.tie(number, fixed_);
  }

  /// In order of first appearance, so that equal graphs give equal maps.
  void number_classes(ChannelMap& map) {
    class_of_root_.assign(static_cast<size_t>(ties_.size()), ChannelMap::kNone);
    for (int number = 0; number < ties_.size(); ++number) {
      const int root = ties_.root(number);
      if (root != ties_.root(fixed_) && class_of_root_[root] == ChannelMap::kNone) class_of_root_[root] = map.classes++;
    }
  }

  std::vector<int> classes(const std::vector<int>& numbers) {
    std::vector<int> result;
    result.reserve(numbers.size());
    for (const int number : numbers) result.push_back(class_of_root_[ties_.root(number)]);
    return result;
  }

  const Graph& graph_;
  Ties ties_;
  int fixed_;
  std::unordered_map<const Variable*, Channels> channels_;
  std::vector<std::pair<LinearOperation, std::pair<std::vector<int>, std::vector<int>>>> layers_;
  std::vector<std::pair<const Operation*, std::vector<int>>> gains_;
  std::vector<std::pair<const Operation*, std::pair<double, double>>> clamps_;
  std::vector<int> class_of_root_;
  at::Tensor moved_from_;
};

}  // namespace

ChannelMap map_channels(const Graph& graph) { return Mapper(graph).run(); }

}  // namespace espq
