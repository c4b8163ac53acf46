# `cmake --install` gives headers, libraries, the espq tool and a package for find_package(espq CONFIG).
include(CMakePackageConfigHelpers)
get_property(espq_rooms GLOBAL PROPERTY ESPQ_ROOMS)

# The umbrella: everything that this build has.
add_library(espq_all INTERFACE)
add_library(espq::espq ALIAS espq_all)
set_target_properties(espq_all PROPERTIES EXPORT_NAME espq)
target_link_libraries(espq_all INTERFACE ${espq_rooms})
if(ESPQ_WITHOUT_ONNX)
  target_compile_definitions(espq_all INTERFACE ESPQ_WITHOUT_ONNX)
endif()

install(TARGETS espq_all espq_flags ${espq_rooms} EXPORT espqTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(espq_package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/espq")
install(EXPORT espqTargets NAMESPACE espq:: DESTINATION ${espq_package_folder})
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/espqConfig.cmake.in" "${PROJECT_BINARY_DIR}/espqConfig.cmake"
                              INSTALL_DESTINATION ${espq_package_folder})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/espqConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/espqConfig.cmake" "${PROJECT_BINARY_DIR}/espqConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/EspqLibtorch.cmake" "${CMAKE_CURRENT_LIST_DIR}/EspqOnnx.cmake"
        DESTINATION ${espq_package_folder})

# Headers keep their paths, so that they include each other installed as they do here.
foreach(folder core passes onnx_file onnx_frontend torch_frontend export qat)
  if(IS_DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/espq"
            FILES_MATCHING PATTERN "*.h" PATTERN "declarations" EXCLUDE)
  endif()
endforeach()
install(FILES "${PROJECT_SOURCE_DIR}/espq/espq.h" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/espq")
if(IS_DIRECTORY "${PROJECT_SOURCE_DIR}/recipes")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/recipes" DESTINATION "${CMAKE_INSTALL_DATADIR}/espq")
endif()
