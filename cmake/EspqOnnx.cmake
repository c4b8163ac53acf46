# Finds the ONNX C++ library and the protobuf that it was built with. Used by the build and by the installed package.
find_package(Protobuf REQUIRED)
find_package(ONNX 1.16 CONFIG REQUIRED HINTS ${ESPQ_ONNX_HINT})
# The package exports no include folder.
get_filename_component(espq_onnx_prefix "${ONNX_DIR}/../../.." ABSOLUTE)
find_path(ESPQ_ONNX_INCLUDE onnx/onnx_pb.h PATHS "${espq_onnx_prefix}/include" NO_DEFAULT_PATH REQUIRED)
target_include_directories(ONNX::onnx_proto SYSTEM INTERFACE "${ESPQ_ONNX_INCLUDE}")
