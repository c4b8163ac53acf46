// Conv: what the chip library reads otherwise than ONNX means it.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/graph/edit.h"
#include "core/ops/window_limits.h"
#include "passes/legalize/rewriter.h"

namespace espq {
namespace {

/// Padding resolved from auto_pad; nullopt when the filter is not known.
std::optional<Window> window_of(Rewriter& rewriter) {
  const Variable* filters = rewriter.origin().input(1);
  if (!filters || !filters->shape() || filters->shape()->size() < 3) return std::nullopt;
  const Shape& shape = *filters->shape();
  return read_window(rewriter.origin(), rewriter.shape(0), {shape.begin() + 2, shape.end()});
}

/// The library cuts the filter at the borders, which goes wrong where nothing is left of it. It reads no auto_pad.
std::string separate_padding(Rewriter& rewriter) {
  Operation& conv = rewriter.origin();
  auto window = window_of(rewriter);
  if (!window || !window->padded()) return {};
  const bool stays = convolves_padded(*window, rewriter.shape(0));
  if (stays && conv.string_attribute("auto_pad", "NOTSET") == "NOTSET") return {};
  if (!stays) pad_in_front(rewriter, *window);
  conv.set_attribute("pads", window->pads());
  conv.set_attribute("auto_pad", std::string("NOTSET"));
  return stays ? "padding of Conv stated" : "padding of Conv became Pad";
}

/// Depthwise with several results per channel: every channel is read as often.
std::string repeat_channels(Rewriter& rewriter, int64_t channels, int64_t results) {
  std::vector<int64_t> indices(results);
  for (int64_t i = 0; i < results; ++i) indices[i] = i * channels / results;
  Operation& conv = rewriter.origin();
  rewriter.graph().set_input(conv, 0, &rewriter.pick(*conv.input(0), 1, indices, "channels"));
  conv.set_attribute("group", results);
  return "channels of depthwise Conv repeated";
}

/// One group, with zeros where a result does not see a channel.
std::string widen(Rewriter& rewriter, const at::Tensor& filters, int64_t groups) {
  const int64_t columns = filters.size(1), rows = filters.size(0) / groups;
  Shape shape = filters.sizes().vec();
  shape[1] *= groups;
  at::Tensor wide = at::zeros(shape, filters.options());
  for (int64_t g = 0; g < groups; ++g)
    wide.narrow(0, g * rows, rows).narrow(1, g * columns, columns).copy_(filters.narrow(0, g * rows, rows));
  Operation& conv = rewriter.origin();
  set_constant(rewriter.graph(), conv, 1, wide, conv.name() + "_weight");
  conv.set_attribute("group", int64_t{1});
  return "groups of Conv became one";
}

/// One convolution per group.
std::string split(Rewriter& rewriter, const at::Tensor& filters, int64_t groups) {
  Operation& conv = rewriter.origin();
  const int64_t columns = filters.size(1), rows = filters.size(0) / groups;
  const Variable* bias = conv.input(2);
  AttributeMap attributes = conv.attributes();
  attributes["group"] = int64_t{1};
  std::vector<Variable*> parts;
  for (int64_t g = 0; g < groups; ++g) {
    const std::vector<int64_t> starts{g * columns}, ends{(g + 1) * columns}, axes{1};
    const std::string part = fmt::format("group{}", g);
    Variable& channels =
        rewriter.add("Slice", part + "_channels",
                     {conv.input(0), &rewriter.constant(part + "_start", starts),
                      &rewriter.constant(part + "_end", ends), &rewriter.constant(part + "_axis", axes)});
    std::vector<Variable*> operands{&channels, &rewriter.constant(part + "_weight", filters.narrow(0, g * rows, rows))};
    if (bias) operands.push_back(&rewriter.constant(part + "_bias", bias->value().narrow(0, g * rows, rows)));
    parts.push_back(&rewriter.add("Conv", part, operands, attributes));
  }
  rewriter.become("Concat", parts, {{"axis", int64_t{1}}});
  return "Conv split into its groups";
}

std::string join_groups(Rewriter& rewriter) {
  Operation& conv = rewriter.origin();
  const int64_t groups = conv.int_attribute("group", 1);
  const Variable* weight = conv.input(1);
  if (groups <= 1 || !weight || !weight->is_parameter() || (conv.input(2) && !conv.input(2)->is_parameter())) return {};
  const at::Tensor& filters = weight->value();
  const int64_t results = filters.size(0), channels = filters.size(1) * groups;
  if (channels == groups) return results == groups ? "" : repeat_channels(rewriter, channels, results);
  return filters.numel() * groups <= rewriter.options().max_widened_weights ? widen(rewriter, filters, groups)
                                                                            : split(rewriter, filters, groups);
}

/// Several samples, each channel with a factor and an offset of its own (a BatchNormalization that stands alone).
std::string scale_channels(Rewriter& rewriter) {
  Operation& conv = rewriter.origin();
  const Variable* weight = conv.input(1);
  const Variable* bias = conv.input(2);
  const Shape shape = rewriter.shape(0);
  if (shape[0] == 1 || !weight || !weight->is_parameter() || (bias && !bias->is_parameter())) return {};
  const auto window = window_of(rewriter);
  const bool single = window && !window->padded() && conv.int_attribute("group", 1) == shape[1] &&
                      weight->value().numel() == shape[1] &&
                      std::all_of(window->strides.begin(), window->strides.end(), [](int64_t s) { return s == 1; });
  if (!single) return {};
  Shape channels(shape.size() - 1, 1);
  channels[0] = shape[1];
  Variable& factors = rewriter.constant("factors", weight->value().reshape(channels));
  Variable* offsets = bias ? &rewriter.constant("offsets", bias->value().reshape(channels)) : nullptr;
  rewriter.become("Mul", {conv.input(0), &factors});
  if (offsets) rewriter.after("Add", "offset", {offsets});
  return offsets ? "depthwise Conv of single elements became Mul and Add"
                 : "depthwise Conv of single elements became Mul";
}

/// A list with one entry per axis of a window becomes one of a plane whose rows are no part of it.
void add_row_axis(Operation& conv, const char* key, int64_t value, bool pads = false) {
  if (!conv.has(key)) return;
  Shape list = conv.ints_attribute(key);
  list.insert(list.begin(), value);
  if (pads) list.insert(list.begin() + 2, value);
  conv.set_attribute(key, list);
}

/// Sequences side by side ([N, C, W]) are the rows of one picture, [1, C, N, W].
std::string stack_sequences(Rewriter& rewriter) {
  Operation& conv = rewriter.origin();
  const Shape shape = rewriter.shape(0);
  const Variable* weight = conv.input(1);
  const auto result = conv.output()->shape();
  if (shape.size() != 3 || shape[0] == 1 || !weight || !weight->is_parameter() || !result) return {};
  const auto window = window_of(rewriter);
  conv.set_attribute("pads", window->pads());
  conv.set_attribute("auto_pad", std::string("NOTSET"));
  rewriter.before(0, "Transpose", "turned", {}, {{"perm", Shape{1, 0, 2}}});
  const Shape picture{1, shape[1], shape[0], shape[2]}, turned{result->at(1), result->at(0), result->at(2)};
  rewriter.before(0, "Reshape", "picture", {&rewriter.constant("picture_shape", picture)});
  set_constant(rewriter.graph(), conv, 1, weight->value().unsqueeze(2), conv.name() + "_weight");
  for (const char* key : {"kernel_shape", "strides", "dilations"}) add_row_axis(conv, key, 1);
  add_row_axis(conv, "pads", 0, /*pads=*/true);
  rewriter.after("Transpose", "turned_back", {}, {{"perm", Shape{1, 0, 2}}});
  rewriter.after("Reshape", "sequences", {&rewriter.constant("sequences_shape", turned)});
  return "sequences of Conv became one picture";
}

/// Samples ([N, C, H, W]) are bands of one picture, [1, C, N * band, W]. A band holds the padding of its sample and as
/// many steps of the window as it has rows, so that no window sees two samples and every band begins with one.
std::string stack_samples(Rewriter& rewriter) {
  Operation& conv = rewriter.origin();
  const Shape shape = rewriter.shape(0);
  const auto result = conv.output()->shape();
  if (shape.size() != 4 || shape[0] == 1 || !result) return {};
  auto window = window_of(rewriter);
  if (!window) return {};
  const int64_t stride = window->strides[0], samples = shape[0], kept = result->at(2);
  const int64_t above = window->begin[0], used = std::max(above + shape[2], (kept - 1) * stride + window->reach(0));
  const int64_t steps = (used + stride - 1) / stride, band = steps * stride;
  if (band != shape[2]) {
    const std::vector<int64_t> pads{0, 0, above, 0, 0, 0, band - above - shape[2], 0};
    rewriter.before(0, "Pad", "bands", {&rewriter.constant("band_pads", pads)}, {{"mode", std::string("constant")}});
  }
  const Shape swapped{1, 0, 2, 3}, picture{1, shape[1], samples * band, shape[3]};
  rewriter.before(0, "Transpose", "turned", {}, {{"perm", swapped}});
  rewriter.before(0, "Reshape", "picture", {&rewriter.constant("picture_shape", picture)});
  window->begin[0] = 0;
  window->end[0] = std::max<int64_t>(0, window->reach(0) - stride);
  conv.set_attribute("pads", window->pads());
  conv.set_attribute("auto_pad", std::string("NOTSET"));
  if (steps != kept) {
    const auto number = [&](std::string_view part, int64_t value) {
      return &rewriter.constant(part, std::vector<int64_t>{value});
    };
    rewriter.after("Slice", "rows", {number("rows_start", 0), number("rows_end", kept), number("rows_axis", 2)});
  }
  const Shape turned{result->at(1), samples, steps, result->at(3)};
  rewriter.after("Transpose", "turned_back", {}, {{"perm", swapped}});
  rewriter.after("Reshape", "samples", {&rewriter.constant("samples_shape", turned)});
  return "samples of Conv became one picture";
}

}  // namespace

std::vector<RewriteRule> convolution_rewrites() {
  return {{"Conv", separate_padding},
          {"Conv", join_groups},
          {"Conv", scale_channels},
          {"Conv", stack_sequences},
          {"Conv", stack_samples}};
}

}  // namespace espq
