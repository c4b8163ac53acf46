#include <dlfcn.h>

#include <cstdlib>
#include <iostream>

#include "cli/parse.h"
#include "cli/verbs.h"

// LibTorch takes about half a second to load and initialise. The verbs live in a library of their own that is loaded
// only when a verb runs, so that help, version and usage errors come at once.
int main(int argc, char** argv) {
  const auto parsed = espq::cli::parse_command_line(argc, argv);
  if (const int* exit_code = std::get_if<int>(&parsed)) return *exit_code;

  bool waits_as_told = false;
  // Threads that have nothing to do sleep instead of spinning: beside another busy process they would take its time,
  // and the thread that they wait for, as well. Read when LibTorch's OpenMP library is loaded.
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})
    if (std::getenv(name)) waits_as_told = true;
  if (!waits_as_told) setenv("OMP_WAIT_POLICY", "passive", 1);
  void* library = dlopen(ESPQ_VERBS_LIBRARY, RTLD_LAZY | RTLD_LOCAL);
  void* symbol = library ? dlsym(library, "espq_execute") : nullptr;
  if (!symbol) {
    std::cerr << "espq: the installation is damaged: " << dlerror() << "\n";
    return espq::cli::kFailure;
  }
  return reinterpret_cast<decltype(&espq_execute)>(symbol)(std::get<espq::cli::CommandLine>(parsed));
}
