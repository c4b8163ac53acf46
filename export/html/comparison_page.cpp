#include "export/html/comparison_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "core/analysis/comparison_report.h"
#include "core/analysis/diagnose.h"
#include "core/quant/scheme.h"
#include "export/html/html.h"

namespace espq {
namespace {

using html::escape;

constexpr size_t kShownSources = 12;
constexpr double kLeastShown = 1e-6;  // noise to signal at the foot of the chart

std::string percent(double share) {
  return share > 0 && share < 1e-6 ? fmt::format("{:.1e} %", share * 100) : fmt::format("{:.4g} %", share * 100);
}

std::string decibel(const TensorError& error) {
  return error.noise_to_signal > 0 ? fmt::format("{:.1f} dB", error.decibel()) : "no noise";
}

std::string facts(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string text = "<dl class=\"facts\">";
  for (const auto& [term, value] : entries) text += fmt::format("<dt>{}</dt><dd>{}</dd>", escape(term), escape(value));
  return text + "</dl>";
}

std::string name_or_none(const Comparison& comparison, const std::optional<size_t>& index) {
  return index ? comparison.layers[*index].name : "none";
}

std::string head(const Comparison& comparison, const std::string& title_a, const std::string& title_b) {
  std::vector<std::pair<std::string, std::string>> entries = {
      {"A, the reference", title_a},
      {"B", title_b},
      {"data", fmt::format("{} batches, {} samples", comparison.batches, comparison.samples)}};
  const size_t matched = comparison.layers.size();
  if (matched + comparison.unmatched.size() > 0) {
    entries.emplace_back("layers compared", fmt::format("{} of {}", matched, matched + comparison.unmatched.size()));
    entries.emplace_back("first difference", name_or_none(comparison, comparison.first_difference));
    entries.emplace_back(fmt::format("first above {:g} % noise", comparison.parting * 100),
                         name_or_none(comparison, comparison.first_parting));
  }
  return "<h1>Where two models differ</h1>" + facts(entries);
}

std::string error_histogram(const TensorError& error) {
  const Histogram& histogram = error.grid->error;
  const int64_t exact = histogram.counts[histogram.counts.size() / 2];
  const double share = static_cast<double>(exact) / std::max<double>(1, static_cast<double>(error.elements));
  const std::string text = fmt::format("Error in LSB: {} are off by less than half a step", percent(share));
  return fmt::format("<p class=\"soft\">{}</p>", escape(text)) +
         html::svg(html::HistogramChart{text, histogram, histogram.low, histogram.high,
                                        fmt::format("{:g}", std::ceil(histogram.low)), "0",
                                        fmt::format("{:g}", std::floor(histogram.high))});
}

std::string value_histogram(const TensorError& error) {
  const GridError& grid = *error.grid;
  const double low = std::ldexp(quant_min(grid.bits) - 0.5, grid.exponent);
  const double high = std::ldexp(quant_max(grid.bits) + 0.5, grid.exponent);
  const std::string text = fmt::format("Values of A on the range of {} bits at 2^{}: {} clipped, {} of B at an end",
                                       grid.bits, grid.exponent, percent(grid.clipped), percent(grid.saturated));
  return fmt::format("<p class=\"soft\">{}</p>", escape(text)) +
         html::svg(html::HistogramChart{text, grid.values, low, high, fmt::format("{:.4g}", low), "0",
                                        fmt::format("{:.4g}", high)});
}

std::string figures(const TensorError& error) {
  std::vector<std::pair<std::string, std::string>> entries = {
      {"SNR", fmt::format("{} ({} noise)", decibel(error), percent(error.noise_to_signal))},
      {"cosine", fmt::format("{:.6f}", error.cosine)},
      {"max error", fmt::format("{:.5g}", error.max_error)},
      {"mean error", fmt::format("{:.5g}", error.mean_error)}};
  if (error.own) entries.insert(entries.begin() + 1, {"own noise", percent(error.own->noise_to_signal)});
  return facts(entries);
}

std::string outputs(const Comparison& comparison) {
  std::string text = "<h2>Outputs</h2><div class=\"cards\">";
  for (const TensorError& error : comparison.outputs) {
    text += fmt::format("<section class=\"card\"><h3>{}</h3>{}", escape(error.name), figures(error));
    if (error.grid) text += error_histogram(error) + value_histogram(error);
    text += "</section>";
  }
  return text + "</div>";
}

std::string layer_chart(const Comparison& comparison) {
  html::BarChart chart;
  chart.label = fmt::format("Noise to signal of {} layers in execution order", comparison.layers.size());
  chart.low = kLeastShown;
  bool own = false;
  for (const TensorError& error : comparison.layers) {
    own |= error.own.has_value();
    chart.total.push_back(error.noise_to_signal);
    chart.own.push_back(error.own ? error.own->noise_to_signal : 0);
    chart.tooltips.push_back(fmt::format("{} ({}): {}{}", error.name, error.type, percent(error.noise_to_signal),
                                         error.own ? ", own " + percent(error.own->noise_to_signal) : ""));
  }
  if (!own) chart.own.clear();
  std::string legend =
      "<span class=\"key\" style=\"background: var(--total)\"></span>with the error of the layers before";
  if (own)
    legend += "<span class=\"key\" style=\"background: var(--own)\"></span>of the layer alone, on exact operands";
  return fmt::format("<h2>Error per layer</h2><p class=\"soft\">Noise / signal, logarithmic.{}</p>{}", legend,
                     html::svg(chart));
}

std::string sources(const Comparison& comparison) {
  const std::vector<size_t> order = sources_first(comparison.layers);
  if (order.empty()) return {};
  std::string text =
      "<h2>Where the error arises</h2><p class=\"soft\">Layers that make noise themselves, most of it first. Counts "
      "are drawn on a logarithmic scale."
      "</p><div class=\"cards\">";
  for (size_t i = 0; i < std::min(order.size(), kShownSources); ++i) {
    const TensorError& error = comparison.layers[order[i]];
    text += fmt::format(
        "<section class=\"card\"><h3>{}</h3><p class=\"soft\">{} <code>{}</code></p><p><span "
        "class=\"cause\">{}</span></p>"
        "<p>{}.</p>",
        escape(error.name), escape(error.type), escape(error.operation), cause_name(error.cause),
        escape(error.explanation));
    if (!error.advice.empty()) text += fmt::format("<p><strong>Try:</strong> {}.</p>", escape(error.advice));
    text += figures(error);
    if (error.grid) text += value_histogram(error) + error_histogram(error);
    text += "</section>";
  }
  return text + "</div>";
}

std::string table(const Comparison& comparison) {
  std::string text = fmt::format(
      "<details><summary>All {} layers</summary><div class=\"scroll\" tabindex=\"0\"><table><caption>In execution order"
      "</caption><thead><tr><th scope=\"col\">layer</th><th scope=\"col\" class=\"word\">type</th><th "
      "scope=\"col\">noise"
      "</th><th scope=\"col\">own</th><th scope=\"col\">SNR</th><th scope=\"col\">cosine</th><th scope=\"col\">max "
      "error"
      "</th><th scope=\"col\">clipped</th><th scope=\"col\">grid</th><th scope=\"col\" class=\"word\">cause</th></tr>"
      "</thead><tbody>",
      comparison.layers.size());
  for (const TensorError& error : comparison.layers) {
    text += fmt::format(
        "<tr><th scope=\"row\">{}</th><td class=\"word\">{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{:.6f}</td><td>{:.4g}</td><td>{}</td><td>{}</td><td class=\"word\">{}</td></tr>",
        escape(error.name), escape(error.type), percent(error.noise_to_signal),
        error.own ? percent(error.own->noise_to_signal) : "–", decibel(error), error.cosine, error.max_error,
        error.grid ? percent(error.grid->clipped) : "–",
        error.grid ? fmt::format("{} bit, 2^{}", error.grid->bits, error.grid->exponent) : "float", shown_cause(error));
  }
  return text + "</tbody></table></div></details>";
}

std::string unmatched(const Comparison& comparison) {
  if (comparison.unmatched.empty()) return {};
  std::string text =
      fmt::format("<details><summary>{} layers of B that A does not have</summary><ul>", comparison.unmatched.size());
  for (const std::string& name : comparison.unmatched) text += fmt::format("<li><code>{}</code></li>", escape(name));
  return text + "</ul></details>";
}

}  // namespace

std::string comparison_page(const Comparison& comparison, const std::string& title_a, const std::string& title_b) {
  std::string body = "<main>" + head(comparison, title_a, title_b) + outputs(comparison);
  if (!comparison.layers.empty())
    body += layer_chart(comparison) + sources(comparison) + "<h2>Layers</h2>" + table(comparison);
  return html::page("espq compare: " + title_b, body + unmatched(comparison) + "</main>");
}

}  // namespace espq
