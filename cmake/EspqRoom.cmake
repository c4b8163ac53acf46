# espq_flags: what every target of the project shares.
add_library(espq_flags INTERFACE)
target_compile_features(espq_flags INTERFACE cxx_std_20)
target_include_directories(espq_flags INTERFACE "${PROJECT_SOURCE_DIR}")
# Executables are position independent, too, as a precompiled header serves only one kind of code.
set(espq_options -Wall -Wextra -Wno-unused-parameter -fPIC)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false string warnings inside its own <string> for literal + std::string (GCC bug 105651).
  list(APPEND espq_options -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
  list(APPEND espq_options -fpch-preprocess)  # lets ccache see what a precompiled header stands for
else()
  list(APPEND espq_options "SHELL:-Xclang -fno-pch-timestamp")  # the same precompiled header for ccache in every build
endif()
if(ESPQ_WERROR)
  list(APPEND espq_options -Werror)
endif()
target_compile_options(espq_flags INTERFACE ${espq_options})
if(ESPQ_SANITIZE)
  # What AddressSanitizer or the processor catches in any case, checked at every use of a pointer, would double the time
  # that the compiler takes and treble the objects.
  target_compile_options(espq_flags INTERFACE
    -fsanitize=${ESPQ_SANITIZE} -fno-sanitize=null,alignment,object-size,vptr -fno-omit-frame-pointer
    # The instrumentation hides initializations from GCC, which then warns about variants that are never read.
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>")
  target_link_options(espq_flags INTERFACE -fsanitize=${ESPQ_SANITIZE})
endif()

# For the rooms with vector_clones.h in them, whose loops give the chip's numbers or go through whole tensors: every operation is rounded once, in the order written (no
# fused multiply-add), and -O3 makes vector code of them, which comparisons prevent as long as they count as able to trap.
set(ESPQ_EXACT_LOOPS "$<$<NOT:$<CONFIG:Debug>>:-O3>" -ffp-contract=off -fno-trapping-math)

# espq_room(NAME SOURCES a.cpp ... DEPENDS rooms_or_libraries ... [PRIVATE_DEPENDS libraries ...]): the static library
# espq_NAME, alias espq::NAME, which becomes part of libespq. What only the sources use is a PRIVATE_DEPENDS.
# All rooms reuse one precompiled header with LibTorch in it; NO_PCH rooms never see LibTorch.
function(espq_room name)
  cmake_parse_arguments(ROOM "NO_PCH" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(espq_${name} STATIC ${ROOM_SOURCES})
  add_library(espq::${name} ALIAS espq_${name})
  target_link_libraries(espq_${name} PUBLIC espq_flags ${ROOM_DEPENDS} PRIVATE ${ROOM_PRIVATE_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY ESPQ_ROOMS espq_${name})
  foreach(library ${ROOM_DEPENDS} ${ROOM_PRIVATE_DEPENDS})
    if(NOT library MATCHES "^espq::" OR library STREQUAL "espq::libtorch_cuda")
      set_property(GLOBAL APPEND PROPERTY ESPQ_EXTERNALS ${library})
    endif()
  endforeach()
  if(NOT ROOM_NO_PCH)
    target_link_libraries(espq_${name} PUBLIC espq::libtorch)
    if(TARGET espq_support AND NOT name STREQUAL "support")
      target_precompile_headers(espq_${name} REUSE_FROM espq_support)
    endif()
  endif()
endfunction()
