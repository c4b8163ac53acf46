#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/analysis/compare.h"

// Pieces of self-contained pages: text, tables and inline SVG, nothing loaded from anywhere.
namespace espq::html {

/// For text and attribute values: names come from files.
std::string escape(std::string_view text);

/// A page with the project's style sheet (light and dark, narrow and wide screens). `body` is HTML.
std::string page(std::string_view title, const std::string& body);

/// Bars side by side over the width of the page, heights on a logarithmic scale from `low` to 1: a light bar for
/// `total`, a dark one in front of it for `own` (may be empty). Every bar has a tooltip.
struct BarChart {
  std::string label;  ///< what a screen reader says
  std::vector<double> total, own;
  std::vector<std::string> tooltips;
  double low = 1e-6;
};
std::string svg(const BarChart& chart);

/// A histogram with what lies outside as first and last bar. Intervals outside [range_low, range_high] are drawn in the
/// colour of warnings.
struct HistogramChart {
  std::string label;
  const Histogram& histogram;
  double range_low, range_high;
  std::string low_text, middle_text, high_text;  ///< below the axis, at the range's ends and its middle
};
std::string svg(const HistogramChart& chart);

}  // namespace espq::html
