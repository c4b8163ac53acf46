#pragma once
#include <optional>
#include <string_view>

#include "core/ops/operator.h"

// What limits of several families look at. They see graphs of every stage: shapes and attributes are there before
// calibration, exponents in chip graphs only.
namespace espq {

/// Shape of a tensor as a kernel meets it: in a chip graph in the chip's order, as its attributes are; nullopt when it
/// is not known.
std::optional<Shape> shape_at_kernel(const Variable* value);
/// The same as [N, C, spatial...], of an operation whose kernels want the channels last. The permutation of a chip
/// graph's tensor does not tell: it is that of the writer's view, not of a reader's behind a Transpose that went.
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
