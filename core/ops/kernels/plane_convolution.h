#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/ops/kernels/plane_kernels.h"
#include "core/ops/window.h"

namespace espq {

/// A 1-D or 2-D convolution of training in float32, forward and backward, for processors with AVX2 and FMA or with
/// AVX-512. It saves what at::convolution spends on small networks: changes of memory layout and the set-up of each
/// call.
///
/// Tensors lie as *planes*: one row of memory per channel with all positions of all samples, zeros where a window
/// leaves the picture, and one set of planes per phase of the strides. A tap of the kernel is then one offset, and a
/// sum over taps and channels reads memory in order, whatever the kernel, its strides and its dilations are.
class PlaneConvolution {
 public:
  /// Whether this processor and these operands fit.
  static bool supports(const Window& window, const at::Tensor& input, const at::Tensor& filters);

  /// `input`: [N, C, spatial...], `filters`: [M, C/groups, kernel...]; without `kernels` the fastest ones.
  PlaneConvolution(const Window& window, int64_t groups, at::IntArrayRef input, at::IntArrayRef filters,
                   const PlaneKernels* kernels = nullptr);

  int64_t plane_length() const { return length_; }
  int64_t planes() const { return phases() * channels_; }  ///< of the input
  at::IntArrayRef output_shape() const { return output_shape_; }

  /// The input as planes; they may be the input itself.
  at::Tensor pack_input(const at::Tensor& input) const;
  /// What becomes of a stretch of one row of results, in place; `begin` counts from the start of the M planes.
  using Finish = std::function<void(float* values, int64_t begin, int64_t count)>;
  /// Fills `result`, contiguous [N, M, spatial...]. `bias` may be undefined, `finish` empty.
  void forward(const at::Tensor& planes, const at::Tensor& filters, const at::Tensor& bias, const Finish& finish,
               const at::Tensor& result) const;

  /// A gradient of the result as planes, or itself; `finish` as above, before anything reads them.
  at::Tensor pack_gradient(const at::Tensor& gradient, const Finish& finish) const;
  at::Tensor bias_gradient(const at::Tensor& gradient_planes) const;
  at::Tensor filter_gradient(const at::Tensor& gradient_planes, const at::Tensor& input_planes) const;
  /// Fills `result`, contiguous and of the input's shape.
  void input_gradient(const at::Tensor& gradient_planes, const at::Tensor& filters, const at::Tensor& result) const;

 private:
  /// One spatial axis; an axis of 1-D convolutions that does not exist has length 1 everywhere.
  struct Axis {
    int64_t input = 1, output = 1, kernel = 1, stride = 1, dilation = 1, begin = 0;
    int64_t pitch = 1;  ///< positions per sample along this axis
    int64_t phase(int64_t tap) const { return tap * dilation % stride; }
    int64_t shift(int64_t tap) const { return tap * dilation / stride; }
    /// First position along the axis, and number of inputs there, of a phase.
    std::pair<int64_t, int64_t> content(int64_t phase) const;
    /// Whether rows of the input, of the result and of planes are the same.
    bool dense() const { return stride == 1 && begin == 0 && input == pitch && output == pitch; }
  };
  struct Tap {
    int64_t phase, offset;
  };

  int64_t positions() const { return samples_ * rows_.pitch * columns_.pitch; }
  int64_t phases() const { return rows_.stride * columns_.stride; }
  int64_t row_start(int64_t sample, int64_t row) const { return (sample * rows_.pitch + row) * columns_.pitch; }
  /// Zeros where a plane that holds `rows` by `columns` elements per sample has none, or everywhere.
  void clear_around(float* plane, int64_t rows, int64_t columns) const;
  void unpack_phase(const float* planes, int64_t phase, float* result) const;

  const PlaneKernels* kernels_;
  int64_t samples_, groups_, channels_, filters_;  ///< channels_, filters_: of all groups
  Axis rows_, columns_;
  std::vector<Tap> taps_;
  std::vector<int64_t> sources_;  ///< where the planes of a group's channels start for each tap, seen from the group's
  int64_t front_ = 0;             ///< zeros in front of the positions of a plane
  int64_t length_ = 0;            ///< of a plane, with zeros in front and behind
  bool dense_ = false;            ///< planes have no gaps: they are the tensors themselves
  std::vector<int64_t> input_shape_, filter_shape_, output_shape_;
};

}  // namespace espq
