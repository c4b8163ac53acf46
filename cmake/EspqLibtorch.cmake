# Defines espq::libtorch from an installed LibTorch. Used by the build and by the installed package.
# HINTS: the folder that make deps linked, or that the installed package was built with; CMAKE_PREFIX_PATH works too.
find_package(Torch 2.9 REQUIRED HINTS ${ESPQ_TORCH_HINT})
find_library(ESPQ_TORCH_CPU_LIBRARY torch_cpu PATHS "${TORCH_INSTALL_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
find_library(ESPQ_C10_LIBRARY c10 PATHS "${TORCH_INSTALL_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
add_library(espq::libtorch INTERFACE IMPORTED GLOBAL)
# The wheel bundles old google/ and fmt/ headers. -idirafter searches its folder after the system's, so the
# libraries that we link are also the ones that we compile against.
foreach(directory IN LISTS TORCH_INCLUDE_DIRS)
  target_compile_options(espq::libtorch INTERFACE "SHELL:-idirafter ${directory}")
endforeach()
target_link_libraries(espq::libtorch INTERFACE ${ESPQ_TORCH_CPU_LIBRARY} ${ESPQ_C10_LIBRARY})
target_link_options(espq::libtorch INTERFACE "LINKER:-rpath,${TORCH_INSTALL_PREFIX}/lib")
# Whatever is searched for after this comes from the system, not from the wheel.
list(APPEND CMAKE_IGNORE_PREFIX_PATH "${TORCH_INSTALL_PREFIX}")
