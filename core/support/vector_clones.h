#pragma once

// A loop that the compiler turns into vector code for what the machine has. The clones give the same numbers where
// every element is rounded once per operation in the order written: in files compiled with -ffp-contract=off.
#define ESPQ_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
