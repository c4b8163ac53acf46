# Defines espq::libtorch and espq::libtorch_cuda from an installed LibTorch. Used by the build and by the installed package.
# ESPQ_TORCH_HINT, the folder that make deps linked or that the installed package was built with, Torch_DIR and
# CMAKE_PREFIX_PATH are searched, in this order.
# LibTorch's own CMake package is not used: it demands the CUDA toolkit for wheels that can do CUDA, while espq needs
# two libraries and the headers.
file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" espq_environment_prefixes)
find_file(ESPQ_TORCH_VERSION_FILE TorchConfigVersion.cmake
          PATHS ${ESPQ_TORCH_HINT} ${Torch_DIR} ${CMAKE_PREFIX_PATH} ${espq_environment_prefixes}
          PATH_SUFFIXES share/cmake/Torch Torch NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
if(NOT ESPQ_TORCH_VERSION_FILE)
  message(FATAL_ERROR "LibTorch was not found: run `make deps`, or set CMAKE_PREFIX_PATH to what "
                      "python3 -c 'import torch; print(torch.utils.cmake_prefix_path)' prints")
endif()
cmake_path(GET ESPQ_TORCH_VERSION_FILE PARENT_PATH espq_torch_package)
get_filename_component(ESPQ_TORCH_PREFIX "${espq_torch_package}/../../.." ABSOLUTE)
include("${ESPQ_TORCH_VERSION_FILE}")
if(PACKAGE_VERSION VERSION_LESS 2.9)
  message(FATAL_ERROR "LibTorch ${PACKAGE_VERSION} at ${ESPQ_TORCH_PREFIX} is too old: espq needs 2.9 or newer")
endif()
message(STATUS "LibTorch ${PACKAGE_VERSION}: ${ESPQ_TORCH_PREFIX}")
find_library(ESPQ_TORCH_CPU_LIBRARY torch_cpu PATHS "${ESPQ_TORCH_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
find_library(ESPQ_C10_LIBRARY c10 PATHS "${ESPQ_TORCH_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
add_library(espq::libtorch INTERFACE IMPORTED GLOBAL)
# The wheel bundles old google/ and fmt/ headers. -idirafter searches its folder after the system's, so the
# libraries that we link are also the ones that we compile against.
foreach(directory include include/torch/csrc/api/include)
  target_compile_options(espq::libtorch INTERFACE "SHELL:-idirafter ${ESPQ_TORCH_PREFIX}/${directory}")
endforeach()
target_link_libraries(espq::libtorch INTERFACE ${ESPQ_TORCH_CPU_LIBRARY} ${ESPQ_C10_LIBRARY})
# at::parallel_for is a template that uses threads only where OpenMP is on. The compiler adds its library: the wheel's
# folder comes first at run time, so that LibTorch's threads are the ones (clang's library serves LibTorch, too).
find_package(OpenMP REQUIRED COMPONENTS CXX)
separate_arguments(espq_openmp UNIX_COMMAND "${OpenMP_CXX_FLAGS}")
target_compile_options(espq::libtorch INTERFACE ${espq_openmp})
target_link_options(espq::libtorch INTERFACE ${espq_openmp})
target_link_options(espq::libtorch INTERFACE "LINKER:-rpath,${ESPQ_TORCH_PREFIX}/lib")
# Nothing calls the CUDA library: loading it is what lets tensors live on CUDA devices. Empty without CUDA.
add_library(espq::libtorch_cuda INTERFACE IMPORTED GLOBAL)
find_library(ESPQ_TORCH_CUDA_LIBRARY torch_cuda PATHS "${ESPQ_TORCH_PREFIX}/lib" NO_DEFAULT_PATH)
if(ESPQ_TORCH_CUDA_LIBRARY)
  find_library(ESPQ_C10_CUDA_LIBRARY c10_cuda PATHS "${ESPQ_TORCH_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
  target_link_libraries(espq::libtorch_cuda INTERFACE
    "-Wl,--push-state,--no-as-needed,${ESPQ_TORCH_CUDA_LIBRARY},${ESPQ_C10_CUDA_LIBRARY},--pop-state")
endif()
# Whatever is searched for after this comes from the system, not from the wheel.
list(APPEND CMAKE_IGNORE_PREFIX_PATH "${ESPQ_TORCH_PREFIX}")
