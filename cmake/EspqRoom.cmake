# -O2: the few kernels that want more say so themselves; it halves the build time.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# espq_flags: what every target of the project shares.
add_library(espq_flags INTERFACE)
set_target_properties(espq_flags PROPERTIES EXPORT_NAME flags)
target_compile_features(espq_flags INTERFACE cxx_std_20)
# Installed headers keep their paths below include/espq; "espq/espq.h" itself is found from include.
target_include_directories(espq_flags INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>"
                                                "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
                                                "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/espq>")
# GCC 12 reports false string warnings inside its own <string> for literal + std::string (GCC bug 105651).
target_compile_options(espq_flags INTERFACE
                       "$<BUILD_INTERFACE:-Wall;-Wextra;-Wno-unused-parameter;-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>")
# Executables too, as a precompiled header serves only one kind of position-independent code.
# ccache needs -fpch-preprocess to see what a precompiled header stands for.
target_compile_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-fPIC;-fpch-preprocess>")
if(ESPQ_WERROR)
  target_compile_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-Werror>")
endif()
if(ESPQ_SANITIZE)
  # The instrumentation hides initializations from GCC, which then warns about variants that are never read.
  target_compile_options(espq_flags INTERFACE
    "$<BUILD_INTERFACE:-fsanitize=${ESPQ_SANITIZE};-fno-omit-frame-pointer;-Wno-maybe-uninitialized>")
  target_link_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-fsanitize=${ESPQ_SANITIZE}>")
endif()

# espq_room(NAME SOURCES a.cpp ... DEPENDS rooms_or_libraries ... [PRIVATE_DEPENDS libraries ...]): the static library
# espq_NAME, alias espq::NAME, installed and exported. What only the sources use is a PRIVATE_DEPENDS.
# All rooms reuse one precompiled header with LibTorch in it; NO_PCH rooms never see LibTorch.
function(espq_room name)
  cmake_parse_arguments(ROOM "NO_PCH" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(espq_${name} STATIC ${ROOM_SOURCES})
  add_library(espq::${name} ALIAS espq_${name})
  set_target_properties(espq_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(espq_${name} PUBLIC espq_flags ${ROOM_DEPENDS} PRIVATE ${ROOM_PRIVATE_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY ESPQ_ROOMS espq_${name})
  if(NOT ROOM_NO_PCH)
    target_link_libraries(espq_${name} PUBLIC espq::libtorch)
    if(TARGET espq_support AND NOT name STREQUAL "support")
      target_precompile_headers(espq_${name} REUSE_FROM espq_support)
    endif()
  endif()
endfunction()
