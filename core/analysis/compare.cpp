#include "core/analysis/compare.h"

#include <ATen/ATen.h>

#include <cmath>
#include <set>

#include "core/analysis/diagnose.h"
#include "core/analysis/float_run.h"
#include "core/analysis/match_graphs.h"
#include "core/analysis/tensor_error.h"
#include "core/exec/plan.h"
#include "core/quant/fake_quantize.h"
#include "core/support/error.h"
#include "core/support/progress.h"

namespace espq {
namespace {

/// A graph with its executor; gives and takes values, not codes.
class Side {
 public:
  explicit Side(const Runnable& runnable)
      : graph(runnable.graph), runnable_(runnable), executor_(runnable.graph, runnable.precision) {}

  const Graph& graph;

  /// `inputs` in the order and layout of the graph.
  NamedTensors run(const Tensors& inputs, const std::set<std::string>& names) {
    NamedTensors results = executor_.run(named_inputs(graph, inputs), {names.begin(), names.end()});
    for (auto& [name, value] : results) value = values_of(*graph.find_variable(name), value);
    return results;
  }

  /// What the operations make of these values, rounded to the grids that they arrive on.
  at::Tensor run_part(const std::vector<const Operation*>& operations,
                      const std::map<const Variable*, at::Tensor>& feed, const Variable& output) {
    NamedTensors entered;
    for (const auto& [variable, value] : feed) entered.emplace(variable->name(), enter(*variable, value));
    return values_of(output, executor_.run_operations(operations, entered, {output.name()}).at(0));
  }

 private:
  Runnable runnable_;
  Executor executor_;

  at::Tensor values_of(const Variable& variable, const at::Tensor& result) const {
    const Grid grid = runnable_.precision == Precision::Board ? variable_grid(&variable) : Grid{};
    return grid.quantized() ? dequantize(result.to(at::kFloat), grid.exponents, -1) : result;
  }

  at::Tensor enter(const Variable& variable, const at::Tensor& value) const {
    const Grid grid = value_grid(runnable_, variable);
    if (!grid.quantized()) return value.contiguous();
    const auto round = runnable_.precision == Precision::Board ? quantize_to_codes : to_grid;
    return round(value.to(at::kFloat).contiguous(), grid.exponents, -1, grid.bits, graph.target()->rounding);
  }

  static at::Tensor to_grid(const at::Tensor& value, const std::vector<int>& exponents, int axis, int bits,
                            Rounding rounding) {
    return fake_quantize(value, exponents, axis, bits, rounding);
  }
};

/// The batch for a chip graph: values, in the order of the file or with channels first where only that fits.
Tensors chip_inputs(const Graph& graph, const Dataset& data, size_t batch) {
  Graph wanted;  // the same inputs, taking floats where the file stores integers
  for (const Variable* input : graph.inputs()) {
    Variable& added = wanted.add_variable(input->name());
    added.set_shape(input->shape());
    added.set_dtype(variable_grid(input).quantized() ? at::kFloat : input->dtype());
    wanted.add_input(added);
  }
  Dataset::Batch tensors = data[batch];
  for (auto& [name, tensor] : tensors) {
    const Variable* input = wanted.inputs().size() == 1 ? wanted.inputs()[0] : wanted.find_variable(name);
    const auto rank = static_cast<size_t>(tensor.dim());
    if (!input || !input->shape() || rank < 3 || rank != input->shape()->size()) continue;
    const auto fits = [&](const at::Tensor& value) {
      return value.sizes().slice(1) == at::IntArrayRef(*input->shape()).slice(1);
    };
    const at::Tensor last = tensor.movedim(1, -1);
    if (!fits(tensor) && fits(last)) tensor = last.contiguous();
  }
  return Dataset({std::move(tensors)}).inputs(wanted, 0);
}

/// Samples of a data set for both sides.
class Feeder {
 public:
  Feeder(const Graph& a, const Graph& b, const std::vector<TensorMatch>& inputs) : a_(a), b_(b), inputs_(inputs) {}

  /// Inputs of A and of B, each in its own order; more than one pair where a batch has to be cut.
  std::vector<std::pair<Tensors, Tensors>> pieces(const Dataset& data, size_t batch) const {
    const bool from_a = !a_.is_chip() || b_.is_chip();
    const Graph& source = from_a ? a_ : b_;
    const Tensors whole = source.is_chip() ? chip_inputs(source, data, batch) : data.inputs(source, batch);
    std::vector<std::pair<Tensors, Tensors>> result;
    for (const Tensors& piece : cut(whole))
      result.push_back(from_a ? std::make_pair(piece, to_b(piece)) : std::make_pair(to_a(piece), piece));
    return result;
  }

 private:
  const Graph &a_, &b_;
  const std::vector<TensorMatch>& inputs_;

  /// Pieces of as many samples as the chip graph takes.
  std::vector<Tensors> cut(const Tensors& whole) const {
    const Graph* chip = a_.is_chip() ? &a_ : b_.is_chip() ? &b_ : nullptr;
    const Variable* first = chip && !chip->inputs().empty() ? chip->inputs()[0] : nullptr;
    if (!first || !first->shape() || first->shape()->empty() || whole[0].dim() < 2) return {whole};
    const int64_t samples = whole[0].size(0), step = first->shape()->front();
    if (samples == step) return {whole};
    user_check(step > 0 && samples % step == 0,
               "a batch of {} samples cannot be cut into pieces of {}, which the chip "
               "model takes",
               samples, step);
    std::vector<Tensors> pieces(samples / step);
    for (const at::Tensor& tensor : whole) {
      user_check(tensor.dim() > 0 && tensor.size(0) == samples,
                 "the inputs of a batch have different numbers of samples");
      for (size_t i = 0; i < pieces.size(); ++i)
        pieces[i].push_back(tensor.narrow(0, static_cast<int64_t>(i) * step, step).contiguous());
    }
    return pieces;
  }

  Tensors to_b(const Tensors& values) const {
    Tensors result;
    for (const TensorMatch& match : inputs_) {
      const auto position = std::find(a_.inputs().begin(), a_.inputs().end(), match.a) - a_.inputs().begin();
      result.push_back(values[position].permute(match.orders[0]).contiguous());
    }
    return result;
  }

  Tensors to_a(const Tensors& values) const {
    Tensors result(a_.inputs().size());
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const auto position = std::find(a_.inputs().begin(), a_.inputs().end(), inputs_[i].a) - a_.inputs().begin();
      result[position] = to_order_of_a(values[i], inputs_[i].orders[0]).contiguous();
    }
    return result;
  }
};

/// The matched tensors of one list with what was measured.
class Comparer {
 public:
  Comparer(const Runnable& a, const Runnable& b, std::vector<TensorMatch> matches) : matches_(std::move(matches)) {
    for (const TensorMatch& match : matches_) {
      auto grid = value_grid(b, *match.b);
      sums_.emplace_back(grid.quantized() ? grid : value_grid(a, *match.a));
    }
  }

  void names(std::set<std::string>& of_a, std::set<std::string>& of_b) const {
    for (const TensorMatch& match : matches_) {
      of_a.insert(match.a->name());
      of_b.insert(match.b->name());
    }
  }

  void add(const NamedTensors& a, const NamedTensors& b) {
    for (size_t i = 0; i < matches_.size(); ++i) {
      TensorMatch& match = matches_[i];
      const at::Tensor& want = a.at(match.a->name());
      const at::Tensor& got = b.at(match.b->name());
      if (match.orders.size() > 1) match.orders = {best_order(match.orders, want, got)};
      sums_[i].add(want, to_order_of_a(got, match.orders[0]));
    }
  }

  const std::vector<int64_t>& order_of(const TensorMatch& match) const {
    for (const TensorMatch& known : matches_)
      if (known.b == match.b) return known.orders[0];
    return match.orders[0];
  }

  std::vector<TensorError> results() const {
    std::vector<TensorError> errors;
    for (size_t i = 0; i < matches_.size(); ++i) {
      const TensorMatch& match = matches_[i];
      TensorError error = sums_[i].result();
      error.name = match.b->name();
      error.reference = match.a->name();
      error.by_name = match.by_name;
      if (const Operation* producer = match.b->producer()) {
        error.operation = producer->name();
        error.type = producer->type();
      }
      errors.push_back(std::move(error));
    }
    return errors;
  }

 private:
  std::vector<TensorMatch> matches_;
  std::vector<TensorErrorSums> sums_;

  /// Dimensions of one size leave open which is which; the values tell.
  static std::vector<int64_t> best_order(const std::vector<std::vector<int64_t>>& orders, const at::Tensor& want,
                                         const at::Tensor& got) {
    size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < orders.size(); ++i) {
      const double noise = (to_order_of_a(got, orders[i]).to(at::kDouble) - want).square().sum().item<double>();
      if (noise < least) {
        least = noise;
        best = i;
      }
    }
    return orders[best];
  }
};

/// What every layer of B adds by itself.
class OwnComparer {
 public:
  OwnComparer(const Runnable& b, const GraphMatch& match) {
    for (const auto* list : {&match.inputs, &match.layers})
      for (const TensorMatch& one : *list) reference_.emplace(one.b, &one);
    for (const TensorMatch& layer : match.layers) {
      Part part{&layer, {}, {}, TensorErrorSums(value_grid(b, *layer.b))};
      collect(*layer.b->producer(), part);
      std::reverse(part.operations.begin(), part.operations.end());
      parts_.push_back(std::move(part));
    }
  }

  /// `layers` knows by now which order of dimensions is right.
  void add(const NamedTensors& values_a, Side& b, const Comparer& layers) {
    for (size_t i = 0; i < parts_.size(); ++i) {
      Part& part = parts_[i];
      std::map<const Variable*, at::Tensor> feed;
      for (const Variable* variable : part.feed) {
        const TensorMatch& source = *reference_.at(variable);
        feed[variable] = values_a.at(source.a->name()).permute(layers.order_of(source));
      }
      const at::Tensor got = b.run_part(part.operations, feed, *part.layer->b);
      part.sums.add(values_a.at(part.layer->a->name()), to_order_of_a(got, layers.order_of(*part.layer)));
    }
  }

  void results(std::vector<TensorError>& layers) const {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const TensorError error = parts_[i].sums.result();
      OwnNoise& own = layers[i].own.emplace();
      own.noise_to_signal = error.noise_to_signal;
      if (!error.grid) continue;
      own.clipped = error.grid->clipped_noise;
      own.saturated = error.grid->saturated_noise;
      own.rounding = error.grid->rounding_noise;
    }
  }

 private:
  struct Part {
    const TensorMatch* layer;
    std::vector<const Operation*> operations;  ///< from the nearest compared tensors on
    std::set<const Variable*> feed;
    TensorErrorSums sums;
  };
  std::map<const Variable*, const TensorMatch*> reference_;
  std::vector<Part> parts_;

  /// The producer and what lies between it and compared tensors, last first.
  void collect(const Operation& producer, Part& part) const {
    const auto known = std::find(part.operations.begin(), part.operations.end(), &producer);
    if (known != part.operations.end()) part.operations.erase(known);  // it runs before all its readers
    part.operations.push_back(&producer);
    for (const Variable* input : producer.inputs()) {
      if (!input || input->is_parameter()) continue;
      if (reference_.count(input))
        part.feed.insert(input);
      else
        collect(*input->producer(), part);
    }
  }
};

void find_first(Comparison& comparison) {
  for (size_t i = 0; i < comparison.layers.size(); ++i) {
    const TensorError& layer = comparison.layers[i];
    if (!comparison.first_difference && layer.different > 0) comparison.first_difference = i;
    if (!comparison.first_parting && !(layer.noise_to_signal <= comparison.parting)) comparison.first_parting = i;
  }
}

}  // namespace

double TensorError::decibel() const { return -10 * std::log10(noise_to_signal); }

Comparison compare(const Runnable& a, const Runnable& b, const Dataset& data, const CompareOptions& options) {
  const GraphMatch match = match_graphs(a.graph, b.graph);
  user_check(!match.outputs.empty(), "no output of the second model has the shape of one of the first");
  Comparer outputs(a, b, match.outputs), layers(a, b, options.per_layer ? match.layers : std::vector<TensorMatch>{});
  std::set<std::string> names_a, names_b;
  outputs.names(names_a, names_b);
  layers.names(names_a, names_b);
  const bool explain = options.per_layer && a.precision == Precision::Float && b.precision != Precision::Float;
  if (explain)
    for (const Variable* input : a.graph.inputs()) names_a.insert(input->name());
  std::optional<OwnComparer> own;
  if (explain) own.emplace(b, match);
  Side side_a(a), side_b(b);
  const Feeder feeder(a.graph, b.graph, match.inputs);
  Comparison comparison;
  comparison.batches = std::min(options.batches, data.size());
  comparison.parting = options.parting;
  user_check(comparison.batches > 0, "no batch to compare on");
  for (size_t batch = 0; batch < comparison.batches; ++batch) {
    for (const auto& [inputs_a, inputs_b] : feeder.pieces(data, batch)) {
      const NamedTensors values_a = side_a.run(inputs_a, names_a), values_b = side_b.run(inputs_b, names_b);
      outputs.add(values_a, values_b);
      layers.add(values_a, values_b);
      if (own) own->add(values_a, side_b, layers);
      comparison.samples += static_cast<size_t>(batch_size(inputs_a));
    }
    report_progress("comparison", batch + 1, comparison.batches);
  }
  comparison.outputs = outputs.results();
  comparison.layers = layers.results();
  if (own) own->results(comparison.layers);
  if (options.per_layer)
    for (const Variable* variable : match.unmatched) comparison.unmatched.push_back(variable->name());
  find_first(comparison);
  if (explain) diagnose(b.graph, comparison);
  return comparison;
}

}  // namespace espq
