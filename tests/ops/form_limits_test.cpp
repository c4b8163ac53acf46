// What chip library 3.3.9 makes of the forms of its operators: for every limit the nearest form that runs, and one that
// does not. The truth is in the library's modules (dl_module_*.hpp and dl/base), whose names the table gives.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "core/ops/operator.h"
#include "core/quant/target.h"

namespace espq {

using Integers = std::vector<int64_t>;

/// One operation on graph inputs and constants.
struct Form {
  std::string type;
  Shape input;
  std::vector<at::Tensor> operands = {};  ///< from slot 1 on: constants; undefined = omitted
  AttributeMap attributes = {};
  Shape output = {};
  Width width = Width::Int8;
  const char* target = "esp32p4";
  size_t outputs = 1;
  std::set<size_t> computed = {};  ///< slots whose operand is a graph input
  Shape second_input = {};         ///< of slot 1, computed

  std::optional<Refusal> refusal() const {
    Graph graph;
    const auto input_of = [&](const std::string& name, const Shape& shape) {
      Variable& value = graph.add_variable(name);
      value.set_shape(shape);
      return &value;
    };
    std::vector<Variable*> inputs{input_of("x", input)};
    if (!second_input.empty()) inputs.push_back(input_of("x1", second_input));
    for (const at::Tensor& operand : operands) {
      const std::string name = "c" + std::to_string(inputs.size());
      if (!operand.defined()) {
        inputs.push_back(nullptr);
      } else if (computed.contains(inputs.size())) {
        inputs.push_back(input_of(name, operand.sizes().vec()));
      } else {
        inputs.push_back(&graph.add_parameter(name, operand));
      }
    }
    std::vector<Variable*> results;
    for (size_t i = 0; i < outputs; ++i) results.push_back(&graph.add_variable("y" + std::to_string(i)));
    if (!output.empty()) results[0]->set_shape(output);
    Operation& operation = graph.add_operation(type, "op", inputs, results, attributes);
    normalize_attributes(operation);
    return refuses(operation, {find_target(target), RuntimeLevel::V3_3_9}, width);
  }
};

namespace {

struct Case {
  std::string_view says;  ///< part of the reason
  Form asks, runs;
};

at::Tensor list(const Integers& values) { return at::tensor(values, at::kLong); }
at::Tensor filter(const Shape& shape) { return at::ones(shape); }
Attribute number(int64_t value) { return value; }
Attribute numbers(Integers values) { return values; }
Attribute word(const char* value) { return std::string(value); }

/// dl_module_conv.hpp, and the zones at the borders in conv_operation_shell of dl_base.hpp.
std::vector<Case> convolutions() {
  const auto conv = [](const Shape& input, const Shape& weight, AttributeMap attributes = {}) {
    return Form{.type = "Conv", .input = input, .operands = {filter(weight)}, .attributes = std::move(attributes)};
  };
  const auto padded = [&](int64_t length, int64_t kernel, Integers pads, int64_t stride, int64_t dilation = 1) {
    return conv(
        {1, 4, length}, {6, 4, kernel},
        {{"pads", numbers(std::move(pads))}, {"strides", numbers({stride})}, {"dilations", numbers({dilation})}});
  };
  const auto automatic = [&](const char* mode, int64_t kernel) {
    return conv({1, 4, 6}, {6, 4, kernel}, {{"auto_pad", word(mode)}});
  };
  const auto same = [](Form form, size_t computed) {
    form.operands.resize(2, at::ones({6}));
    if (computed) form.computed = {computed};
    return form;
  };
  return {
      {"spatial axes", conv({1, 4, 5, 5, 5}, {6, 4, 3, 3, 3}), conv({1, 4, 5, 5}, {6, 4, 3, 3})},
      {"groups", conv({1, 4, 5}, {4, 2, 3}, {{"group", number(2)}}),
       conv({1, 4, 5}, {4, 1, 3}, {{"group", number(4)}})},
      {"groups", conv({1, 4, 5}, {8, 1, 3}, {{"group", number(4)}}), conv({1, 4, 5}, {8, 4, 3})},
      {"sample", conv({2, 4, 5}, {6, 4, 3}), conv({1, 4, 5}, {6, 4, 3})},
      {"a filter or a bias", same(conv({1, 4, 5}, {6, 4, 3}), 1), same(conv({1, 4, 5}, {6, 4, 3}), 0)},
      {"a filter or a bias", same(conv({1, 4, 5}, {6, 4, 3}), 2), same(conv({1, 4, 5}, {6, 4, 3}), 0)},
      {"auto_pad", automatic("SAME_UPPER", 3), automatic("SAME_UPPER", 1)},
      {"auto_pad", automatic("SAME_LOWER", 2), automatic("VALID", 2)},
      {"negative pads", padded(8, 3, {-1, 0}, 1), padded(8, 3, {1, 0}, 1)},
      {"no element", padded(8, 1, {1, 1}, 1), padded(8, 1, {0, 0}, 1)},
      {"no element", padded(8, 3, {3, 0}, 1), padded(8, 3, {2, 2}, 1)},
      {"no element", padded(8, 3, {0, 3}, 1), padded(8, 3, {0, 3}, 3)},        // the last window is not reached
      {"no element", padded(1, 3, {3, 3}, 1, 2), padded(2, 3, {3, 3}, 1, 2)},  // taps that jump over the input
      {"shorter than the window", padded(2, 3, {0, 1}, 2), padded(2, 3, {0, 1}, 1)},
      {"shorter than the window", padded(3, 2, {0, 2}, 4, 4), padded(3, 2, {2, 0}, 4, 4)},
      {"shorter than the window", padded(2, 3, {0, 2}, 2), padded(2, 3, {2, 0}, 2)},
  };
}

/// dl_module_average_pool.hpp, dl_module_max_pool.hpp and the zones in dl_base_pool2d.hpp.
std::vector<Case> pools() {
  const auto pool = [](const char* type, int64_t length, int64_t kernel, Integers pads, int64_t stride,
                       AttributeMap attributes = {}) {
    attributes.insert(
        {{"kernel_shape", numbers({kernel})}, {"pads", numbers(std::move(pads))}, {"strides", numbers({stride})}});
    return Form{.type = type, .input = {1, 4, length}, .attributes = std::move(attributes)};
  };
  const auto max = [&](int64_t length, int64_t kernel, Integers pads, int64_t stride, AttributeMap attributes = {}) {
    return pool("MaxPool", length, kernel, std::move(pads), stride, std::move(attributes));
  };
  const auto average = [&](int64_t length, int64_t kernel, Integers pads, int64_t stride, int64_t include) {
    return pool("AveragePool", length, kernel, std::move(pads), stride, {{"count_include_pad", number(include)}});
  };
  const AttributeMap up{{"ceil_mode", number(1)}};
  const auto with_indices = [](Form form) {
    form.outputs = 2;
    return form;
  };
  const auto batch = [](Form form, int64_t samples) {
    form.input[0] = samples;
    return form;
  };
  const Form global{.type = "GlobalAveragePool", .input = {1, 4, 5, 5}};
  const Form global_volume{.type = "GlobalAveragePool", .input = {1, 4, 5, 5, 5}};
  return {
      {"spatial axes", global_volume, global},
      {"sample", batch(global, 2), global},
      {"sample", batch(max(6, 2, {0, 0}, 2), 3), max(6, 2, {0, 0}, 2)},
      {"dilated", max(6, 2, {0, 0}, 1, {{"dilations", numbers({2})}}),
       max(6, 1, {0, 0}, 1, {{"dilations", numbers({2})}})},
      {"ceil_mode", max(5, 2, {0, 0}, 2, up), max(6, 2, {0, 0}, 2, up)},
      {"ceil_mode", max(5, 2, {0, 0}, 2, up), max(4, 1, {0, 0}, 2, up)},
      {"Indices", with_indices(max(6, 2, {0, 0}, 2)), max(6, 2, {0, 0}, 2)},
      {"auto_pad", max(6, 2, {0, 0}, 1, {{"auto_pad", word("SAME_UPPER")}}),
       max(6, 2, {0, 1}, 1, {{"auto_pad", word("SAME_UPPER")}})},
      {"negative pads", max(6, 2, {0, -1}, 1), max(6, 2, {0, 0}, 1)},
      {"no element", max(6, 2, {2, 0}, 1), max(6, 2, {1, 0}, 1)},
      {"no element", average(6, 2, {0, 2}, 1, 1), average(6, 2, {0, 1}, 1, 1)},
      {"shorter than the window", max(1, 5, {2, 2}, 1), max(2, 5, {2, 2}, 1)},  // two results in front of one
      {"shorter than the window", max(1, 2, {0, 1}, 2), max(1, 2, {1, 0}, 2)},
      {"count_include_pad", average(6, 3, {1, 1}, 1, 0), average(6, 3, {1, 1}, 1, 1)},
      {"count_include_pad", average(6, 2, {0, 1}, 1, 0), average(6, 2, {0, 1}, 2, 0)},  // the padding is not reached
  };
}

/// dl_module_gemm.hpp, dl_module_matmul.hpp.
std::vector<Case> products() {
  const auto gemm = [](const at::Tensor& bias) {
    return Form{.type = "Gemm", .input = {4, 3}, .operands = {at::ones({3, 4}), bias}, .output = {4, 4}};
  };
  const auto matmul = [](const Shape& a, const Shape& b) {
    return Form{.type = "MatMul", .input = a, .operands = {at::ones(b)}};
  };
  Form computed = gemm(at::ones({4}));
  computed.computed = {2};
  return {
      {"a C that", gemm(at::ones({1})), gemm(at::ones({4}))},
      {"a C that", gemm(at::ones({4, 1})), gemm(at::ones({1, 4}))},
      {"a C that", gemm(at::ones({4, 4})), gemm(at::Tensor())},
      {"a C that", gemm(at::ones({})), gemm(at::ones({4}))},
      {"a C that", computed, gemm(at::ones({4}))},
      {"four dimensions", matmul({1, 1, 2, 3, 4}, {4, 5}), matmul({1, 2, 3, 4}, {4, 5})},
      {"four dimensions", matmul({1, 1, 2, 3, 4}, {4, 5}), matmul({1, 2, 4}, {4})},
  };
}

/// dl_module_concat.hpp, dl_module_split.hpp, dl_module_slice.hpp with get_slice_shape of dl_base_shape.cpp and slice
/// of dl_tensor_base.cpp, dl_module_gather.hpp, dl_module_reshape.hpp, dl_module_squeeze.hpp, dl_module_unsqueeze.hpp.
std::vector<Case> selections() {
  const auto split = [](int64_t size, at::Tensor sizes, AttributeMap attributes = {}, std::set<size_t> computed = {}) {
    attributes["axis"] = number(-1);
    return Form{.type = "Split",
                .input = {2, size},
                .operands = {std::move(sizes)},
                .attributes = std::move(attributes),
                .outputs = 2,
                .computed = std::move(computed)};
  };
  const auto slice = [](int64_t start, int64_t end, int64_t step, std::set<size_t> computed = {}) {
    return Form{.type = "Slice",
                .input = {2, 8},
                .operands = {list({start}), list({end}), list({-1}), list({step})},
                .computed = std::move(computed)};
  };
  const auto indexed = [](const char* type, const Integers& values, std::set<size_t> computed = {}) {
    return Form{.type = type, .input = {1, 4, 6}, .operands = {list(values)}, .computed = std::move(computed)};
  };
  const Form one{.type = "Concat", .input = {1, 2}, .attributes = {{"axis", number(1)}}};
  Form two = one;
  two.operands = {at::ones({1, 2})};
  return {
      {"single operand", one, two},
      {"sizes that", split(6, list({2, 4}), {}, {1}), split(6, list({2, 4}))},
      {"missing list", split(6, {}), split(6, list({3, 3}))},
      {"missing list", split(6, {}, {{"num_outputs", number(2)}}), split(4, {}, {{"num_outputs", number(2)}})},
      {"a range that", slice(1, 5, 1, {2}), slice(1, 5, 1)},
      {"start in front", slice(-9, 5, 1), slice(-8, 5, 1)},
      {"start in front", slice(9, INT64_MIN, -1), slice(7, INT64_MIN, -1)},
      {"start in front", slice(5, 5, 1), slice(5, 99, 1)},
      {"start in front", slice(2, 6, -1), slice(6, 2, -1)},
      {"start in front", slice(0, INT64_MAX, -1), slice(0, INT64_MAX, 2)},
      {"start in front", slice(-1, 0, 1), slice(-1, INT64_MIN, -2)},
      {"indices that", indexed("Gather", {0}, {1}), indexed("Gather", {0})},
      {"negative indices", indexed("Gather", {0, -1}), indexed("Gather", {0, 0})},
      {"a shape that", indexed("Reshape", {4, 6}, {1}), indexed("Reshape", {0, -1})},
      {"axes that", indexed("Squeeze", {0}, {1}), indexed("Squeeze", {-3})},
      {"axes that", indexed("Unsqueeze", {0}, {1}), indexed("Unsqueeze", {0})},
      {"axes that count", indexed("Unsqueeze", {0, -1}), indexed("Unsqueeze", {0, 1})},
      {"axes that count", indexed("Unsqueeze", {-2, -1}), indexed("Unsqueeze", {-1})},
  };
}

/// dl_module_pad.hpp with pad of dl_tensor_base.cpp and dl_base_pad.cpp; dl_module_depth_to_space.hpp,
/// dl_module_space_to_depth.hpp; dl_module_scatter_nd.hpp; dl_module_reverse_sequence.hpp.
std::vector<Case> rearrangements() {
  const auto pad = [](const char* mode, const Shape& input, const Integers& pads, at::Tensor axes = {},
                      std::set<size_t> computed = {}) {
    return Form{.type = "Pad",
                .input = input,
                .operands = {list(pads), at::Tensor(), std::move(axes)},
                .attributes = {{"mode", word(mode)}},
                .computed = std::move(computed)};
  };
  const auto blocks = [](const char* type, int64_t channels, int64_t block, AttributeMap attributes = {}) {
    attributes["blocksize"] = number(block);
    return Form{.type = type, .input = {1, channels, 4, 4}, .attributes = std::move(attributes)};
  };
  const AttributeMap crd{{"mode", word("CRD")}};
  const auto scatter = [](const Integers& index, const char* reduction, Width width = Width::Int8) {
    return Form{.type = "ScatterND",
                .input = {4, 3},
                .operands = {list(index).reshape({-1, 1}), at::ones({static_cast<int64_t>(index.size()), 3})},
                .attributes = {{"reduction", word(reduction)}},
                .width = width};
  };
  const auto reverse = [](int64_t batch, int64_t time) {
    return Form{.type = "ReverseSequence",
                .input = {2, 2, 2},
                .operands = {list({2, 1})},
                .attributes = {{"batch_axis", number(batch)}, {"time_axis", number(time)}}};
  };
  return {
      {"pads or a value", pad("constant", {4}, {1, 1}, {}, {1}), pad("constant", {4}, {1, 1})},
      {"mode wrap", pad("wrap", {4}, {1, 1}), pad("edge", {4}, {1, 1})},
      {"axes operand", pad("constant", {2, 4}, {1, 1}, list({1})),
       pad("constant", {2, 4}, {0, 1, 0, 1}, list({0, -1}))},
      {"axes operand", pad("constant", {2, 4}, {0, 1, 0, 1}, list({1, 0})), pad("constant", {2, 4}, {0, 1, 0, 1})},
      {"negative pads", pad("constant", {4}, {-1, 0}), pad("constant", {4}, {0, 0})},
      {"beyond the axis", pad("reflect", {4}, {4, 0}), pad("reflect", {4}, {3, 0})},
      {"outer dimensions", pad("edge", {1, 2, 2, 2, 2}, {1, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
       pad("edge", {2, 2, 2, 2, 2}, {0, 0, 0, 0, 1, 0, 0, 0, 0, 1})},
      {"outer dimensions", pad("edge", {2, 2, 2, 2, 2}, {0, 1, 0, 0, 0, 0, 0, 0, 0, 0}),
       pad("edge", {1, 2, 2, 2, 2}, {0, 1, 0, 0, 0, 0, 0, 0, 0, 0})},
      {"outer dimensions", pad("edge", {1, 1, 1, 1, 1, 2}, {0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}),
       pad("constant", {1, 1, 1, 1, 1, 2}, {0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0})},
      {"mode DCR", blocks("DepthToSpace", 12, 2), blocks("DepthToSpace", 8, 2)},
      {"mode DCR", blocks("DepthToSpace", 4, 2), blocks("DepthToSpace", 4, 2, crd)},
      {"more than one channel", blocks("SpaceToDepth", 2, 2), blocks("SpaceToDepth", 1, 2)},
      {"more than one channel", blocks("SpaceToDepth", 2, 2), blocks("SpaceToDepth", 2, 1)},
      {"more than one channel", blocks("SpaceToDepth", 2, 2), blocks("SpaceToDepth", 2, 2, crd)},
      {"negative indices", scatter({-1}, "none"), scatter({3}, "add")},
      {"reduction mul", scatter({0}, "mul"), scatter({0}, "mul", Width::Float)},
      {"first two", reverse(2, 0), reverse(0, 1)},
      {"first two", reverse(-2, 0), reverse(1, 0)},
  };
}

/// dl_module_resize.hpp with dl_base_resize.cpp and its vector kernels.
std::vector<Case> resizes() {
  struct Options {
    const char *mode = "nearest", *coordinates = "asymmetric", *rounding = "floor";
    const char* target = "c";
    int64_t channels = 16;
    bool antialias = false;
  };
  const auto scaled = [](const Options& options, const std::vector<float>& scales, const Shape& spatial,
                         Shape output = {}) {
    Shape input{1, options.channels};
    input.insert(input.end(), spatial.begin(), spatial.end());
    return Form{.type = "Resize",
                .input = input,
                .operands = {at::Tensor(), at::tensor(scales)},
                .attributes = {{"mode", word(options.mode)},
                               {"coordinate_transformation_mode", word(options.coordinates)},
                               {"nearest_mode", word(options.rounding)},
                               {"antialias", number(options.antialias)}},
                .output = std::move(output),
                .target = options.target};
  };
  const auto plane = [&](const Options& options, float scale) { return scaled(options, {1, 1, scale, scale}, {6, 6}); };
  const auto with = [](Form form, std::set<size_t> computed, int64_t samples) {
    form.computed = std::move(computed);
    form.input[0] = samples;
    return form;
  };
  const Options nearest, linear{.mode = "linear", .coordinates = "half_pixel"};
  const Options corners{.mode = "linear", .coordinates = "align_corners"};
  return {
      {"a size that", with(plane(nearest, 2), {2}, 1), plane(nearest, 2)},
      {"sample", with(plane(nearest, 2), {}, 2), plane(nearest, 2)},
      {"spatial axes", scaled(linear, {1, 1, 2, 2, 2}, {3, 3, 3}), scaled(linear, {1, 1, 2, 2}, {3, 3})},
      {"less than three", Form{.type = "Resize", .input = {1, 16}}, scaled(nearest, {1, 1, 2}, {6})},
      {"cubic", plane({.mode = "cubic", .coordinates = "half_pixel"}, 2), plane(linear, 2)},
      {"batch or channels", scaled(nearest, {1, 2, 1, 1}, {6, 6}, {1, 32, 6, 6}),
       scaled(nearest, {1, 1, 2, 2}, {6, 6}, {1, 16, 12, 12})},
      {"antialias", plane({.mode = "linear", .coordinates = "half_pixel", .antialias = true}, 0.5f),
       plane({.mode = "linear", .coordinates = "half_pixel", .antialias = true}, 2)},
      // other names for its own coordinates run
      {"coordinates", plane({.coordinates = "half_pixel", .rounding = "ceil"}, 2),
       plane({.coordinates = "half_pixel", .rounding = "round_prefer_floor"}, 2)},
      {"coordinates", plane({.coordinates = "half_pixel", .rounding = "floor"}, 3),
       plane({.coordinates = "half_pixel", .rounding = "round_prefer_floor"}, 3)},
      {"coordinates", plane({.coordinates = "asymmetric", .rounding = "ceil"}, 2), plane(nearest, 3)},
      {"coordinates", plane({.coordinates = "align_corners"}, 2), plane(nearest, 0.5f)},
      {"coordinates", plane({.mode = "linear", .coordinates = "asymmetric"}, 2), plane(corners, 2)},
      {"coordinates", plane({.mode = "linear", .coordinates = "tf_crop_and_resize"}, 2),
       plane({.mode = "linear", .coordinates = "pytorch_half_pixel"}, 2)},
      {"coordinates", scaled(corners, {1, 1, 0.2f, 1}, {6, 6}), scaled(corners, {1, 1, 0.5f, 1}, {6, 6})},
      {"less than 16 channels", plane({.target = "esp32s3", .channels = 15}, 3),
       plane({.target = "esp32s3", .channels = 16}, 3)},
      {"less than 16 channels", plane({.target = "esp32p4", .channels = 3}, 4),
       plane({.target = "esp32p4", .channels = 3}, 2)},
      {"less than 16 channels", scaled({.target = "esp32p4", .channels = 3}, {1, 1, 2}, {6}),
       scaled({.target = "c", .channels = 3}, {1, 1, 2}, {6})},
  };
}

/// dl_module_reduce_base.hpp.
std::vector<Case> reductions() {
  const auto reduce = [](const Shape& input, const Integers& axes, AttributeMap attributes = {},
                         std::set<size_t> computed = {}) {
    return Form{.type = "ReduceSum",
                .input = input,
                .operands = {axes.empty() ? at::Tensor() : list(axes)},
                .attributes = std::move(attributes),
                .computed = std::move(computed)};
  };
  const AttributeMap drop{{"keepdims", number(0)}};
  return {
      {"axes that", reduce({2, 3}, {1}, {}, {1}), reduce({2, 3}, {1})},
      {"axes as attribute", reduce({2, 3}, {}, {{"axes", numbers({1})}}),
       reduce({2, 3}, {}, {{"axes", numbers({1, 0})}})},
      {"no axis", reduce({2, 3}, {}, {{"noop_with_empty_axes", number(1)}}), reduce({2, 3}, {})},
      {"groups of neighbours", reduce({2, 2, 2, 2, 2}, {0, 2, 4}), reduce({2, 2, 2, 2, 2}, {0, 2, 3})},
      {"without axes", reduce({2, 3}, {}, drop), reduce({2, 3}, {0}, drop)},
      {"without axes", reduce({2, 3}, {0, 1}, drop), reduce({2, 3}, {0, 1})},
  };
}

/// dl_module_gru.hpp, dl_module_lstm.hpp.
std::vector<Case> cells() {
  const auto cell = [](const char* type, AttributeMap attributes, std::vector<at::Tensor> more = {},
                       Shape input = {5, 1, 3}) {
    const int64_t gates = std::string(type) == "GRU" ? 3 : 4;
    const auto direction = attributes.find("direction");
    const bool both = direction != attributes.end() && std::get<std::string>(direction->second) == "bidirectional";
    const int64_t directions = both ? 2 : 1;
    attributes.try_emplace("linear_before_reset", number(1));
    if (gates == 4) attributes.erase("linear_before_reset");
    std::vector<at::Tensor> operands{at::ones({directions, gates * 2, 3}), at::ones({directions, gates * 2, 2})};
    operands.insert(operands.end(), more.begin(), more.end());
    return Form{.type = type, .input = std::move(input), .operands = operands, .attributes = attributes};
  };
  using Words = std::vector<std::string>;
  const Attribute usual = Words{"Sigmoid", "tanh", "Sigmoid", "Tanh"}, odd = Words{"Sigmoid", "Relu"};
  const at::Tensor none;
  const auto direction = [&](const char* name) { return cell("GRU", {{"direction", word(name)}}); };
  return {
      {"direction reverse", direction("reverse"), direction("bidirectional")},
      {"sequence", cell("LSTM", {{"direction", word("forward")}}, {}, {5, 2, 3}), direction("forward")},
      {"layout", cell("GRU", {{"layout", number(1)}}, {}, {1, 5, 3}), cell("GRU", {{"layout", number(0)}})},
      {"clip", cell("GRU", {{"clip", 2.0f}}), cell("GRU", {{"clip", 0.0f}})},
      {"activations", cell("GRU", {{"activations", odd}}),
       cell("GRU", {{"activations", usual}, {"direction", word("bidirectional")}})},
      {"sequence_lens", cell("GRU", {}, {none, list({4})}), cell("GRU", {}, {none, list({5})})},
      {"linear_before_reset", cell("GRU", {{"linear_before_reset", number(0)}}), cell("GRU", {})},
      {"peepholes", cell("LSTM", {}, {none, none, none, none, at::ones({1, 6})}),
       cell("LSTM", {}, {none, none, none, none, at::zeros({1, 6})})},
      {"input_forget", cell("LSTM", {{"input_forget", number(1)}}), cell("LSTM", {{"input_forget", number(0)}})},
  };
}

/// dl_module_prelu.hpp, dl_module_clip.hpp, dl_module_swish.hpp; dl_base_elemwise.cpp; dl_module_mod.hpp;
/// dl_module_layer_normalization.hpp, dl_module_rms_normalization.hpp.
std::vector<Case> elementwise() {
  const auto sloped = [](const Shape& input, const Shape& slope, Width width = Width::Int8,
                         std::set<size_t> computed = {}) {
    return Form{.type = "PRelu",
                .input = input,
                .operands = {at::full(slope, 0.5)},
                .width = width,
                .computed = std::move(computed)};
  };
  const auto clip = [](at::Tensor low, at::Tensor high, Width width, std::set<size_t> computed = {}) {
    return Form{.type = "Clip",
                .input = {1, 4},
                .operands = {std::move(low), std::move(high)},
                .width = width,
                .computed = std::move(computed)};
  };
  const auto swish = [](float alpha, Width width) {
    return Form{.type = "Swish", .input = {1, 4}, .attributes = {{"alpha", alpha}}, .width = width};
  };
  const auto pair = [](const char* type, const Shape& a, const Shape& b, AttributeMap attributes = {}) {
    return Form{.type = type, .input = a, .operands = {at::ones(b)}, .attributes = std::move(attributes)};
  };
  const auto normalized = [](const char* type, const Shape& factors, int64_t axis, size_t outputs = 1) {
    return Form{.type = type,
                .input = {1, 2, 6},
                .operands = {at::ones(factors)},
                .attributes = {{"axis", number(axis)}},
                .outputs = outputs};
  };
  const at::Tensor zero = at::zeros({}), none;
  return {
      {"slopes that", sloped({1, 4, 5, 5}, {4, 1, 1}, Width::Int8, {1}), sloped({1, 4, 5, 5}, {4, 1, 1})},
      {"[C, 1, 1]", sloped({1, 4}, {4}), sloped({1, 4}, {1})},
      {"[C, 1, 1]", sloped({1, 4, 5}, {4, 1}), sloped({1, 4, 5}, {1, 1})},
      {"[C, 1, 1]", sloped({1, 4, 5, 5}, {1, 4, 1, 1}), sloped({1, 4, 5, 5}, {4, 1, 1}, Width::Float)},
      {"[C, 1, 1]", sloped({1, 4, 5, 5}, {4, 5, 5}), sloped({1, 4, 5, 5}, {4, 1, 1}, Width::Int16)},
      {"[C, 1, 1]", sloped({1, 4, 5, 5}, {1}, Width::Int16), sloped({1, 4, 5, 5}, {1, 1, 1}, Width::Int16)},
      {"sample", sloped({2, 4, 5, 5}, {4, 1, 1}), sloped({2, 4, 5, 5}, {4, 1, 1}, Width::Float)},
      {"sample", sloped({2, 4, 5, 5}, {4, 1, 1}, Width::Int16), sloped({2, 4}, {1})},
      {"bounds that", clip(zero, none, Width::Int8, {1}), clip(zero, none, Width::Int8)},
      {"upper bound alone", clip(none, zero, Width::Float), clip(none, zero, Width::Int16)},
      {"upper bound alone", clip(none, zero, Width::Float), clip(zero, none, Width::Float)},
      {"another alpha", swish(1.5f, Width::Float), swish(1.5f, Width::Int8)},
      {"another alpha", swish(1.5f, Width::Float), swish(1.5f, Width::Int16)},  // a table as well
      {"another alpha", swish(1.5f, Width::Float), swish(1.0f, Width::Float)},
      {"four groups", pair("Add", {2, 1, 3, 1, 2}, {2, 2, 3, 2, 2}), pair("Add", {2, 1, 3, 1, 1}, {2, 2, 3, 2, 2})},
      {"four groups", pair("Mul", {2, 1, 2, 1, 2}, {1, 2, 1, 2, 1}), pair("Mul", {2, 1, 2, 1}, {1, 2, 1, 2})},
      {"fmod", pair("Mod", {1, 4}, {4}, {{"fmod", number(0)}}), pair("Mod", {1, 4}, {4}, {{"fmod", number(1)}})},
      {"of another shape than", normalized("LayerNormalization", {1}, -1), normalized("LayerNormalization", {6}, -1)},
      {"of another shape than", normalized("RMSNormalization", {6}, 1), normalized("RMSNormalization", {2, 6}, 1)},
      {"Mean and InvStdDev", normalized("LayerNormalization", {6}, 2, 3), normalized("LayerNormalization", {6}, 2)},
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> result;
  for (const auto& family : {convolutions(), pools(), products(), selections(), rearrangements(), resizes(),
                             reductions(), cells(), elementwise()})
    result.insert(result.end(), family.begin(), family.end());
  return result;
}

std::string described(const std::optional<Refusal>& refusal) { return refusal ? refusal->why : "nothing"; }

TEST(FormLimits, RefuseWhatTheLibraryReadsOtherwiseAndNoMore) {
  int number = 0;
  for (const Case& entry : all_cases()) {
    SCOPED_TRACE(::testing::Message() << "case " << ++number << ": " << entry.asks.type << ", " << entry.says);
    const auto refusal = entry.asks.refusal();
    EXPECT_TRUE(refusal && refusal->why.find(entry.says) != std::string::npos) << "says " << described(refusal);
    EXPECT_FALSE(refusal && refusal->remedy.empty());
    EXPECT_FALSE(entry.runs.refusal()) << "says " << described(entry.runs.refusal());
  }
}

/// Limits of exponents show in chip graphs only (limits_test.cpp), as does the end of a conversion to 16 bits (below).
TEST(FormLimits, EveryLimitThatAFloatGraphKnowsIsInTheTable) {
  const std::set<std::string_view> elsewhere{"two operands without axes",
                                             "a result finer than the product of the operands' grids",
                                             "states of different exponents",
                                             "an input exponent of -16 or less at 16 bit",
                                             "8-bit logits above 88, whose maximum its table does not subtract",
                                             "int8 to int16 where more than 50 codes leave a last block of 8 of 16"};
  std::string reasons;
  for (const Case& entry : all_cases()) reasons += entry.asks.type + ": " + described(entry.asks.refusal()) + "\n";
  for (const OperatorDefinition& definition : operators().all())
    for (const Limit& limit : definition.chip.limits)
      if (limit.kind == Refusal::Kind::Form && !elsewhere.contains(limit.what)) {
        EXPECT_NE(reasons.find(limit.what), std::string::npos) << definition.name << ": " << limit.what;
      }
}

TEST(FormLimits, ScalarsNeedAnAxis) {
  Graph graph;
  const auto scalar = [&](const std::string& name) {
    Variable& value = graph.add_variable(name);
    value.set_shape(Shape{});
    return &value;
  };
  Variable *a = scalar("a"), *b = scalar("b"), *reduced = scalar("reduced"), *sum = scalar("sum");
  Variable& vector = graph.add_variable("x");
  vector.set_shape(Shape{3});
  graph.add_operation("ReduceSum", "reduce", {&vector}, {reduced}, {{"keepdims", int64_t{0}}});
  Operation& both = graph.add_operation("Add", "add", {a, b}, {sum});
  const auto refused = [&] { return refuses(both, {find_target("c")}, Width::Int8); };
  ASSERT_TRUE(refused());
  EXPECT_NE(refused()->why.find("two operands without axes"), std::string::npos);
  graph.set_input(both, 1, reduced);  // has the shape [1] on the chip
  EXPECT_FALSE(refused());
}

TEST(FormLimits, TheLastHalfBlockOfAConversionTo16Bits) {
  const auto converted = [](int64_t size, at::ScalarType from, at::ScalarType to, const char* target) {
    Graph graph;
    Variable &x = graph.add_variable("x"), &y = graph.add_variable("y");
    x.set_shape(Shape{1, size});
    x.set_storage(StorageFormat{from, {-4}});
    y.set_storage(StorageFormat{to, {-8}});
    const Operation& operation = graph.add_operation("RequantizeLinear", "op", {&x}, {&y});
    return refuses(operation, {find_target(target)}, Width::Int16).has_value();
  };
  EXPECT_TRUE(converted(56, at::kChar, at::kShort, "esp32s3"));
  EXPECT_TRUE(converted(72, at::kChar, at::kShort, "esp32p4"));
  EXPECT_FALSE(converted(72, at::kChar, at::kShort, "c"));
  EXPECT_FALSE(converted(40, at::kChar, at::kShort, "esp32s3"));
  EXPECT_FALSE(converted(64, at::kChar, at::kShort, "esp32s3"));
  EXPECT_FALSE(converted(72, at::kShort, at::kShort, "esp32s3"));
}

}  // namespace
}  // namespace espq
