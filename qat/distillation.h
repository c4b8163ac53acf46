#pragma once
#include "core/ops/operator.h"

namespace espq {

// Losses that need no labels: the quantized network learns to answer like the float one. `teacher` tensors are taken as
// constants. Both return one number with a gradient to `student`.

/// For class scores [N, classes] before Softmax: T^2 * KL(softmax(teacher / T) || softmax(student / T)), averaged over
/// rows (Hinton et al. 2015). A higher temperature T gives the small probabilities more weight.
at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher, double temperature = 1.0);

/// For outputs of any kind: the mean square of the difference over the mean square of the teacher, averaged over
/// outputs, so that outputs of different magnitude count alike. This is the noise-to-signal ratio of the error
/// analyses.
at::Tensor relative_error_loss(const Tensors& student, const Tensors& teacher);

}  // namespace espq
