#include "onnx_frontend/rules.h"

#include <map>

#include "core/graph/einsum.h"
#include "core/support/error.h"
#include "onnx_frontend/padding.h"

namespace espq::onnx_frontend {
namespace {

using Integers = Draft::Integers;

void attribute_to_input(Draft& draft, const std::string& key, size_t slot) {
  if (!draft.attributes.count(key)) return;
  user_check(!draft.input(slot), "{}: gives '{}' both as attribute and as input", draft.title(), key);
  draft.set_input(slot, draft.parameter(key, draft.integers(key)));
  draft.attributes.erase(key);
}

void axes_to_input(Draft& draft) { attribute_to_input(draft, "axes", 1); }

void clip(Draft& draft) {
  const std::pair<const char*, size_t> bounds[] = {{"min", 1}, {"max", 2}};
  for (const auto& [key, slot] : bounds) {
    if (!draft.attributes.count(key)) continue;
    draft.set_input(slot, draft.parameter(key, at::scalar_tensor(draft.attribute<float>(key, 0), at::kFloat)));
    draft.attributes.erase(key);
  }
}

void slice(Draft& draft) {
  attribute_to_input(draft, "starts", 1);
  attribute_to_input(draft, "ends", 2);
  attribute_to_input(draft, "axes", 3);
}

void pad(Draft& draft) {
  attribute_to_input(draft, "pads", 1);
  const float value = draft.attribute<float>("value", 0);
  draft.attributes.erase("value");
  if (value != 0) draft.set_input(2, draft.parameter("value", at::scalar_tensor(value, at::kFloat)));
}

void split(Draft& draft) {
  attribute_to_input(draft, "split", 1);
  if (draft.opset < 18 && !draft.input(1)) draft.attributes["num_outputs"] = static_cast<int64_t>(draft.outputs.size());
}

void top_k(Draft& draft) {
  if (!draft.attributes.count("k")) return;
  draft.set_input(1, draft.parameter("k", Integers{draft.attribute<int64_t>("k", 0)}));
  draft.attributes.erase("k");
}

// Without coordinate attributes (Upsample, Resize 10) the source position is the output position divided by the scale,
// rounded down.
void set_plain_coordinates(Draft& draft) {
  draft.attributes["coordinate_transformation_mode"] = std::string("asymmetric");
  draft.attributes["nearest_mode"] = std::string("floor");
}

void upsample(Draft& draft) {
  set_plain_coordinates(draft);
  Variable* scales = draft.input(1);
  if (draft.attributes.count("scales")) {
    const auto values = draft.attribute<std::vector<float>>("scales", {});
    scales = draft.parameter("scales", at::tensor(values, at::kFloat));
    draft.attributes.erase("scales");
  }
  draft.inputs.resize(1);
  draft.set_input(2, scales);
}

void resize(Draft& draft) {
  if (draft.opset < 11) {
    set_plain_coordinates(draft);
    Variable* scales = draft.input(1);
    draft.inputs.resize(1);
    draft.set_input(2, scales);
  }
  // Files of opset 11 and 12 must give roi and scales; an empty tensor says "not given".
  for (size_t slot = 1; slot < draft.inputs.size(); ++slot)
    if (draft.input(slot) && draft.input(slot)->is_parameter() && draft.input(slot)->value().numel() == 0)
      draft.inputs[slot] = nullptr;
  const auto mode = draft.attribute<std::string>("coordinate_transformation_mode", "half_pixel");
  if (mode != "tf_crop_and_resize" && draft.input(1)) draft.inputs[1] = nullptr;
}

/// Before opset 13 the operand was flattened in front of `axis` and the result taken over everything behind it.
void flattened_softmax(Draft& draft) {
  if (draft.opset >= 13) return;
  const Shape shape = draft.shape_of(0);
  const int64_t rank = static_cast<int64_t>(shape.size());
  int64_t axis = draft.attribute<int64_t>("axis", 1);
  user_check(axis >= -rank && axis <= rank, "{}: axis {} is outside of its operand's {} dimensions", draft.title(),
             axis, rank);
  if (axis < 0) axis += rank;
  std::vector<int64_t> behind;  // the axes behind that have more than one element
  for (int64_t i = axis; i < rank; ++i)
    if (shape[i] != 1) behind.push_back(i);
  if (behind.size() <= 1 && axis < rank) {
    draft.attributes["axis"] = behind.empty() ? axis : behind.front();
    return;
  }
  Shape flat{1, 1};
  for (int64_t i = 0; i < rank; ++i) flat[i >= axis] *= shape[i];
  Variable* input = draft.emit("Reshape", "flattened", {draft.input(0), draft.parameter("flat_shape", flat)});
  AttributeMap attributes = std::move(draft.attributes);
  attributes["axis"] = int64_t{1};
  Variable* result = draft.emit(draft.type, "rows", {input}, std::move(attributes));
  draft.type = "Reshape";
  draft.attributes = {};
  draft.inputs = {result, draft.parameter("shape", shape)};
}

void dropout(Draft& draft) {
  const at::Tensor training = draft.constant(2, "training_mode");
  user_check(!training.defined() || !training.to(at::kBool).item<bool>(),
             "{}: is in training mode; export the network for inference", draft.title());
  user_check(!draft.has_output(1), "{}: its mask output is used, which espq does not support", draft.title());
  draft.inputs.resize(1);
  draft.attributes.clear();
}

void batch_normalization(Draft& draft) {
  user_check(draft.attribute<int64_t>("training_mode", 0) == 0,
             "{}: is in training mode; export the network for inference", draft.title());
  user_check(draft.attribute<int64_t>("spatial", 1) == 1, "{}: spatial = 0 is not supported", draft.title());
  for (const char* key : {"training_mode", "spatial", "momentum"}) draft.attributes.erase(key);
}

/// Before opset 21 there was one scale and bias per group; now there is one per channel.
void group_normalization(Draft& draft) {
  const int64_t groups = draft.attribute<int64_t>("num_groups", 1);
  if (draft.opset >= 21 || groups < 1) return;
  const Shape shape = draft.shape_of(0);
  user_check(shape.size() >= 2 && shape[1] % groups == 0, "{}: {} groups do not divide its channels", draft.title(),
             groups);
  for (size_t slot = 1; slot <= 2; ++slot) {
    const at::Tensor values = draft.constant(slot, slot == 1 ? "scale" : "bias");
    if (values.defined() && values.numel() == groups)
      draft.set_input(slot, draft.parameter(slot == 1 ? "scale" : "bias", values.repeat_interleave(shape[1] / groups)));
  }
}

void roi_align(Draft& draft) {
  if (draft.opset < 16) draft.attributes["coordinate_transformation_mode"] = std::string("output_half_pixel");
}

void grid_sample(Draft& draft) {
  const auto mode = draft.attribute<std::string>("mode", "linear");
  if (draft.opset >= 20) draft.attributes["mode"] = mode == "linear" ? "bilinear" : mode == "cubic" ? "bicubic" : mode;
}

/// All floating types are float32 in a graph (onnx_file/tensor.h).
void cast(Draft& draft) {
  constexpr int64_t kFloat = 1;
  constexpr int64_t kHalf = 10, kDouble = 11, kBfloat16 = 16;
  const auto to = draft.attribute<int64_t>("to", kFloat);
  if (to == kHalf || to == kDouble || to == kBfloat16) draft.attributes["to"] = kFloat;
}

/// The place of the largest or smallest element is what TopK of one element says.
void arg_extremum(Draft& draft) {
  user_check(draft.attribute<int64_t>("select_last_index", 0) == 0,
             "{}: select_last_index = 1 is not supported; of equal elements the first is taken", draft.title());
  const Shape shape = draft.shape_of(0);
  const auto rank = static_cast<int64_t>(shape.size());
  const int64_t axis = draft.attribute<int64_t>("axis", 0);
  user_check(axis >= -rank && axis < rank, "{}: axis {} is outside of its operand's {} dimensions", draft.title(), axis,
             rank);
  const bool keeps = draft.attribute<int64_t>("keepdims", 1) != 0;
  AttributeMap attributes{{"axis", axis}, {"largest", int64_t{draft.type == "ArgMax"}}, {"sorted", int64_t{1}}};
  std::vector<Variable*> operands{draft.input(0), draft.parameter("k", Integers{1})};
  if (keeps) {
    draft.type = "TopK";
    draft.inputs = std::move(operands);
    draft.outputs.insert(draft.outputs.begin(), nullptr);
    draft.attributes = std::move(attributes);
    return;
  }
  Variable* place = draft.emit_many("TopK", "place", std::move(operands), std::move(attributes), 2)[1];
  draft.type = "Squeeze";
  draft.inputs = {place, draft.parameter("axes", Integers{axis})};
  draft.attributes = {};
}

class DraftWriter : public OperationWriter {
 public:
  explicit DraftWriter(Draft& draft) : draft_(draft) {}
  Variable* emit(const std::string& type, std::vector<Variable*> inputs, AttributeMap attributes) override {
    return draft_.emit(type, type, std::move(inputs), std::move(attributes));
  }
  Variable* integers(const std::string& part, const Integers& values) override {
    return draft_.parameter(part, values);
  }

 private:
  Draft& draft_;
};

void einsum(Draft& draft) {
  std::vector<EinsumOperand> operands;
  for (size_t slot = 0; slot < draft.inputs.size(); ++slot)
    operands.push_back({draft.input(slot), draft.shape_of(slot)});
  DraftWriter writer(draft);
  try {
    draft.inputs = {write_einsum(draft.attribute<std::string>("equation", ""), operands, writer)};
  } catch (const UserError& error) {
    user_error("{}: {}", draft.title(), error.what());
  }
  draft.type = "Identity";
  draft.attributes = {};
}

/// The norm of every channel: a reduction of all axes behind it.
void global_lp_pool(Draft& draft) {
  const auto order = draft.attribute<int64_t>("p", 2);
  user_check(order > 0, "{}: p = {} is no norm", draft.title(), order);
  Integers axes;
  for (size_t axis = 2; axis < draft.shape_of(0).size(); ++axis) axes.push_back(static_cast<int64_t>(axis));
  user_check(!axes.empty(), "{}: its operand has no axes behind the channels", draft.title());
  Variable* stated = draft.parameter("axes", axes);
  draft.attributes = {};
  if (order <= 2) {
    draft.type = order == 1 ? "ReduceL1" : "ReduceL2";
    draft.inputs = {draft.input(0), stated};
    return;
  }
  const auto number = [&](const char* name, double value) {
    return draft.parameter(name, at::scalar_tensor(value, at::kFloat));
  };
  Variable* magnitudes = draft.emit("Abs", "magnitudes", {draft.input(0)});
  Variable* powers = draft.emit("Pow", "powers", {magnitudes, number("p", static_cast<double>(order))});
  Variable* sums = draft.emit("ReduceSum", "sums", {powers, stated});
  draft.type = "Pow";
  draft.inputs = {sums, number("root", 1.0 / static_cast<double>(order))};
}

struct Rule {
  void (*apply)(Draft&) = nullptr;
  std::string_view becomes = {};  ///< another type of the vocabulary
  std::string_view refused = {};  ///< why, for types whose name means something else in the vocabulary
};
constexpr std::string_view kQuantized = "the network is quantized already: give the float network";

const std::map<std::string_view, Rule>& rules() {
  static const std::map<std::string_view, Rule> table = {
      {"ArgMax", {arg_extremum, "TopK"}},
      {"ArgMin", {arg_extremum, "TopK"}},
      {"AveragePool", {pool_padding}},
      {"BatchNormalization", {batch_normalization}},
      {"Cast", {cast}},
      {"Clip", {clip}},
      {"Conv", {convolution_padding}},
      {"ConvTranspose", {transposed_convolution_padding}},
      {"DequantizeLinear", {.refused = kQuantized}},
      {"Dropout", {dropout, "Identity"}},
      {"DynamicQuantizeLinear", {.refused = kQuantized}},
      {"Einsum", {einsum, "Identity"}},
      {"GlobalLpPool", {global_lp_pool, "ReduceL2"}},
      {"GridSample", {grid_sample}},
      {"GroupNormalization", {group_normalization}},
      {"Hardmax", {flattened_softmax}},
      {"InsertZeros", {.refused = "this is no ONNX operator"}},
      {"LUT", {.refused = "this is no ONNX operator"}},
      {"LogSoftmax", {flattened_softmax}},
      {"LpPool", {pool_padding}},
      {"MaxPool", {pool_padding}},
      {"Pad", {pad}},
      {"QuantizeLinear", {.refused = kQuantized}},
      {"ReduceL1", {axes_to_input}},
      {"ReduceL2", {axes_to_input}},
      {"ReduceLogSum", {axes_to_input}},
      {"ReduceLogSumExp", {axes_to_input}},
      {"ReduceMax", {axes_to_input}},
      {"ReduceMean", {axes_to_input}},
      {"ReduceMin", {axes_to_input}},
      {"ReduceProd", {axes_to_input}},
      {"ReduceSum", {axes_to_input}},
      {"ReduceSumSquare", {axes_to_input}},
      {"RequantizeLinear", {.refused = kQuantized}},
      {"Resize", {resize}},
      {"RoiAlign", {roi_align}},
      {"Scatter", {nullptr, "ScatterElements"}},
      {"Slice", {slice}},
      {"Softmax", {flattened_softmax}},
      {"Split", {split}},
      {"Squeeze", {axes_to_input}},
      {"StreamingCache", {.refused = "this is no ONNX operator"}},
      {"TopK", {top_k}},
      {"Unsqueeze", {axes_to_input}},
      {"Upsample", {upsample, "Resize"}},
  };
  return table;
}

const Rule* find_rule(std::string_view type) {
  const auto found = rules().find(type);
  return found == rules().end() ? nullptr : &found->second;
}

/// Attributes of the standard that change nothing in inference, or nothing when they have the given value.
struct Neutral {
  std::string_view type, attribute;
  std::optional<Attribute> value = std::nullopt;  ///< nullopt: whatever the value
};
const Neutral kNeutral[] = {
    {"Cast", "round_mode"},
    {"Cast", "saturate"},
    {"MaxPool", "storage_order"},  // the order of the Indices output, which espq does not have
    {"Resize", "antialias", int64_t{0}},
    {"Resize", "cubic_coeff_a", -0.75f},
    {"Resize", "exclude_outside", int64_t{0}},
    {"Resize", "extrapolation_value", 0.0f},
    {"Resize", "keep_aspect_ratio_policy", std::string("stretch")},
    {"LayerNormalization", "stash_type"},
    {"RMSNormalization", "stash_type"},
};

bool is_ones(const Attribute& value) {
  const auto* list = std::get_if<Integers>(&value);
  return list && std::all_of(list->begin(), list->end(), [](int64_t v) { return v == 1; });
}

bool same_value(const Attribute& a, const Attribute& b) {
  if (const auto* x = std::get_if<int64_t>(&a)) return b.index() == a.index() && std::get<int64_t>(b) == *x;
  if (const auto* x = std::get_if<float>(&a)) return b.index() == a.index() && std::get<float>(b) == *x;
  if (const auto* x = std::get_if<std::string>(&a)) return b.index() == a.index() && std::get<std::string>(b) == *x;
  return false;
}

bool is_neutral(const std::string& type, const std::string& key, const Attribute& value) {
  if (key == "dilations" && is_ones(value)) return true;  // AveragePool has them since opset 19
  if (key == "auto_pad") return same_value(value, std::string("NOTSET"));
  return std::any_of(std::begin(kNeutral), std::end(kNeutral), [&](const Neutral& entry) {
    return entry.type == type && entry.attribute == key && (!entry.value || same_value(value, *entry.value));
  });
}

void drop_neutral_attributes(Draft& draft) {
  const OperatorDefinition* definition = operators().find(draft.type);
  std::erase_if(draft.attributes, [&](const auto& entry) {
    const auto& known = definition->attributes;
    const bool in_table =
        std::any_of(known.begin(), known.end(), [&](const AttributeSpec& spec) { return spec.name == entry.first; });
    return !in_table && is_neutral(draft.type, entry.first, entry.second);
  });
}

}  // namespace

std::string_view vocabulary_type(std::string_view onnx_type) {
  const Rule* rule = find_rule(onnx_type);
  return rule && !rule->becomes.empty() ? rule->becomes : onnx_type;
}

std::optional<std::string_view> refusal(std::string_view onnx_type) {
  const Rule* rule = find_rule(onnx_type);
  return rule && !rule->refused.empty() ? std::optional(rule->refused) : std::nullopt;
}

void normalize(Draft& draft) {
  const std::string type = draft.type;
  const Rule* rule = find_rule(type);
  if (rule && rule->apply) rule->apply(draft);
  // Unless the rule chose one itself.
  if (rule && !rule->becomes.empty() && draft.type == type) draft.type = rule->becomes;
  drop_neutral_attributes(draft);
}

}  // namespace espq::onnx_frontend
