# -O2: the few kernels that want more say so themselves; it halves the build time.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# espq_compile_flags: flags every target of the project shares.
add_library(espq_flags INTERFACE)
target_include_directories(espq_flags INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>"
                                                "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/espq>")
# GCC 12 reports false string warnings inside its own <string> for literal + std::string (GCC bug 105651).
target_compile_options(espq_flags INTERFACE
                       "$<BUILD_INTERFACE:-Wall;-Wextra;-Wno-unused-parameter;-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds>")
if(ESPQ_WERROR)
  target_compile_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-Werror>")
endif()
if(ESPQ_SANITIZE)
  target_compile_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-fsanitize=${ESPQ_SANITIZE};-fno-omit-frame-pointer>")
  target_link_options(espq_flags INTERFACE "$<BUILD_INTERFACE:-fsanitize=${ESPQ_SANITIZE}>")
endif()

# espq_room(NAME SOURCES a.cpp ... DEPENDS other_rooms_or_libraries ...): the static library espq_NAME, alias espq::NAME.
# All rooms reuse one precompiled header with LibTorch in it; NO_PCH rooms never see LibTorch.
function(espq_room name)
  cmake_parse_arguments(ROOM "NO_PCH" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(espq_${name} STATIC ${ROOM_SOURCES})
  add_library(espq::${name} ALIAS espq_${name})
  target_link_libraries(espq_${name} PUBLIC espq_flags ${ROOM_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY ESPQ_ROOMS espq_${name})
  if(NOT ROOM_NO_PCH)
    target_link_libraries(espq_${name} PUBLIC espq_libtorch)
    if(TARGET espq_support AND NOT name STREQUAL "support")
      target_precompile_headers(espq_${name} REUSE_FROM espq_support)
    endif()
  endif()
endfunction()
