#include "qat/distillation.h"

#include <ATen/ATen.h>

#include "core/support/error.h"

namespace espq {

at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher, double temperature) {
  user_check(student.sizes() == teacher.sizes() && student.dim() == 2,
             "distillation needs two tensors [N, classes] of one shape");
  user_check(temperature > 0, "the temperature of a distillation is positive, not {}", temperature);
  const at::Tensor wanted = at::log_softmax(teacher.detach() / temperature, 1);
  const at::Tensor got = at::log_softmax(student / temperature, 1);
  return (wanted.exp() * (wanted - got)).sum(1).mean() * (temperature * temperature);
}

at::Tensor relative_error_loss(const Tensors& student, const Tensors& teacher) {
  user_check(student.size() == teacher.size() && !student.empty(),
             "the float network has {} outputs, the quantized one {}", teacher.size(), student.size());
  at::Tensor sum;
  for (size_t i = 0; i < student.size(); ++i) {
    user_check(student[i].sizes() == teacher[i].sizes(), "output {} of the two networks differs in shape", i);
    const at::Tensor reference = teacher[i].detach();
    const at::Tensor power = reference.square().mean().clamp_min(1e-12);
    const at::Tensor error = at::mse_loss(student[i], reference) / power;
    sum = sum.defined() ? sum + error : error;
  }
  return sum / static_cast<double>(student.size());
}

}  // namespace espq
