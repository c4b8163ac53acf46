#include "core/support/memory.h"

#include <cstdlib>  // defines __GLIBC__

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace espq {

void keep_freed_memory() {
#ifdef __GLIBC__
  // 32 MiB is the largest threshold that glibc accepts on 64-bit systems; larger tensors come from the system.
  [[maybe_unused]] static const bool once =
      mallopt(M_MMAP_THRESHOLD, 32 << 20) && mallopt(M_TRIM_THRESHOLD, -1) && mallopt(M_TOP_PAD, 4 << 20);
#endif
}

}  // namespace espq
