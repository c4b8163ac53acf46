#include "passes/optimize/center_channels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <unordered_map>

#include "core/exec/executor.h"
#include "core/exec/side_by_side.h"
#include "core/graph/match.h"
#include "core/ops/limits.h"
#include "core/ops/linear.h"
#include "core/ops/operator.h"
#include "core/support/progress.h"
#include "passes/optimize/channel_probe.h"
#include "passes/optimize/held_out.h"
#include "passes/optimize/keep_if_same.h"
#include "passes/optimize/option_checks.h"
#include "passes/optimize/own_bias.h"
#include "passes/optimize/reference.h"

namespace espq {
namespace {

/// A tensor whose channels are moved by the sum of what some layers add to their results.
struct Carrier {
  const Variable* variable;
  int64_t axis;
  std::vector<size_t> sources;           ///< numbers of layers, each as often as it is added
  bool decides;                          ///< result of a layer or a sum: where it lies says what to add
  at::Tensor highest = {}, lowest = {};  ///< of every channel, float64
};

/// A layer that takes back in its bias what its operand was moved by.
struct Reader {
  LinearOperation layer;
  size_t carrier;  ///< place of its operand
};

/// f(x + c) = f(x) + c, c per channel, seen on numbers of all sizes. Averages and interpolations round.
bool passes_shifts(const Operation& operation, int64_t axis) {
  const Variable& operand = *operation.input(0);
  if (!operand.shape() || operation.outputs().size() != 1) return false;
  const at::Tensor values = probe_values(*operand.shape()) / 2;
  const at::Tensor shifts = ((at::arange(values.size(axis)) * 7) % 5 - 2).to(at::kFloat);
  const at::Tensor plain = run_on(operation, 0, values)[0],
                   moved = run_on(operation, 0, values + along(shifts, axis, values.dim()))[0];
  return plain.is_floating_point() && plain.dim() == values.dim() && plain.size(axis) == shifts.numel() &&
         at::allclose(moved, plain + along(shifts, axis, plain.dim()), 1e-5, 1e-5);
}

/// Where numbers that layers add to their channels go.
class Finder {
 public:
  explicit Finder(const Graph& graph) {
    for (const Operation* operation : graph.topological_order()) pass(*operation);
    for (const Variable* output : graph.outputs()) block(output);
  }

  bool any() const { return std::find(free.begin(), free.end(), true) != free.end(); }

  std::vector<LinearOperation> sources;
  std::vector<bool> free;  ///< per source
  std::vector<Carrier> carriers;
  std::vector<Reader> readers;

 private:
  const Carrier* carrier(const Variable* variable) const {
    const auto found = places_.find(variable);
    return found == places_.end() ? nullptr : &carriers[found->second];
  }

  void add(const Variable* variable, int64_t axis, std::vector<size_t> from, bool decides) {
    places_[variable] = carriers.size();
    carriers.push_back({variable, axis, std::move(from), decides});
  }

  void block(const Variable* variable) {
    if (const Carrier* found = carrier(variable))
      for (const size_t source : found->sources) free[source] = false;
  }

  void pass(const Operation& operation) {
    if (const auto linear = linear_operation(operation); linear && through_layer(*linear)) return;
    std::vector<const Variable*> data;
    for (const Variable* input : operation.inputs())
      if (input && !input->is_parameter()) data.push_back(input);
    if (operation.type() == "Add" && data.size() == 2 && through_sum(operation)) return;
    if (data.size() == 1 && data[0] == operation.input(0))
      if (const Carrier* found = carrier(data[0]); found && passes_shifts(operation, found->axis))
        return add(operation.output(), found->axis, found->sources, false);
    for (const Variable* variable : data) block(variable);
  }

  bool through_layer(const LinearOperation& linear) {
    const Operation& operation = linear.operation();
    const auto rank = rank_of(operation.output());
    if (!rank || !linear.bias_slot() || !linear.bias() || operation.int_attribute("transA", 0) != 0) return false;
    const int64_t axis = linear.rule().channel_axis < 0 ? *rank - 1 : linear.rule().channel_axis;
    if (const Carrier* found = carrier(operation.input(0))) {
      // The positions of a ConvTranspose's kernel do not all meet every result.
      const bool takes_back = found->axis == axis && operation.type() != "ConvTranspose" && !pads_with_zeros(operation);
      if (takes_back)
        readers.push_back({linear, places_.at(operation.input(0))});
      else
        block(operation.input(0));
    }
    add(operation.output(), axis, {sources.size()}, true);
    sources.push_back(linear);
    free.push_back(true);
    return true;
  }

  bool through_sum(const Operation& operation) {
    const Variable *a = operation.input(0), *b = operation.input(1);
    const Carrier *first = carrier(a), *second = carrier(b);
    if (!(first || second) || a->shape() != b->shape() || (first && second && first->axis != second->axis))
      return false;
    std::vector<size_t> from = first ? first->sources : std::vector<size_t>();
    if (second) from.insert(from.end(), second->sources.begin(), second->sources.end());
    add(operation.output(), first ? first->axis : second->axis, std::move(from), true);
    return true;
  }

  std::unordered_map<const Variable*, size_t> places_;
};

}  // namespace

struct CenteredChannels::Seen {
  Finder found;
  Reference before;

  Seen(const Graph& graph, const Dataset& data) : found(graph), before(graph, data) {
    if (!found.any()) return;
    std::vector<const Variable*> wanted;
    wanted.reserve(found.carriers.size());
    for (const Carrier& carrier : found.carriers) wanted.push_back(carrier.variable);
    Executor executor(graph, Precision::Float);
    for (size_t batch = 0; batch < data.size(); ++batch) {
      const Tensors values = executor.run(data.inputs(graph, batch), wanted);
      for (size_t i = 0; i < values.size(); ++i) observe(found.carriers[i], values[i]);
      report_progress("centers of channels", batch + 1, data.size());
    }
  }

  static void observe(Carrier& carrier, const at::Tensor& value) {
    const at::Tensor rows = value.movedim(carrier.axis, 0).reshape({value.size(carrier.axis), -1}).to(at::kDouble);
    const at::Tensor highest = rows.amax(1), lowest = rows.amin(1);
    carrier.highest = carrier.highest.defined() ? at::maximum(carrier.highest, highest) : highest;
    carrier.lowest = carrier.lowest.defined() ? at::minimum(carrier.lowest, lowest) : lowest;
  }

  /// What every layer adds to its channels; undefined: nothing.
  std::vector<at::Tensor> offsets(CenterOf what) const {
    std::vector<at::Tensor> result(found.sources.size());
    for (const Carrier& carrier : found.carriers) {
      const size_t newest = *std::max_element(carrier.sources.begin(), carrier.sources.end());
      const bool own = carrier.sources.size() == 1;
      if (!carrier.decides || !found.free[newest] || (!own && what == CenterOf::Layers)) continue;
      // Of a layer whose result is added to something the sum counts, which comes later.
      at::Tensor offset = (carrier.highest + carrier.lowest) / -2;
      for (const size_t source : carrier.sources)
        if (source != newest && result[source].defined()) offset = offset - result[source];
      result[newest] = offset;
    }
    return result;
  }

  at::Tensor total(const Carrier& carrier, const std::vector<at::Tensor>& offsets) const {
    at::Tensor sum = at::zeros_like(carrier.highest);
    for (const size_t source : carrier.sources)
      if (offsets[source].defined()) sum += offsets[source];
    return sum;
  }
};

CenteredChannels::CenteredChannels(const Graph& graph, const Dataset& data, const CenterChannelsOptions& options) {
  require_at_least(static_cast<double>(options.batches), 1, "center_channels.batches");
  const OneThreadEach one_thread_each;  // what is seen is to be the same for any number of them
  seen_ = std::make_unique<Seen>(graph, first_batches(data, options.batches));
}

CenteredChannels::~CenteredChannels() = default;

bool CenteredChannels::any() const { return seen_->found.any(); }

PassReport CenteredChannels::apply(Graph& copy, CenterOf what) const {
  PassReport report{"center_channels"};
  if (!any()) return report;
  const Finder& found = seen_->found;
  const std::vector<at::Tensor> offsets = seen_->offsets(what);
  Graph moved = copy.clone();
  const auto in_copy = [&](const LinearOperation& layer) {
    return *linear_operation(*moved.find_operation(layer.operation().name()));
  };
  for (size_t source = 0; source < offsets.size(); ++source) {
    if (!offsets[source].defined()) continue;
    const LinearOperation layer = in_copy(found.sources[source]);
    layer.set_bias(moved, *layer.bias() + offsets[source]);
    report.count("layer whose results were centered", layer.operation().name());
  }
  for (const Reader& reader : found.readers) {
    const LinearOperation layer = in_copy(reader.layer);
    const at::Tensor offset = seen_->total(found.carriers[reader.carrier], offsets);
    // One number per position: what the layer makes of the offset alone.
    const at::Tensor alone = layer.rows_first(layer.scaled_columns(offset)).reshape({layer.rows(), -1}).sum(1);
    layer.set_bias(moved, *layer.bias() - alone);
  }
  if (!report.changed()) return report;
  keep_if_same(copy, std::move(moved), seen_->before, report);
  return report;
}

}  // namespace espq
