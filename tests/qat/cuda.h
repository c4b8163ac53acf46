#pragma once
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

namespace espq::test {

inline int cuda_devices() { return at::detail::getCUDAHooks().getNumGPUs(); }
inline bool has_cuda() { return cuda_devices() > 0; }

/// While it lives, backward passes on CUDA compute in whole float32; espq's forward passes always do.
class WholeFloat32 {
 public:
  WholeFloat32() { at::globalContext().setAllowTF32CuDNN(false); }
  ~WholeFloat32() { at::globalContext().setAllowTF32CuDNN(before_); }

 private:
  bool before_ = at::globalContext().allowTF32CuDNN();
};

}  // namespace espq::test
