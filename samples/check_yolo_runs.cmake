# cmake -DPROGRAM=... -DFOLDER=... -P check_yolo_runs.cmake: a run that was stopped and goes on gives the bytes of one
# that was not, and so do two processes.
file(REMOVE_RECURSE "${FOLDER}")
set(run "${PROGRAM}" --drawn-images 24 --calibration-images 8 --epochs 2 --batch 8 --threads 1 --average 0.9 --no-board)
execute_process(COMMAND ${run} --out "${FOLDER}/whole" COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
execute_process(COMMAND ${run} --out "${FOLDER}/parts" --stop-after 4 RESULT_VARIABLE status OUTPUT_VARIABLE message)
if(status EQUAL 0 OR NOT message MATCHES "stopped after 4 of 6 steps")
  message(FATAL_ERROR "the run did not stop: ${message}")
endif()
execute_process(COMMAND ${run} --out "${FOLDER}/parts" --resume COMMAND_ERROR_IS_FATAL ANY OUTPUT_VARIABLE text)
if(NOT text MATCHES "resumed after 4 steps")
  message(FATAL_ERROR "the run did not go on: ${text}")
endif()
file(GLOB written RELATIVE "${FOLDER}/whole" "${FOLDER}/whole/*.espdl")
if(NOT written)
  message(FATAL_ERROR "no file was written")
endif()
foreach(name ${written} best.state last.state)  # the last one: after every step
  execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${FOLDER}/whole/${name}" "${FOLDER}/parts/${name}"
                  COMMAND_ERROR_IS_FATAL ANY)
endforeach()

# Two processes that share the two batches of a step take the steps of one that computes both.
set(run "${PROGRAM}" --drawn-images 24 --calibration-images 8 --epochs 1 --batch 4 --threads 1 --no-board --accumulate 2)
execute_process(COMMAND ${run} --out "${FOLDER}/one" COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
execute_process(COMMAND ${run} --out "${FOLDER}/two" --nproc 2 COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
execute_process(COMMAND "${CMAKE_COMMAND}" -E compare_files "${FOLDER}/one/last.state" "${FOLDER}/two/last.state"
                COMMAND_ERROR_IS_FATAL ANY)
