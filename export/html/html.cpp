#include "export/html/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace espq::html {
namespace {

constexpr std::string_view kStyle = R"(
:root { color-scheme: light dark; --page: #fff; --card: #f5f6f8; --text: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --total: #9db7d9; --own: #1f5fad; --warn: #b3400f; --range: #e3ecf7; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1f242c; --text: #e6e9ee; --soft: #a5adb8;
  --line: #3a424d; --total: #3f5f8a; --own: #84b6f4; --warn: #ff9a62; --range: #26344a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p, dl { margin: .4rem 0; } code, dd { overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .875rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; min-width: 0; }
.cause { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .6rem;
  color: var(--warn); font-size: .875rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.word, th.word { text-align: left; } thead th { color: var(--soft); }
svg { display: block; width: 100%; margin-top: .4rem; } svg text { fill: var(--text); font-size: 12px;
  paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
.card svg text { stroke: none; fill: var(--soft); }
.total { fill: var(--total); } .own { fill: var(--own); } .warn { fill: var(--warn); } .range { fill: var(--range); }
.axis { stroke: var(--line); stroke-width: 1; }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 .8rem; vertical-align: -1px; }
summary { cursor: pointer; padding: .4rem 0; }
)";

/// A rectangle whose horizontal measures are shares of the width, so that text keeps its size on every screen.
std::string rectangle(std::string_view kind, double left, double width, double top, double height,
                      const std::string& tooltip = {}) {
  return fmt::format(R"(<rect class="{}" x="{:.3f}%" y="{:.1f}" width="{:.3f}%" height="{:.1f}">{}</rect>)", kind,
                     left * 100, top, width * 100, height,
                     tooltip.empty() ? "" : fmt::format("<title>{}</title>", escape(tooltip)));
}

std::string text_at(double share, double y, std::string_view anchor, const std::string& text) {
  return fmt::format(R"(<text x="{:.2f}%" y="{:.0f}" text-anchor="{}">{}</text>)", share * 100, y, anchor,
                     escape(text));
}

std::string line_at(double y) {
  return fmt::format(R"(<line class="axis" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>)", y);
}

std::string figure(const std::string& label, double height, const std::string& content) {
  return fmt::format(R"(<svg role="img" aria-label="{}" height="{:.0f}">{}</svg>)", escape(label), height, content);
}

}  // namespace

std::string escape(std::string_view text) {
  std::string result;
  for (const char character : text) {
    switch (character) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += character;
    }
  }
  return result;
}

std::string page(std::string_view title, const std::string& body) {
  return fmt::format(R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{}</title>
<style>{}</style>
</head>
<body>
{}
</body>
</html>
)",
                     escape(title), kStyle, body);
}

std::string svg(const BarChart& chart) {
  constexpr double kTop = 8, kHeight = 220;
  const double decades = -std::log10(chart.low);
  const auto height_of = [&](double value) {
    if (!(value > 0)) return 0.0;
    return std::clamp(1 + std::log10(value) / decades, 0.0, 1.0) * kHeight;
  };
  std::string content, scale;
  for (int decade = 0; decade <= std::lround(decades); decade += 2) {
    const double y = kTop + kHeight * decade / decades;
    content += line_at(y);
    if (decade < std::lround(decades))
      scale += text_at(0, y + 13, "start", fmt::format("{:g} %", 100 * std::pow(10.0, -decade)));
  }
  const double width = 1.0 / std::max<double>(1, static_cast<double>(chart.total.size()));
  for (size_t i = 0; i < chart.total.size(); ++i) {
    const double left = static_cast<double>(i) * width;
    const double total = height_of(chart.total[i]);
    content += rectangle("total", left, width * 0.85, kTop + kHeight - total, total, chart.tooltips[i]);
    if (chart.own.empty()) continue;
    const double own = std::min(height_of(chart.own[i]), kHeight);
    content += rectangle("own", left, width * 0.85, kTop + kHeight - own, own, chart.tooltips[i]);
  }
  content += scale + text_at(0, kTop + kHeight + 18, "start", "first layer") +
             text_at(1, kTop + kHeight + 18, "end", "last layer");
  return figure(chart.label, kTop + kHeight + 24, content);
}

std::string svg(const HistogramChart& chart) {
  constexpr double kTop = 4, kHeight = 84;
  const Histogram& histogram = chart.histogram;
  std::vector<int64_t> counts = {histogram.below};
  counts.insert(counts.end(), histogram.counts.begin(), histogram.counts.end());
  counts.push_back(histogram.above);
  const double width = 1.0 / static_cast<double>(counts.size());
  const double step = (histogram.high - histogram.low) / static_cast<double>(histogram.counts.size());
  // Where a value stands in the drawing, one interval in from the left.
  const auto place = [&](double value) { return width * (1 + (value - histogram.low) / step); };
  const double most =
      std::log1p(static_cast<double>(std::max<int64_t>(1, *std::max_element(counts.begin(), counts.end()))));
  std::string content =
      rectangle("range", place(chart.range_low), place(chart.range_high) - place(chart.range_low), kTop, kHeight);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const double middle = histogram.low + (static_cast<double>(i) - 0.5) * step;
    const double height = kHeight * std::log1p(static_cast<double>(counts[i])) / most;
    content += rectangle(middle < chart.range_low || middle > chart.range_high ? "warn" : "own",
                         static_cast<double>(i) * width, width * 0.9, kTop + kHeight - height, height,
                         fmt::format("{} values", counts[i]));
  }
  content += line_at(kTop + kHeight);
  content += text_at(place(chart.range_low), kTop + kHeight + 15, "middle", chart.low_text) +
             text_at((place(chart.range_low) + place(chart.range_high)) / 2, kTop + kHeight + 15, "middle",
                     chart.middle_text) +
             text_at(place(chart.range_high), kTop + kHeight + 15, "middle", chart.high_text);
  return figure(chart.label, kTop + kHeight + 22, content);
}

}  // namespace espq::html
