# Finds the ONNX C++ library and the protobuf that it was built with. Used by the build and by the installed package.
set(Protobuf_USE_STATIC_LIBS ON)
find_package(Protobuf REQUIRED)
find_package(ONNX 1.16 CONFIG REQUIRED HINTS ${ESPQ_ONNX_HINT})
