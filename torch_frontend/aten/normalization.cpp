#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

/// A learned factor or offset; `value` everywhere when the module has none.
Variable* learned(const Call& call, std::string_view name, const Shape& shape, double value) {
  if (call.has(name)) return call.tensor(name);
  return call.parameter(std::string(name), at::full(shape, value, at::kFloat));
}

float epsilon(const Call& call) {
  return static_cast<float>(call.number("eps", std::numeric_limits<float>::epsilon()));
}

void fixed_statistics(Call& call) {
  const Shape channels{call.shape("input").at(1)};
  call.check(call.has("running_mean") && call.has("running_var"),
             "keeps no running statistics: it would normalize with those of the batch");
  call.result("BatchNormalization",
              {call.tensor("input"), learned(call, "weight", channels, 1), learned(call, "bias", channels, 0),
               call.tensor("running_mean"), call.tensor("running_var")},
              {{"epsilon", epsilon(call)}});
}

/// batch_norm and its native spellings
void batch_norm(Call& call) {
  const bool training = call.flag("training", false) || call.flag("train", false);
  call.check(!training, "is in training mode: call eval() on the network before exporting it");
  fixed_statistics(call);
}

void layer_norm(Call& call) {
  const Shape shape = call.integers("normalized_shape");
  call.result("LayerNormalization",
              {call.tensor("input"), learned(call, "weight", shape, 1), learned(call, "bias", shape, 0)},
              {{"axis", -static_cast<int64_t>(shape.size())}, {"epsilon", epsilon(call)}});
}

void rms_norm(Call& call) {
  const Shape shape = call.integers("normalized_shape");
  call.result("RMSNormalization", {call.tensor("input"), learned(call, "weight", shape, 1)},
              {{"axis", -static_cast<int64_t>(shape.size())}, {"epsilon", epsilon(call)}});
}

/// group_norm, native_group_norm
void group_norm(Call& call) {
  const Shape channels{call.shape("input").at(1)};
  const int64_t groups = call.integer(call.has("num_groups") ? "num_groups" : "group");
  call.result("GroupNormalization",
              {call.tensor("input"), learned(call, "weight", channels, 1), learned(call, "bias", channels, 0)},
              {{"num_groups", groups}, {"epsilon", epsilon(call)}});
}

void instance_norm(Call& call) {
  if (!call.flag("use_input_stats")) return fixed_statistics(call);
  const Shape channels{call.shape("input").at(1)};
  call.result("InstanceNormalization",
              {call.tensor("input"), learned(call, "weight", channels, 1), learned(call, "bias", channels, 0)},
              {{"epsilon", epsilon(call)}});
}

void softmax(Call& call) {
  call.result("Softmax", {call.tensor_as("self", at::kFloat)}, {{"axis", call.dim("dim", call.rank("self"))}});
}
void log_softmax(Call& call) {
  call.result("LogSoftmax", {call.tensor_as("self", at::kFloat)}, {{"axis", call.dim("dim", call.rank("self"))}});
}

}  // namespace

void add_normalizations(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map, Family family) {
    for (const char* name : names) table[name] = {map, family};
  };
  put({"batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "_native_batch_norm_legit",
       "_batch_norm_no_update"},
      batch_norm, Family::Product);
  put({"layer_norm", "native_layer_norm"}, layer_norm, Family::Product);
  put({"rms_norm"}, rms_norm, Family::Product);
  put({"group_norm", "native_group_norm"}, group_norm, Family::Product);
  put({"instance_norm"}, instance_norm, Family::Product);
  put({"softmax", "_softmax", "special_softmax"}, softmax, Family::Transcendental);
  put({"log_softmax", "_log_softmax", "special_log_softmax"}, log_softmax, Family::Transcendental);
}

}  // namespace espq::torch_frontend
