# cmake -DPROGRAM=... -DFOLDER=... -P check_digits_processes.cmake: two processes give the table and the files of one.
file(REMOVE_RECURSE "${FOLDER}")
foreach(processes 1 2)
  execute_process(COMMAND "${PROGRAM}" "${FOLDER}/${processes}" 1 --nproc ${processes} COMMAND_ERROR_IS_FATAL ANY
                  OUTPUT_VARIABLE text)
  string(REGEX MATCH "accuracy.*esp32p4.*esp32s3[^\n]*" table_${processes} "${text}")
endforeach()
if(NOT table_1 OR NOT table_1 STREQUAL table_2)
  message(FATAL_ERROR "one process: ${table_1}\ntwo processes: ${table_2}")
endif()
foreach(chip esp32p4 esp32s3)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${FOLDER}/1/${chip}.espdl" "${FOLDER}/2/${chip}.espdl"
                  COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND "${PROGRAM}" "${FOLDER}/3" 1 --nproc 3 RESULT_VARIABLE status ERROR_VARIABLE text OUTPUT_QUIET)
if(status EQUAL 0 OR NOT text MATCHES "cannot be shared by 3 processes")
  message(FATAL_ERROR "three processes cannot share batches of 32: ${status}, ${text}")
endif()
