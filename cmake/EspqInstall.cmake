# `cmake --install` gives libespq, its public headers, the espq tool and a package for find_package(espq CONFIG).
include(CMakePackageConfigHelpers)
install(TARGETS espq_library EXPORT espqTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
set(espq_package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/espq")
install(EXPORT espqTargets NAMESPACE espq:: DESTINATION ${espq_package_folder})
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/espqConfig.cmake.in" "${PROJECT_BINARY_DIR}/espqConfig.cmake"
                              INSTALL_DESTINATION ${espq_package_folder})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/espqConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/espqConfig.cmake" "${PROJECT_BINARY_DIR}/espqConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/EspqLibtorch.cmake"
        DESTINATION ${espq_package_folder})

# Public headers are espq/espq.h and what it includes. All lie below include/espq and include each other with that prefix.
install(CODE "set(ESPQ_SOURCE \"${PROJECT_SOURCE_DIR}\")
              set(ESPQ_INCLUDE \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}\")
              include(\"${CMAKE_CURRENT_LIST_DIR}/PublicHeaders.cmake\")
              espq_install_public_headers()")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/recipes" DESTINATION "${CMAKE_INSTALL_DATADIR}/espq")
