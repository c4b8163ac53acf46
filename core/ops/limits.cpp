#include "core/ops/limits.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/graph/match.h"

namespace espq {

const Limit kSpatialAxes{.what = "more than two spatial axes",
                         .remedy = "fold an axis into the channels or the batch",
                         .asked = [](const Operation& operation, const Deployment&, Width) {
                           return rank_of(operation.input(0)).value_or(0) > 4;
                         }};

const Limit kOneSample{.what = "more than one sample at a time",
                       .remedy = "give the network a batch of 1",
                       .asked = [](const Operation& operation, const Deployment&, Width) {
                         const auto shape = shape_at_kernel(operation.input(0));
                         return shape && !shape->empty() && shape->front() > 1;
                       }};

std::optional<Shape> shape_at_kernel(const Variable* value) { return value ? value->shape() : std::nullopt; }

std::optional<Shape> image_shape(const Operation& operation, const Variable* value) {
  auto shape = shape_at_kernel(value);
  if (operation.chip().kernels && shape && (shape->size() == 3 || shape->size() == 4))
    std::rotate(shape->begin() + 1, shape->end() - 1, shape->end());
  return shape;
}

std::optional<int> stored_exponent(const Variable* value) {
  if (!value || !value->storage() || value->storage()->exponents.empty()) return std::nullopt;
  return value->storage()->exponents[0];
}

bool is_computed(const Operation& operation, size_t slot) {
  const Variable* value = operation.input(slot);
  return value && !value->is_parameter();
}

bool has_negative(const Variable* value) {
  return value && value->is_parameter() && value->value().lt(0).any().item<bool>();
}

std::optional<int64_t> element_count(const Variable* value) {
  if (!value || !value->shape()) return std::nullopt;
  return c10::multiply_integers(*value->shape());
}

std::string_view library_name(RuntimeLevel level) {
  return level == RuntimeLevel::V3_3_9 ? "chip library 3.3.9" : "the chip library";
}

bool takes_8bit_weights(const Operation& operation) {
  const auto& linear = definition_of(operation).linear;
  const auto slot = definition_of(operation).input_slot(OperandRole::Weight);
  return linear && operation.input(*slot) && operation.input(*slot)->is_parameter() &&
         operation.int_attribute("group", 1) == 1;
}

bool has_kernel(const OperatorDefinition& definition, RuntimeLevel level, Width width) {
  const KernelWidths& kernels = definition.chip.kernels;
  if (width.is_float()) return kernels.float32;
  if (width == Width::Int16Weights8) return definition.linear && kernels.int16 && level == RuntimeLevel::Newer;
  return width == Width::Int8 ? kernels.int8 : kernels.int16;
}

namespace {

/// The kernel gives codes on as they are, and what they mean is not the same behind it.
bool rescales_passed_codes(const Operation& operation, const Target& target, Width width) {
  const QuantizationRule& rule = definition_of(operation).quantization;
  if (width.is_float() || !(rule.passive || (rule.passes_codes && rule.passes_codes(target, width.activations))))
    return false;
  const auto read = stored_exponent(operation.input(0));
  return std::any_of(operation.outputs().begin(), operation.outputs().end(), [&](const Variable* output) {
    const auto written = stored_exponent(output);
    return read && written && *read != *written;
  });
}

}  // namespace

std::optional<Refusal> refuses(const Operation& operation, const Deployment& deployment, Width width) {
  const OperatorDefinition& definition = definition_of(operation);
  const std::string_view library = library_name(deployment.runtime_level);
  if (!has_kernel(definition, deployment.runtime_level, width)) {
    // A file of 3.3.9 has no word for this width.
    const bool mixed = width == Width::Int16Weights8;
    return Refusal{.kind = mixed ? Refusal::Kind::Unwritable : Refusal::Kind::Kernel,
                   .why = fmt::format("{} has no {} kernel for it", library, enum_name(width)),
                   .remedy = mixed ? "use int8 or int16, or a newer runtime level"
                                   : "the file will only load where the application registers one"};
  }
  for (const Limit& limit : definition.chip.limits)
    if ((!limit.holds || limit.holds(deployment)) && limit.asked(operation, deployment, width))
      return Refusal{.kind = limit.kind,
                     .why = fmt::format("{} does not take {}", library, limit.what),
                     .remedy = std::string(limit.remedy)};
  if (rescales_passed_codes(operation, deployment.target, width))
    return Refusal{.kind = Refusal::Kind::Form,
                   .why = fmt::format(
                       "{} gives its codes on as they are, but the exponents of operand and result differ", library),
                   .remedy = "give both one exponent"};
  return std::nullopt;
}

}  // namespace espq
