#include <cmath>
#include <numeric>

#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Minus infinity where `blocked` holds, 0 elsewhere, to be added to the scores.
Variable* blocking_mask(const Call& call, const at::Tensor& blocked) {
  return call.parameter("mask", at::zeros(blocked.sizes(), at::kFloat).masked_fill(blocked, -kInfinity));
}

/// A mask to add to the scores: 0 where attention is allowed, minus infinity elsewhere.
Variable* additive_mask(const Call& call) {
  const at::Tensor mask = call.sample("attn_mask");
  if (mask.scalar_type() != at::kBool) return call.tensor("attn_mask");
  if (call.is_constant("attn_mask")) return blocking_mask(call, mask.logical_not());
  return call.emit("Where", {call.tensor("attn_mask"), call.scalar(0), call.scalar(-kInfinity)});
}

Variable* repeat_heads(const Call& call, Variable* value, const Shape& shape, int64_t heads) {
  // enable_gqa: every head of keys and values serves heads / shape[-3] heads of queries.
  const size_t axis = shape.size() - 3;
  if (shape[axis] == heads) return value;
  Shape wide = shape, repeated = shape;
  wide.insert(wide.begin() + static_cast<std::ptrdiff_t>(axis) + 1, 1);
  Shape target = wide;
  target[axis + 1] = heads / shape[axis];
  repeated[axis] = heads;
  return call.reshape(call.expand(call.reshape(value, wide), wide, target), repeated);
}

/// softmax(query x key^T x scale + mask) x value
void scaled_dot_product_attention(Call& call) {
  call.check(call.number("dropout_p") == 0, "has dropout: call eval() on the network before exporting it");
  const Shape query = call.shape("query"), key = call.shape("key");
  const int64_t rank = static_cast<int64_t>(query.size());
  const double scale = call.number("scale", 1 / std::sqrt(static_cast<double>(query.back())));
  Variable *keys = call.tensor("key"), *values = call.tensor("value");
  if (call.flag("enable_gqa", false) && rank >= 3) {
    keys = repeat_heads(call, keys, key, query[query.size() - 3]);
    values = repeat_heads(call, values, call.shape("value"), query[query.size() - 3]);
  }
  std::vector<int64_t> order(query.size());
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  Variable* scaled = call.emit("Mul", {call.tensor("query"), call.scalar(scale)});
  Variable* scores = call.emit("MatMul", {scaled, call.transpose(keys, order)});
  if (call.has("attn_mask")) scores = call.emit("Add", {scores, additive_mask(call)});
  if (call.flag("is_causal")) {
    const at::Tensor above = at::ones({query[query.size() - 2], key[key.size() - 2]}, at::kBool).triu(1);
    scores = call.emit("Add", {scores, blocking_mask(call, above)});
  }
  Variable* weights = call.emit("Softmax", {scores}, {{"axis", rank - 1}});
  call.result("MatMul", {weights, values});
}

// ------------------------------------------------------------------------------------------------------ fast paths
/// x w^T + b for an operand of three dimensions.
Variable* dense(const Call& call, Variable* input, std::string_view weight, std::string_view bias) {
  return call.emit(
      "Add", {call.tensor(bias), call.emit("MatMul", {input, call.parameter("weight", call.constant(weight).t())})});
}

/// The mask of the fast paths to add to scores of [batch, heads, steps, steps]: what is not 0 is left out. `mask_type`:
/// 0 = [steps, steps], 1 = padded keys [batch, steps], 2 = all four axes. nullptr without one.
Variable* exclusion_mask(const Call& call) {
  if (!call.has("mask")) return nullptr;
  const at::Tensor mask = call.sample("mask");
  Shape shape = mask.sizes().vec();
  if (call.integer("mask_type", 0) == 1) shape = {shape[0], 1, 1, shape[1]};
  if (call.is_constant("mask")) return blocking_mask(call, mask.to(at::kBool).reshape(shape));
  return call.emit("Where", {call.reshape(call.tensor("mask"), shape), call.scalar(-kInfinity), call.scalar(0)});
}

/// Projections, attention per head and the output projection; `shape` is [batch, steps, features].
Variable* multi_head(const Call& call, Variable* input, const Shape& shape, int64_t heads) {
  const int64_t width = shape[2] / heads;
  const auto parts = call.emit_many(
      "Split", {dense(call, input, "qkv_weight", "qkv_bias"), call.parameter("split", {shape[2], shape[2], shape[2]})},
      {{"axis", int64_t{2}}}, 3);
  const auto per_head = [&](Variable* value, const std::vector<int64_t>& order) {
    return call.transpose(call.reshape(value, {shape[0], shape[1], heads, width}), order);
  };
  Variable* query = call.emit("Mul", {parts[0], call.scalar(1 / std::sqrt(static_cast<double>(width)))});
  Variable* scores = call.emit("MatMul", {per_head(query, {0, 2, 1, 3}), per_head(parts[1], {0, 2, 3, 1})});
  if (Variable* mask = exclusion_mask(call)) scores = call.emit("Add", {scores, mask});
  Variable* weights = call.emit("Softmax", {scores}, {{"axis", int64_t{3}}});
  Variable* mixed = call.emit("MatMul", {weights, per_head(parts[2], {0, 2, 1, 3})});
  mixed = call.reshape(call.transpose(mixed, {0, 2, 1, 3}), shape);
  return dense(call, mixed, "proj_weight", "proj_bias");
}

/// What nn.MultiheadAttention runs without gradients.
void native_multi_head_attention(Call& call) {
  const at::Tensor query = call.sample("query");
  call.check(call.sample("key").is_same(query) && call.sample("value").is_same(query),
             "query, key and value must be the same tensor");
  call.results = {multi_head(call, call.tensor("query"), call.shape("query"), call.integer("num_head"))};
}

/// What nn.TransformerEncoderLayer runs without gradients.
void transformer_encoder_layer(Call& call) {
  const Shape shape = call.shape("src");
  const auto norm = [&](Variable* value, const std::string& number) {
    return call.emit("LayerNormalization",
                     {value, call.tensor("norm_weight_" + number), call.tensor("norm_bias_" + number)},
                     {{"axis", int64_t{-1}}, {"epsilon", static_cast<float>(call.number("eps"))}});
  };
  const auto feed_forward = [&](Variable* value) {
    value = dense(call, value, "ffn_weight_1", "ffn_bias_1");
    value = call.flag("use_gelu") ? call.emit("Gelu", {value}) : call.emit("Relu", {value});
    return dense(call, value, "ffn_weight_2", "ffn_bias_2");
  };
  const auto attention = [&](Variable* value) { return multi_head(call, value, shape, call.integer("num_heads")); };
  const bool first = call.flag("norm_first");
  Variable* value = call.tensor("src");
  value = call.emit("Add", {value, attention(first ? norm(value, "1") : value)});
  if (!first) value = norm(value, "1");
  value = call.emit("Add", {value, feed_forward(first ? norm(value, "2") : value)});
  call.result(first ? value : norm(value, "2"));
}

}  // namespace

void add_attention(Table& table) {
  table["scaled_dot_product_attention"] = {scaled_dot_product_attention, Family::Product};
  table["_native_multi_head_attention"] = {native_multi_head_attention, Family::Recurrent};
  table["_transformer_encoder_layer_fwd"] = {transformer_encoder_layer, Family::Recurrent};
}

}  // namespace espq::torch_frontend
