#include "core/analysis/compare.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/analysis/diagnose.h"
#include "core/analysis/float_run.h"
#include "core/analysis/match_graphs.h"
#include "core/analysis/tensor_error.h"
#include "core/exec/chip_grid.h"
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
  WantedVariables wanted;  ///< that run() gives

  /// `inputs` in the order and layout of the graph.
  Tensors run(const Tensors& inputs) {
    Tensors results = executor_.run(inputs, wanted.list());
    for (size_t i = 0; i < results.size(); ++i) results[i] = values_of(*wanted.list()[i], results[i]);
    return results;
  }

  Piece compile(std::vector<const Operation*> operations, std::vector<const Variable*> feeds,
                const Variable& output) const {
    return executor_.compile(std::move(operations), std::move(feeds), {&output});
  }

  at::Tensor values_of(const Variable& variable, const at::Tensor& result) const {
    const Grid grid = runnable_.precision == Precision::Board ? variable_grid(&variable) : Grid{};
    return grid.quantized() ? dequantize(result.to(at::kFloat), grid.exponents, -1) : result;
  }

  /// Values as they flow between operations, on the grid that they arrive on.
  at::Tensor enter(const Variable& variable, const at::Tensor& value) const {
    const Grid grid = value_grid(runnable_, variable);
    if (!grid.quantized()) return value.contiguous();
    const auto round = runnable_.precision == Precision::Board ? quantize_to_codes : to_grid;
    return round(value.to(at::kFloat).contiguous(), grid.exponents, -1, grid.bits, graph.target()->rounding);
  }

 private:
  Runnable runnable_;
  Executor executor_;

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
  Comparer(const Runnable& a, const Runnable& b, std::vector<TensorMatch> matches, WantedVariables& of_a,
           WantedVariables& of_b)
      : matches_(std::move(matches)) {
    for (const TensorMatch& match : matches_) {
      auto grid = value_grid(b, *match.b);
      sums_.emplace_back(grid.quantized() ? grid : value_grid(a, *match.a));
      places_.emplace_back(of_a.place_of(*match.a), of_b.place_of(*match.b));
    }
  }

  void add(const Tensors& a, const Tensors& b) {
    for (size_t i = 0; i < matches_.size(); ++i) {
      TensorMatch& match = matches_[i];
      const at::Tensor &want = a[places_[i].first], &got = b[places_[i].second];
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
  std::vector<std::pair<size_t, size_t>> places_;  ///< of the values of both sides

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

/// One operand or constant of a layer of B, as the layer reads it, against the values of A.
class OperandComparer {
 public:
  OperandComparer(std::string name, bool constant, Grid grid, Rounding rounding)
      : name_(std::move(name)), constant_(constant), grid_(std::move(grid)), rounding_(rounding), sums_(grid_) {}

  /// The largest value that the grid holds.
  double range() const { return std::ldexp(1.0, grid_.exponent() + grid_.bits); }

  void add(const at::Tensor& reference) {
    const at::Tensor values = reference.to(at::kFloat).reshape({1, -1});
    sums_.add(values, fake_quantize(values, grid_.exponents, -1, grid_.bits, rounding_));
  }

  /// The noise power that clipping makes, where that is most of it; else 0.
  double loss() const {
    const TensorError error = sums_.result();
    return error.grid->clipped_noise < 0.5 ? 0 : error.mean_squared_error * error.grid->clipped_noise;
  }

  ClippedOperand result() const {
    const GridError grid = *sums_.result().grid;
    return {name_, constant_, grid.bits, grid.exponent, grid.needed_exponent, grid.clipped};
  }

 private:
  std::string name_;
  bool constant_;
  Grid grid_;
  Rounding rounding_;
  TensorErrorSums sums_;
};

/// What every layer of B adds by itself: it runs alone, on the values of A.
class OwnComparer {
 public:
  OwnComparer(const Graph& a, const Runnable& b, const GraphMatch& match, WantedVariables& of_a, const Side& side)
      : a_(a), b_(b), side_(side) {
    for (const auto* list : {&match.inputs, &match.layers})
      for (const TensorMatch& one : *list) reference_.emplace(one.b, &one);
    for (const TensorMatch& layer : match.layers) {
      std::vector<const Operation*> operations;  // from the nearest compared tensors on
      std::vector<const Variable*> feeds;
      collect(*layer.b->producer(), operations, feeds);
      std::reverse(operations.begin(), operations.end());
      Part& part = parts_.emplace_back(Part{
          &layer, {}, {}, side.compile(operations, feeds, *layer.b), TensorErrorSums(value_grid(b, *layer.b)), {}, {}});
      for (const Variable* feed : feeds) {
        part.feeds.push_back(reference_.at(feed));
        part.places.push_back(of_a.place_of(*part.feeds.back()->a));
      }
      part.places.push_back(of_a.place_of(*layer.a));
      find_operands(operations, feeds, part);
    }
  }

  /// `layers` knows by now which order of dimensions is right.
  void add(const Tensors& values_a, const Comparer& layers) {
    for (Part& part : parts_) {
      Tensors feeds;
      for (size_t i = 0; i < part.feeds.size(); ++i) {
        const TensorMatch& source = *part.feeds[i];
        feeds.push_back(side_.enter(*source.b, values_a[part.places[i]].permute(layers.order_of(source))));
      }
      const TensorMatch& layer = *part.layer;
      const at::Tensor got = side_.values_of(*layer.b, part.piece.run(feeds).at(0));
      part.sums.add(values_a[part.places.back()], to_order_of_a(got, layers.order_of(layer)));
      for (auto& [feed, operand] : part.operands) operand.add(values_a[part.places[feed]]);
    }
  }

  void results(std::vector<TensorError>& layers) const {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const TensorError error = parts_[i].sums.result();
      OwnNoise& own = layers[i].own.emplace();
      own.noise_to_signal = error.noise_to_signal;
      own.operand = most_clipped(parts_[i]);
      if (!error.grid) continue;
      own.clipped = error.grid->clipped_noise;
      own.saturated = error.grid->saturated_noise;
      own.rounding = error.grid->rounding_noise;
    }
  }

 private:
  struct Part {
    const TensorMatch* layer;
    std::vector<const TensorMatch*> feeds;
    std::vector<size_t> places;  ///< in the values of A: of the feeds, then of the layer
    Piece piece;
    TensorErrorSums sums;
    std::map<size_t, OperandComparer> operands;  ///< by feed
    std::vector<OperandComparer> constants;
  };
  const Graph& a_;
  const Runnable& b_;
  const Side& side_;
  std::map<const Variable*, const TensorMatch*> reference_;
  std::vector<Part> parts_;

  static std::optional<ClippedOperand> most_clipped(const Part& part) {
    const OperandComparer* most = nullptr;
    double largest = 0;
    const auto look = [&](const OperandComparer& operand) {
      const double loss = operand.loss();
      if (loss > largest) most = &operand, largest = loss;
    };
    for (const auto& [feed, operand] : part.operands) look(operand);
    for (const OperandComparer& constant : part.constants) look(constant);
    return most ? std::optional(most->result()) : std::nullopt;
  }

  /// The grid on which an operation reads one of its operands.
  Grid reading_grid(const Operation& operation, size_t slot) const {
    if (b_.graph.is_chip()) return variable_grid(operation.input(slot));
    if (!operation.quantized() || operation.input_quant()[slot].is_float()) return {};
    return slot_grid(b_.graph, operation.input_quant()[slot]);
  }

  /// The compared tensor that reaches `variable` without arithmetic; nullptr when there is none.
  static const Variable* origin(const Variable& variable, const std::vector<const Variable*>& feeds) {
    const Variable* place = &variable;
    while (std::find(feeds.begin(), feeds.end(), place) == feeds.end()) {
      const Operation* producer = place->producer();
      if (!producer || !producer->input(0)) return nullptr;
      const QuantizationRule& rule = definition_of(*producer).quantization;
      if (!rule.converts && !rule.passive) return nullptr;
      place = producer->input(0);
    }
    return place;
  }

  void find_operands(const std::vector<const Operation*>& operations, const std::vector<const Variable*>& feeds,
                     Part& part) const {
    for (const Operation* operation : operations) {
      for (size_t slot = 0; slot < operation->inputs().size(); ++slot) {
        const Variable* variable = operation->input(slot);
        if (!variable || !is_operand_of_arithmetic(definition_of(*operation).input_spec(slot).role)) continue;
        const Grid grid = reading_grid(*operation, slot);
        if (!grid.quantized() || grid.exponents.size() != 1) continue;
        if (variable->is_parameter())
          add_constant(*variable, grid, part);
        else if (const Variable* feed = origin(*variable, feeds))
          add_operand(static_cast<size_t>(std::find(feeds.begin(), feeds.end(), feed) - feeds.begin()), grid, part);
      }
    }
  }

  /// Of several grids on the way the one that holds least.
  void add_operand(size_t feed, const Grid& grid, Part& part) const {
    OperandComparer operand(part.feeds[feed]->b->name(), false, grid, b_.graph.target()->rounding);
    const auto [found, is_new] = part.operands.emplace(feed, operand);
    if (!is_new && operand.range() < found->second.range()) found->second = std::move(operand);
  }

  /// Constants keep their names; what was rebuilt for the chip has no counterpart.
  void add_constant(const Variable& constant, const Grid& grid, Part& part) const {
    const Variable* original = a_.find_variable(constant.name());
    if (!original || !original->is_parameter() || original->value().numel() != constant.value().numel()) return;
    OperandComparer& added = part.constants.emplace_back(constant.name(), true, grid, b_.graph.target()->rounding);
    added.add(original->value());
  }

  /// The producer and what lies between it and compared tensors, last first.
  void collect(const Operation& producer, std::vector<const Operation*>& operations,
               std::vector<const Variable*>& feeds) const {
    const auto known = std::find(operations.begin(), operations.end(), &producer);
    if (known != operations.end()) operations.erase(known);  // it runs before all its readers
    operations.push_back(&producer);
    for (const Variable* input : producer.inputs()) {
      if (!input || input->is_parameter()) continue;
      if (!reference_.count(input)) {
        collect(*input->producer(), operations, feeds);
      } else if (std::find(feeds.begin(), feeds.end(), input) == feeds.end()) {
        feeds.push_back(input);
      }
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
  Side side_a(a), side_b(b);
  Comparer outputs(a, b, match.outputs, side_a.wanted, side_b.wanted);
  Comparer layers(a, b, options.per_layer ? match.layers : std::vector<TensorMatch>{}, side_a.wanted, side_b.wanted);
  const bool explain = options.per_layer && a.precision == Precision::Float && b.precision != Precision::Float;
  std::optional<OwnComparer> own;
  if (explain) own.emplace(a.graph, b, match, side_a.wanted, side_b);
  const Feeder feeder(a.graph, b.graph, match.inputs);
  Comparison comparison;
  comparison.batches = std::min(options.batches, data.size());
  comparison.parting = options.parting;
  user_check(comparison.batches > 0, "no batch to compare on");
  for (size_t batch = 0; batch < comparison.batches; ++batch) {
    for (const auto& [inputs_a, inputs_b] : feeder.pieces(data, batch)) {
      const Tensors values_a = side_a.run(inputs_a), values_b = side_b.run(inputs_b);
      outputs.add(values_a, values_b);
      layers.add(values_a, values_b);
      if (own) own->add(values_a, layers);
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
