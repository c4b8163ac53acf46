# mold before 2.4.0 protects the wrong pages after a small thread-local section (mold issue 1151): the loader refuses
# such programs, and whether a program is hit depends on the length of the build folder's path. So the linker that the
# flags choose is asked for its name here, whichever way they choose it.
set(espq_mold_minimum 2.4.0)

function(espq_check_linker)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" config)
  foreach(kind EXE SHARED MODULE)
    set(flags "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${config}}")
    string(APPEND flags " ${CMAKE_${kind}_LINKER_FLAGS} ${CMAKE_${kind}_LINKER_FLAGS_${config}}")
    separate_arguments(arguments UNIX_COMMAND "${flags}")
    execute_process(COMMAND "${CMAKE_CXX_COMPILER}" ${arguments} -Wl,--version OUTPUT_VARIABLE version ERROR_QUIET)
    if(version MATCHES "^mold ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_LESS espq_mold_minimum)
      message(FATAL_ERROR
              "The flags in CMAKE_CXX_FLAGS or CMAKE_${kind}_LINKER_FLAGS link with mold ${CMAKE_MATCH_1}, which writes "
              "programs that do not start (mold issue 1151). Leave out -fuse-ld=mold, or use mold ${espq_mold_minimum}.")
    endif()
  endforeach()
endfunction()
espq_check_linker()
