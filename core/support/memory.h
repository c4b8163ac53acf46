#pragma once

namespace espq {

/// From now on this process keeps the memory that it frees, instead of giving it back to the system: a training step,
/// or a network that is run again and again, allocates what the run before it freed, and fresh pages cost it up to a
/// third of its time. Takes effect once, with glibc's allocator; elsewhere it does nothing.
void keep_freed_memory();

}  // namespace espq
