#pragma once
#include <compare>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/dataset.h"
#include "core/graph/graph.h"
#include "core/quant/target.h"
#include "core/support/enum_names.h"
#include "passes/report.h"

namespace espq {

/// From where factors come.
enum class EqualizeRule {
  Shares,      ///< shares of the ranges that a channel meets
  Magnitudes,  ///< largest weights of a channel alone, whatever grids they meet: esp-ppq 1.3.12
};

template <>
struct EnumNames<EqualizeRule> {
  static const std::vector<std::pair<EqualizeRule, std::string_view>> values;
};

struct EqualizeOptions {
  EqualizeRule rule = EqualizeRule::Shares;
  /// Magnitudes: channels whose largest weights in front and behind are smaller together keep their factor.
  double value_threshold = 0.5;
  int64_t iterations = 100;  ///< over the network, at most; it ends where no factor changes by more than a thousandth
  /// Ranges of activations count beside those of weights. On chips with an exponent per row of the weights, activations
  /// are all that there is to gain.
  bool activations = true;
  /// On such chips too: rows of the weights in front count as if they had one exponent, which keeps rows of one size.
  bool rows = false;
  int64_t batches = 8;  ///< of the calibration data, to see activations and to compare the network before and after
  /// Share of the bound of a Clip up to which a channel may be enlarged. Channels that come closer to the bound by
  /// themselves keep their size: the Clip has to do to them what it did.
  double clip_share = 0.8;
  /// Channels that meet a Clip from 0 to a bound get a common factor, such that the bound is the largest number of the
  /// grid: saturation then does the work of the Clip, and all codes are used.
  bool clip_to_grid = true;
  double largest_factor = 1024;  ///< of one channel, and the inverse of the smallest
  double strength = 1;           ///< factors to this power, 0 to 1

  auto operator<=>(const EqualizeOptions&) const = default;
};

template <class Fields>
void describe(Fields& fields, EqualizeOptions& options) {
  fields("rule", options.rule);
  fields("value_threshold", options.value_threshold);
  fields("iterations", options.iterations);
  fields("activations", options.activations);
  fields("rows", options.rows);
  fields("batches", options.batches);
  fields("clip_share", options.clip_share);
  fields("clip_to_grid", options.clip_to_grid);
  fields("largest_factor", options.largest_factor);
  fields("strength", options.strength);
}

/// Cross-layer equalization: gives the channels between two layers factors under which each of them uses its share of
/// the grids that it meets. For every class of channels (channel_map.h) the factor is sqrt(d / u): u is the largest
/// share that the channel has of the range of an activation or, where weights have one exponent, of the weights in
/// front; d the largest share of the weights behind. Rows and biases in front are multiplied, columns behind divided;
/// no operation is added. (Nagel et al. 2019, arXiv 1906.04721, with the channel map in place of pairs of layers.)
/// Takes the float graph that will be quantized. Where the float outputs on the data differ afterwards by more than
/// float rounding, channels that meet a Clip are left alone; where they still do, everything is.
/// Throws UserError on options out of range.
PassReport equalize(Graph& graph, const Dataset& data, const Target& target, const EqualizeOptions& options = {});

/// The same on copies of one network in several ways: its channels are looked at once.
class Equalization {
 public:
  /// `options.batches` batches are looked at. The graph must outlive this.
  Equalization(const Graph& graph, const Dataset& data, const EqualizeOptions& options = {});
  ~Equalization();

  /// As equalize() does to `copy`, a clone of the graph.
  PassReport apply(Graph& copy, const Target& target, const EqualizeOptions& options);

 private:
  struct Seen;
  std::unique_ptr<Seen> seen_;
};

}  // namespace espq
