// Nodes that multiply by weights.
#include "tests/random_networks/operators.h"

namespace espq::random_networks {
namespace {

using test::integer;
using test::integers;
using test::real;
using test::reals;
using test::text;

/// The window of a convolution over `axes` axes of the sizes given.
struct Window {
  std::vector<int64_t> kernel, strides, dilations, pads;
  std::string auto_pad;

  bool fits(const std::vector<int64_t>& size) const {
    for (size_t i = 0; i < size.size(); ++i) {
      const int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
      if (auto_pad.starts_with("SAME") ? size[i] < 1 : size[i] + pads[i] + pads[i + size.size()] < reach) return false;
    }
    return true;
  }
};

Window draw_window(Drawing& d, const std::vector<int64_t>& size) {
  Random& random = d.random;
  for (int attempt = 0; attempt < 20; ++attempt) {
    Window window;
    const bool dilated = random.chance(0.25), strided = random.chance(0.4), padded = random.chance(0.6);
    window.pads.resize(2 * size.size());
    const bool wide_pads = random.chance(0.1);
    for (size_t i = 0; i < size.size(); ++i) {
      window.kernel.push_back(random.pick<int64_t>({1, 2, 3, 3, 3, 4, 5}));
      window.strides.push_back(strided ? random.integer(1, 3) : 1);
      window.dilations.push_back(dilated ? random.integer(1, 3) : 1);
      const int64_t most = window.kernel[i] - 1 + (wide_pads ? 2 : 0);
      if (padded) window.pads[i] = random.integer(0, most), window.pads[i + size.size()] = random.integer(0, most);
    }
    if (random.chance(0.25)) window.auto_pad = random.pick<std::string>({"SAME_UPPER", "SAME_LOWER", "VALID"});
    if (!window.auto_pad.empty()) window.pads.assign(2 * size.size(), 0);
    if (window.fits(size)) return window;
  }
  const std::vector<int64_t> ones(size.size(), 1);
  return {ones, ones, ones, std::vector<int64_t>(2 * size.size(), 0), ""};
}

Attributes window_attributes(Drawing& d, const Window& window, int64_t group) {
  Attributes attributes;
  const auto differs = [](const std::vector<int64_t>& values, int64_t usual) {
    return std::any_of(values.begin(), values.end(), [&](int64_t value) { return value != usual; });
  };
  if (d.random.chance(0.8)) attributes.push_back(integers("kernel_shape", window.kernel));
  if (differs(window.strides, 1) || d.random.chance(0.5)) attributes.push_back(integers("strides", window.strides));
  if (differs(window.dilations, 1)) attributes.push_back(integers("dilations", window.dilations));
  if (differs(window.pads, 0)) attributes.push_back(integers("pads", window.pads));
  if (!window.auto_pad.empty()) attributes.push_back(text("auto_pad", window.auto_pad));
  if (group != 1) attributes.push_back(integer("group", group));
  return attributes;
}

int64_t draw_group(Drawing& d, int64_t channels) {
  if (d.random.chance(0.55)) return 1;
  if (d.random.chance(0.45)) return channels;
  std::vector<int64_t> divisors;
  for (int64_t i = 1; i <= channels; ++i)
    if (channels % i == 0) divisors.push_back(i);
  return d.random.pick(divisors);
}

bool draw_conv(Drawing& d, std::string_view) {
  const auto x = d.operand(d.random.chance(0.04) ? std::vector<int64_t>{5} : std::vector<int64_t>{3, 4, 4, 4});
  if (!x) return false;
  const std::vector<int64_t> size(x->shape.begin() + 2, x->shape.end());
  const int64_t channels = x->shape[1], group = draw_group(d, channels);
  const int64_t filters = group * d.random.integer(1, std::max<int64_t>(1, (group == 1 ? 24 : 16) / group));
  const Window window = draw_window(d, size);
  Shape shape{filters, channels / group};
  shape.insert(shape.end(), window.kernel.begin(), window.kernel.end());
  std::vector<std::string> inputs{x->name, d.constant(d.weights(shape, c10::multiply_integers(shape) / filters))};
  if (d.random.chance(0.7)) inputs.push_back(d.constant(d.random.normal({filters}, 0.5)));
  d.node("Conv", inputs, window_attributes(d, window, group));
  return true;
}

bool draw_conv_transpose(Drawing& d, std::string_view) {
  const auto x = d.operand({3, 4, 4, 4});
  if (!x) return false;
  const size_t axes = x->shape.size() - 2;
  const int64_t channels = x->shape[1], group = draw_group(d, channels),
                filters = d.random.integer(1, group == 1 ? 12 : 2);
  Window window{{}, {}, {}, std::vector<int64_t>(2 * axes), ""};
  std::vector<int64_t> extra(axes);
  for (size_t i = 0; i < axes; ++i) {
    window.kernel.push_back(d.random.integer(1, 4));
    window.strides.push_back(d.random.integer(1, 3));
    window.dilations.push_back(d.random.chance(0.15) ? 2 : 1);
    const int64_t reach = (window.kernel[i] - 1) * window.dilations[i];
    window.pads[i] = d.random.integer(0, reach / 2);
    window.pads[i + axes] = d.random.integer(0, reach / 2);
    if (d.random.chance(0.3)) extra[i] = d.random.integer(0, window.strides[i] - 1);
  }
  // Peers do not agree on what SAME means where the window is smaller than the stride.
  bool overlaps = true;
  for (size_t i = 0; i < axes; ++i)
    overlaps = overlaps && (window.kernel[i] - 1) * window.dilations[i] + 1 >= window.strides[i];
  if (overlaps && d.random.chance(0.15)) {
    window.auto_pad = d.random.pick<std::string>({"SAME_UPPER", "SAME_LOWER", "VALID"});
    window.pads.assign(2 * axes, 0);
  }
  Shape shape{channels, filters};
  shape.insert(shape.end(), window.kernel.begin(), window.kernel.end());
  std::vector<std::string> inputs{x->name, d.constant(d.weights(shape, channels / group * window.kernel[0]))};
  if (d.random.chance(0.6)) inputs.push_back(d.constant(d.random.normal({filters * group}, 0.5)));
  Attributes attributes = window_attributes(d, window, group);
  if (std::any_of(extra.begin(), extra.end(), [](int64_t value) { return value != 0; }))
    attributes.push_back(integers("output_padding", extra));
  d.node("ConvTranspose", inputs, attributes);
  return true;
}

bool draw_gemm(Drawing& d, std::string_view) {
  const auto x = d.operand({2});
  if (!x) return false;
  Random& random = d.random;
  const bool turned = random.chance(0.15), across = random.chance(0.5);
  const int64_t rows = x->shape[turned ? 1 : 0], depth = x->shape[turned ? 0 : 1], columns = random.integer(1, 20);
  const Shape shape = across ? Shape{columns, depth} : Shape{depth, columns};
  std::vector<std::string> inputs{x->name,
                                  random.chance(0.9) ? d.constant(d.weights(shape, depth)) : d.graph_input(shape).name};
  if (random.chance(0.8)) {
    const Shape bias = random.pick<Shape>(
        {{columns}, {columns}, {columns}, {1, columns}, {rows, columns}, {rows, 1}, {1}, {}, {1, 1}});
    inputs.push_back(random.chance(0.93) ? d.constant(random.normal(bias, 0.5)) : d.graph_input(bias).name);
  }
  Attributes attributes;
  if (turned) attributes.push_back(integer("transA", 1));
  if (across) attributes.push_back(integer("transB", 1));
  if (random.chance(0.25)) attributes.push_back(real("alpha", random.pick({0.5f, 2.0f, 0.3f, -1.0f})));
  if (random.chance(0.25)) attributes.push_back(real("beta", random.pick({0.5f, 2.0f, 0.3f, -1.0f, 0.0f})));
  d.node("Gemm", inputs, attributes);
  return true;
}

bool draw_matmul(Drawing& d, std::string_view) {
  const auto x = d.operand({1, 2, 2, 3, 3, 4});
  if (!x) return false;
  Random& random = d.random;
  const bool left = random.chance(0.2) && x->rank() > 1;  // x is the second operand
  const int64_t depth = left ? x->shape[x->shape.size() - 2] : x->shape.back(), other = random.integer(1, 17);
  Shape shape;
  const int64_t rank = random.pick<int64_t>({1, 2, 2, 2, x->rank(), x->rank(), 3});
  if (rank > 2)
    for (int64_t i = 0; i < rank - 2; ++i) {
      const int64_t place = i - (rank - 2) + x->rank() - 2;
      shape.push_back(place >= 0 && random.chance(0.7) ? x->shape[static_cast<size_t>(place)] : place < 0 ? 2 : 1);
    }
  if (rank == 1)
    shape = {depth};
  else if (left)
    shape.insert(shape.end(), {other, depth});
  else
    shape.insert(shape.end(), {depth, other});
  const std::string second = random.chance(0.75) ? d.constant(d.weights(shape, depth)) : d.graph_input(shape).name;
  d.node("MatMul", left ? std::vector<std::string>{second, x->name} : std::vector<std::string>{x->name, second});
  return true;
}

bool draw_recurrent(Drawing& d, std::string_view type) {
  Random& random = d.random;
  std::optional<Value> x = d.operand({3});
  if (!x) return false;
  const bool lstm = type == "LSTM", plain = type == "RNN";
  const std::string direction = random.pick<std::string>({"forward", "forward", "forward", "reverse", "bidirectional"});
  const int64_t gates = lstm ? 4 : plain ? 1 : 3, ways = direction == "bidirectional" ? 2 : 1;
  const int64_t hidden = random.integer(1, 12), inputs_size = x->shape[2];
  const bool batch_first = random.chance(0.04);
  const int64_t time = x->shape[batch_first ? 1 : 0], batch = x->shape[batch_first ? 0 : 1];
  std::vector<std::string> inputs{x->name,
                                  d.constant(random.normal({ways, gates * hidden, inputs_size}, 0.4)),
                                  d.constant(random.normal({ways, gates * hidden, hidden}, 0.4)),
                                  "",
                                  "",
                                  "",
                                  ""};
  const Shape state = batch_first ? Shape{batch, ways, hidden} : Shape{ways, batch, hidden};
  if (random.chance(0.8)) inputs[3] = d.constant(random.normal({ways, 2 * gates * hidden}, 0.3));
  if (random.chance(0.03)) inputs[4] = d.constant(at::full({batch}, random.integer(1, time), at::kInt));
  if (random.chance(0.3)) inputs[5] = d.constant(random.uniform(state, -0.5, 0.5));
  if (lstm && random.chance(0.25)) inputs[6] = d.constant(random.uniform(state, -0.5, 0.5));
  if (lstm && random.chance(0.03)) inputs.push_back(d.constant(random.normal({ways, 3 * hidden}, 0.3)));
  Attributes attributes{integer("hidden_size", hidden)};
  if (direction != "forward") attributes.push_back(text("direction", direction));
  if (batch_first) attributes.push_back(integer("layout", 1));
  if (type == "GRU" && random.chance(0.6)) attributes.push_back(integer("linear_before_reset", 1));
  if (lstm && random.chance(0.03)) attributes.push_back(integer("input_forget", 1));
  if (random.chance(0.03)) attributes.push_back(real("clip", 3));
  std::vector<bool> wanted(lstm ? 3 : 2);
  wanted[static_cast<size_t>(random.integer(0, static_cast<int64_t>(wanted.size()) - 1))] = true;
  if (random.chance(0.3)) wanted[0] = true;
  d.node_with(std::string(type), inputs, attributes, wanted);
  return true;
}

bool draw_einsum(Drawing& d, std::string_view) {
  const auto x = d.operand({3});
  if (!x) return false;
  const int64_t depth = x->shape[2], columns = d.random.integer(1, 8);
  d.node("Einsum", {x->name, d.constant(d.weights({depth, columns}, depth))}, {text("equation", "bij,jk->bik")});
  return true;
}

}  // namespace

std::vector<NodeDrawer> layer_drawers() {
  return {{"Conv", draw_conv, 24},    {"ConvTranspose", draw_conv_transpose, 8},
          {"Gemm", draw_gemm, 14},    {"MatMul", draw_matmul, 14},
          {"GRU", draw_recurrent, 6}, {"LSTM", draw_recurrent, 6},
          {"RNN", draw_recurrent, 1}, {"Einsum", draw_einsum, 1}};
}

}  // namespace espq::random_networks
