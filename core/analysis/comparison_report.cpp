#include "core/analysis/comparison_report.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/analysis/diagnose.h"

namespace espq {
namespace {

using Json = nlohmann::ordered_json;

size_t name_width(const std::vector<TensorError>& errors, size_t least) {
  for (const TensorError& error : errors) least = std::max(least, error.name.size());
  return least;
}

std::string figures(const TensorError& error) {
  return fmt::format("{:>8.2f}  {:>12.6f}  {:>9.6f}  {:>11.5g}  {:>11.5g}", error.decibel(),
                     error.noise_to_signal * 100, error.cosine, error.max_error, error.mean_error);
}

/// "0: 61.2 %, 1: 30.1 %, ..., more: 0.2 %" of the absolute error in LSB.
std::string lsb_shares(const TensorError& error) {
  const Histogram& histogram = error.grid->error;
  const size_t middle = histogram.counts.size() / 2;
  constexpr size_t kShown = 4;
  const double total = std::max<double>(1, static_cast<double>(error.elements));
  std::string text;
  int64_t rest = error.elements - histogram.counts[middle];
  const auto share = [&](int64_t count) { return 100 * static_cast<double>(count) / total; };
  text = fmt::format("0: {:.4g} %", share(histogram.counts[middle]));
  for (size_t i = 1; i <= kShown; ++i) {
    const int64_t count = histogram.counts[middle - i] + histogram.counts[middle + i];
    rest -= count;
    text += fmt::format(", ±{}: {:.4g} %", i, share(count));
  }
  return text + fmt::format(", more: {:.4g} %", share(rest));
}

Json to_json(const Histogram& histogram) {
  return {{"low", histogram.low},
          {"high", histogram.high},
          {"counts", histogram.counts},
          {"below", histogram.below},
          {"above", histogram.above}};
}

Json to_json(const GridError& grid) {
  return {{"bits", grid.bits},
          {"exponent", grid.exponent},
          {"needed_exponent", grid.needed_exponent},
          {"clipped_share", grid.clipped},
          {"saturated_share", grid.saturated},
          {"clipped_noise_share", grid.clipped_noise},
          {"saturated_noise_share", grid.saturated_noise},
          {"rounding_noise_share", grid.rounding_noise},
          {"error_in_lsb", to_json(grid.error)},
          {"reference_values", to_json(grid.values)}};
}

Json to_json(const ClippedOperand& operand) {
  return {{"name", operand.name},
          {"constant", operand.constant},
          {"bits", operand.bits},
          {"exponent", operand.exponent},
          {"needed_exponent", operand.needed_exponent},
          {"clipped_share", operand.clipped}};
}

Json to_json(const OwnNoise& own) {
  return {{"noise_to_signal", own.noise_to_signal},
          {"clipped_share", own.clipped},
          {"saturated_share", own.saturated},
          {"rounding_share", own.rounding},
          {"clipped_operand", own.operand ? to_json(*own.operand) : Json(nullptr)}};
}

Json to_json(const TensorError& error) {
  Json json = {{"name", error.name},
               {"reference", error.reference},
               {"operation", error.operation},
               {"type", error.type},
               {"matched_by", error.by_name ? "name" : "place"},
               {"shape", error.shape},
               {"elements", error.elements},
               {"different", error.different},
               {"noise_to_signal", error.noise_to_signal},
               {"snr_decibel", error.decibel()},
               {"cosine", error.cosine},
               {"mean_squared_error", error.mean_squared_error},
               {"max_error", error.max_error},
               {"mean_error", error.mean_error},
               {"mean_absolute_error", error.mean_absolute_error}};
  json["grid"] = error.grid ? to_json(*error.grid) : Json(nullptr);
  json["own"] = error.own ? to_json(*error.own) : Json(nullptr);
  json["cause"] = cause_name(error.cause);
  json["carried_from"] = error.carried_from ? Json(*error.carried_from) : Json(nullptr);
  json["explanation"] = error.explanation;
  json["advice"] = error.advice;
  return json;
}

std::string layer_table(const Comparison& comparison, size_t rows) {
  std::vector<size_t> order = worst_first(comparison.layers);
  order.resize(std::min(rows, order.size()));
  const size_t width = name_width(comparison.layers, 5);
  const double most = comparison.layers[order[0]].noise_to_signal;
  std::string text =
      fmt::format("\n{:<{}}  {:<20}  noise / signal           own  clipped  cause\n", "layer", width, "");
  for (size_t index : order) {
    const TensorError& error = comparison.layers[index];
    text +=
        fmt::format("{:<{}}  {}  {:>12.4f} %  {}  {}  {}\n", error.name, width,
                    text_bar(most > 0 ? error.noise_to_signal / most : 0), error.noise_to_signal * 100,
                    error.own ? fmt::format("{:>10.4f} %", error.own->noise_to_signal * 100) : "           –",
                    error.grid ? fmt::format("{:>5.2f} %", error.grid->clipped * 100) : "      –", shown_cause(error));
  }
  return text;
}

std::string matching(const Comparison& comparison) {
  size_t by_name = 0;
  for (const TensorError& layer : comparison.layers) by_name += layer.by_name;
  const size_t matched = comparison.layers.size();
  std::string text = fmt::format("\nlayers: {} of {} matched, {} by name, {} by place\n", matched,
                                 matched + comparison.unmatched.size(), by_name, matched - by_name);
  if (!comparison.unmatched.empty()) text += fmt::format("not matched: {}\n", fmt::join(comparison.unmatched, ", "));
  const auto first = [&](const char* what, const std::optional<size_t>& index) {
    text += fmt::format("{}: {}\n", what, index ? comparison.layers[*index].name : "none");
  };
  first("first layer with a difference", comparison.first_difference);
  first(fmt::format("first layer with noise / signal above {:g} %", comparison.parting * 100).c_str(),
        comparison.first_parting);
  return text;
}

}  // namespace

std::string_view shown_cause(const TensorError& error) {
  return error.carried_from ? "carried" : error.cause == Cause::None ? "" : cause_name(error.cause);
}

std::string text_bar(double share, int cells) {
  const int filled = std::clamp(static_cast<int>(std::lround(share * cells)), 0, cells);
  std::string bar;
  for (int cell = 0; cell < cells; ++cell) bar += cell < filled ? "█" : " ";
  return bar;
}

std::vector<size_t> worst_first(const std::vector<TensorError>& errors) {
  std::vector<size_t> order(errors.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return errors[a].noise_to_signal > errors[b].noise_to_signal; });
  return order;
}

std::vector<size_t> sources_first(const std::vector<TensorError>& errors) {
  std::vector<size_t> order;
  for (size_t i = 0; i < errors.size(); ++i)
    if (errors[i].cause != Cause::None) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return errors[a].own->noise_to_signal > errors[b].own->noise_to_signal; });
  return order;
}

std::string to_text(const Comparison& comparison, size_t rows) {
  const size_t width = name_width(comparison.outputs, 6);
  std::string text =
      fmt::format("{} batches, {} samples\n\n{:<{}}  SNR [dB]  noise/signal %     cosine    max error   mean error\n",
                  comparison.batches, comparison.samples, "output", width);
  for (const TensorError& error : comparison.outputs) {
    text += fmt::format("{:<{}}  {}\n", error.name, width, figures(error));
    if (error.grid) text += fmt::format("  error in LSB of 2^{}: {}\n", error.grid->exponent, lsb_shares(error));
  }
  if (comparison.layers.empty() && comparison.unmatched.empty()) return text;
  text += matching(comparison);
  if (comparison.layers.empty()) return text;
  text += layer_table(comparison, rows);
  const std::vector<size_t> sources = sources_first(comparison.layers);
  if (!sources.empty()) text += "\nwhere noise arises:\n";
  for (size_t index : sources) {
    if (rows-- == 0) break;
    const TensorError& error = comparison.layers[index];
    text += fmt::format("{} ({} '{}'): {:.4g} % of its own, {}: {}.\n", error.name, error.type, error.operation,
                        error.own->noise_to_signal * 100, cause_name(error.cause), error.explanation);
    if (!error.advice.empty()) text += fmt::format("  Try {}.\n", error.advice);
  }
  return text;
}

Json to_json(const Comparison& comparison) {
  Json outputs = Json::array(), layers = Json::array();
  for (const TensorError& error : comparison.outputs) outputs.push_back(to_json(error));
  for (const TensorError& error : comparison.layers) layers.push_back(to_json(error));
  const auto name_of = [&](const std::optional<size_t>& index) {
    return index ? Json(comparison.layers[*index].name) : Json(nullptr);
  };
  return {{"batches", comparison.batches},
          {"samples", comparison.samples},
          {"outputs", outputs},
          {"layers", layers},
          {"unmatched", comparison.unmatched},
          {"parting", comparison.parting},
          {"first_difference", name_of(comparison.first_difference)},
          {"first_parting", name_of(comparison.first_parting)}};
}

}  // namespace espq
