# Finds what espq is built on. LibTorch comes from PyPI's wheel, ONNX from PyPI's source package (make deps), the rest from the system.

# The wheel bundles old google/ and fmt/ headers. -idirafter searches its folder after the system's, so the
# libraries that we link are also the ones that we compile against.
find_package(Torch 2.9 REQUIRED)
add_library(espq_libtorch INTERFACE)
add_library(espq::libtorch ALIAS espq_libtorch)
foreach(directory IN LISTS TORCH_INCLUDE_DIRS)
  target_compile_options(espq_libtorch INTERFACE "$<BUILD_INTERFACE:SHELL:-idirafter ${directory}>")
endforeach()
find_library(ESPQ_TORCH_CPU_LIBRARY torch_cpu PATHS "${TORCH_INSTALL_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
find_library(ESPQ_C10_LIBRARY c10 PATHS "${TORCH_INSTALL_PREFIX}/lib" NO_DEFAULT_PATH REQUIRED)
target_link_libraries(espq_libtorch INTERFACE ${ESPQ_TORCH_CPU_LIBRARY} ${ESPQ_C10_LIBRARY})
target_link_options(espq_libtorch INTERFACE "LINKER:-rpath,${TORCH_INSTALL_PREFIX}/lib")

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_path(ESPQ_FLATBUFFERS_INCLUDE flatbuffers/flatbuffers.h REQUIRED)
find_package(ONNX CONFIG REQUIRED)
find_package(Protobuf REQUIRED)
if(ESPQ_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(ESPQ_BUILD_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
