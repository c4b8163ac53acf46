#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

/// The operand in the type of the result (integers become floats where LibTorch does so).
Variable* operand(const Call& call) { return call.tensor_as("self", call.output_dtype()); }
void alpha(Call& call, const char* type, double value) {
  call.result(type, {operand(call)}, {{"alpha", static_cast<float>(value)}});
}

template <const char* type>
void same(Call& call) {
  call.result(type, {operand(call)});
}

void clip(Call& call, std::optional<double> low, std::optional<double> high) {
  const at::ScalarType dtype = call.output_dtype();
  Call::Variables operands{operand(call), low ? call.scalar(*low, dtype) : nullptr};
  if (high) operands.push_back(call.scalar(*high, dtype));
  while (!operands.back()) operands.pop_back();
  call.result("Clip", operands);
}

std::optional<double> bound(const Call& call, std::string_view name) {
  return call.has(name) ? std::optional(call.number(name)) : std::nullopt;
}

/// clamp, clamp_min, clamp_max, clip, hardtanh; bounds that are tensors become Max and Min.
void clamp(Call& call) {
  const bool hardtanh = call.has("min_val");
  const std::string_view low = hardtanh ? "min_val" : "min", high = hardtanh ? "max_val" : "max";
  const auto constant = [&](std::string_view name) {
    return !call.is_tensor(name) || (call.is_constant(name) && call.sample(name).numel() == 1);
  };
  if (constant(low) && constant(high)) return clip(call, bound(call, low), bound(call, high));
  Variable* value = operand(call);
  if (call.has(low)) value = call.emit("Max", {value, call.tensor_as(low, call.output_dtype())});
  if (call.has(high)) value = call.emit("Min", {value, call.tensor_as(high, call.output_dtype())});
  call.result(value);
}

void relu6(Call& call) { clip(call, 0, 6); }

void leaky_relu(Call& call) { alpha(call, "LeakyRelu", call.number("negative_slope")); }
void hardsigmoid(Call& call) { call.result("HardSigmoid", {operand(call)}, {{"alpha", 1.0f / 6}, {"beta", 0.5f}}); }

void rrelu(Call& call) {
  call.check(!call.flag("training"), "is in training mode: call eval() on the network before exporting it");
  alpha(call, "LeakyRelu", (call.number("lower") + call.number("upper")) / 2);
}

/// scale * (x > 0 ? x : alpha * (exp(input_scale * x) - 1)); celu has input_scale = 1 / alpha.
void elu(Call& call) {
  const double factor = call.number("alpha"), scale = call.number("scale"), inner = call.number("input_scale");
  call.check(inner == 1, "input_scale {} is not supported", inner);
  Variable* result = call.emit("Elu", {operand(call)}, {{"alpha", static_cast<float>(factor)}});
  call.result(scale == 1 ? result : call.emit("Mul", {result, call.scalar(scale)}));
}

void celu(Call& call) { alpha(call, "Celu", call.number("alpha")); }
void gelu(Call& call) { call.result("Gelu", {operand(call)}, {{"approximate", call.text("approximate", "none")}}); }

/// One slope per channel stands behind the batch dimension.
void prelu(Call& call) {
  const Shape slope = call.shape("weight");
  Variable* weight = call.tensor("weight");
  const int64_t rank = call.rank("self");
  // The batch dimension is not counted by ONNX: [C] is [C, 1, 1] for an operand of four dimensions.
  if (slope.size() == 1 && rank > 2) {
    Shape aligned(static_cast<size_t>(rank) - 1, 1);
    aligned[0] = slope[0];
    weight = call.is_constant("weight") ? call.parameter("slope", call.sample("weight").reshape(aligned))
                                        : call.reshape(weight, aligned);
  }
  call.result("PRelu", {operand(call), weight});
}

/// log(1 + exp(beta x)) / beta, and x itself where beta x > threshold: the two are equal in float32 above 20.
void softplus(Call& call) {
  const double beta = call.number("beta", 1), threshold = call.number("threshold", 20);
  call.check(threshold >= 17, "threshold {} changes the result; espq has the plain function", threshold);
  Variable* value = operand(call);
  if (beta == 1) return call.result("Softplus", {value});
  value = call.emit("Softplus", {call.emit("Mul", {value, call.scalar(beta)})});
  call.result("Div", {value, call.scalar(beta)});
}

/// x > threshold ? x : value
void threshold(Call& call) {
  const double limit = call.number("threshold"), other = call.number("value");
  if (other == 0) return alpha(call, "ThresholdedRelu", limit);
  Variable* value = operand(call);
  call.result("Where", {call.emit("Greater", {value, call.scalar(limit)}), value, call.scalar(other)});
}

void log_sigmoid(Call& call) {
  // log(sigmoid(x)) = -softplus(-x)
  call.results = {call.emit("Neg", {call.emit("Softplus", {call.emit("Neg", {operand(call)})})})};
}

void shrink(Call& call, float bias) {
  call.result("Shrink", {operand(call)}, {{"lambd", static_cast<float>(call.number("lambd"))}, {"bias", bias}});
}
void hardshrink(Call& call) { shrink(call, 0); }
void softshrink(Call& call) { shrink(call, static_cast<float>(call.number("lambd"))); }

void glu(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self")), size = call.shape("self")[static_cast<size_t>(axis)];
  const auto halves = call.emit_many("Split", {call.tensor("self"), call.parameter("split", {size / 2, size / 2})},
                                     {{"axis", axis}}, 2);
  call.result("Mul", {halves[0], call.emit("Sigmoid", {halves[1]})});
}

constexpr char kRelu[] = "Relu", kSigmoid[] = "Sigmoid", kTanh[] = "Tanh", kHardSwish[] = "HardSwish",
               kSwish[] = "Swish", kSelu[] = "Selu", kMish[] = "Mish", kSoftsign[] = "Softsign";

}  // namespace

void add_activations(Table& table) {
  for (const char* name : {"clamp", "clip", "clamp_min", "clamp_max", "hardtanh"})
    table[name] = {clamp, Family::Movement};
  table["relu"] = {same<kRelu>, Family::Movement};
  table["relu6"] = {relu6, Family::Movement};
  table["sigmoid"] = {same<kSigmoid>, Family::Transcendental};
  table["tanh"] = {same<kTanh>, Family::Transcendental};
  table["hardswish"] = {same<kHardSwish>, Family::Arithmetic};
  table["hardsigmoid"] = {hardsigmoid, Family::Arithmetic};
  table["silu"] = {same<kSwish>, Family::Transcendental};
  table["selu"] = {same<kSelu>, Family::Transcendental};
  table["mish"] = {same<kMish>, Family::Transcendental};
  table["softsign"] = {same<kSoftsign>, Family::Arithmetic};
  table["leaky_relu"] = {leaky_relu, Family::Arithmetic};
  table["rrelu"] = {rrelu, Family::Arithmetic};
  table["elu"] = {elu, Family::Transcendental};
  table["celu"] = {celu, Family::Transcendental};
  table["gelu"] = {gelu, Family::Transcendental};
  for (const char* name : {"prelu", "_prelu_kernel"}) table[name] = {prelu, Family::Arithmetic};
  table["softplus"] = {softplus, Family::Transcendental};
  table["threshold"] = {threshold, Family::Movement};
  for (const char* name : {"log_sigmoid", "log_sigmoid_forward"}) table[name] = {log_sigmoid, Family::Transcendental};
  table["hardshrink"] = {hardshrink, Family::Movement};
  table["softshrink"] = {softshrink, Family::Arithmetic};
  table["glu"] = {glu, Family::Transcendental};
}

}  // namespace espq::torch_frontend
