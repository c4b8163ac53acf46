# libespq: all rooms in one shared library, the one that is installed. Tests link single rooms, so that an arrow that is
# not written in a room's DEPENDS does not link; programs for users link this.
get_property(espq_rooms GLOBAL PROPERTY ESPQ_ROOMS)
get_property(espq_externals GLOBAL PROPERTY ESPQ_EXTERNALS)
list(REMOVE_DUPLICATES espq_externals)

add_library(espq_library SHARED)
add_library(espq::espq ALIAS espq_library)
set_target_properties(espq_library PROPERTIES OUTPUT_NAME espq EXPORT_NAME espq VERSION ${PROJECT_VERSION}
                                              SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
foreach(room ${espq_rooms})
  target_sources(espq_library PRIVATE "$<TARGET_OBJECTS:${room}>")
endforeach()
target_compile_features(espq_library INTERFACE cxx_std_20)
target_include_directories(espq_library INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
# Public: what public headers include. The rest is inside, ONNX's and protobuf's symbols hidden.
target_link_libraries(espq_library PUBLIC "$<BUILD_INTERFACE:espq_flags>" espq::libtorch fmt::fmt
                                          nlohmann_json::nlohmann_json
                                   PRIVATE ${espq_externals})
target_link_options(espq_library PRIVATE "LINKER:--exclude-libs,ALL")
if(NOT ESPQ_SANITIZE)
  target_link_options(espq_library PRIVATE "LINKER:--no-undefined")
endif()
if(ESPQ_WITHOUT_ONNX)
  target_compile_definitions(espq_library INTERFACE ESPQ_WITHOUT_ONNX)
endif()
