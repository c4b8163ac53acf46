#pragma once
#include <optional>
#include <string_view>

#include "core/ops/operator.h"

// What limits of several families look at. They see graphs of every stage: shapes and attributes are there before
// calibration, exponents in chip graphs only.
namespace espq {

/// Shape of a tensor in the model's order, also in a chip graph; nullopt when it is not known.
std::optional<Shape> model_shape(const Variable* value);
/// The same of a tensor [N, C, spatial...] of an operation whose kernels want the channels last: what a file calls
/// [N, spatial..., C], whose permutation it does not tell.
std::optional<Shape> image_shape(const Operation& operation, const Variable* value);
/// Exponent of a tensor of a chip graph; nullopt for floats, and before lowering.
std::optional<int> stored_exponent(const Variable* value);
/// An operand that is there and no constant.
bool is_computed(const Operation& operation, size_t slot);
/// Some element is below zero; false for what is no constant.
bool has_negative(const Variable* value);
/// Elements of a tensor whose shape is known.
std::optional<int64_t> element_count(const Variable* value);

/// The library reads the operands of these slots while it loads the file, and takes computed ones for absent.
template <size_t... Slots>
Limit needs_constants(std::string_view what) {
  return {.what = what,
          .remedy = "give the network fixed input shapes, so that it becomes a constant",
          .asked = [](const Operation& operation, const Deployment&, Width) {
            return (... || is_computed(operation, Slots));
          }};
}

/// Convolutions and pools run over one or two axes.
extern const Limit kSpatialAxes;
/// Kernels that never read the first dimension: they compute the first sample only.
extern const Limit kOneSample;

}  // namespace espq
