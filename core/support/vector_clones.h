#pragma once

// A loop that the compiler turns into vector code for what the machine has. The clones give the same numbers where
// every element is rounded once per operation in the order written: in rooms compiled with ESPQ_EXACT_LOOPS.
// On other processor families it is compiled once, for what the build's flags allow.
#if !defined(__x86_64__)
#define ESPQ_CLONES
#elif defined(__clang__)  // clang 14 takes x86-64-v4 and then chooses that clone on every processor
#define ESPQ_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ESPQ_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif

// In front of a loop whose iterations share no memory but the element that they write.
#if defined(__clang__)
#define ESPQ_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define ESPQ_INDEPENDENT _Pragma("GCC ivdep")
#endif
