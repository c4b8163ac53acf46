# A linker that says that it is mold, and flags that choose it: old ones end the configuration, fixed ones do not.
function(expect variable version answer)
  file(WRITE "${WORK}/ld.mold" "#!/bin/sh\necho 'mold ${version} (compatible with GNU ld)'\n")
  file(CHMOD "${WORK}/ld.mold" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  execute_process(COMMAND "${CMAKE_COMMAND}" "-DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER}" -DCMAKE_BUILD_TYPE=Release
                          "-D${variable}=-B${WORK} -fuse-ld=mold" -P "${MODULES}/EspqLinker.cmake"
                  RESULT_VARIABLE result ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")  # CMake wraps messages
  if(answer STREQUAL "refused" AND (result EQUAL 0 OR NOT output MATCHES "mold ${version}"))
    message(SEND_ERROR "${variable}: mold ${version} was accepted: ${output}")
  elseif(answer STREQUAL "accepted" AND NOT result EQUAL 0)
    message(SEND_ERROR "${variable}: mold ${version} was refused: ${output}")
  endif()
endfunction()

file(MAKE_DIRECTORY "${WORK}")
foreach(variable CMAKE_CXX_FLAGS CMAKE_CXX_FLAGS_RELEASE CMAKE_EXE_LINKER_FLAGS CMAKE_SHARED_LINKER_FLAGS
                 CMAKE_MODULE_LINKER_FLAGS CMAKE_EXE_LINKER_FLAGS_RELEASE)
  expect(${variable} 1.10.1 refused)
endforeach()
expect(CMAKE_EXE_LINKER_FLAGS 2.3.3 refused)
expect(CMAKE_EXE_LINKER_FLAGS 2.4.0 accepted)
expect(CMAKE_EXE_LINKER_FLAGS 2.30.0 accepted)
