# cmake -DPROGRAM=... -DFOLDER=... -P check_yolo_runs.cmake: a run that was stopped, by
# signals, too, and goes on gives the bytes of one that was not, and so do two processes.
file(REMOVE_RECURSE "${FOLDER}")
set(run "${PROGRAM}" --drawn-images 24 --calibration-images 8 --epochs 2 --batch 8 --threads 1 --average 0.9 --no-board)
execute_process(COMMAND ${run} --out "${FOLDER}/whole" COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
execute_process(COMMAND ${run} --out "${FOLDER}/parts" --stop-after 1 RESULT_VARIABLE status OUTPUT_VARIABLE message)
if(NOT status EQUAL 3 OR NOT message MATCHES "stopped after 1 of 6 steps")
  message(FATAL_ERROR "the run did not stop: ${status}, ${message}")
endif()
# A signal arrives as soon as the run says that it goes on.
set(interrupt [[
rm -f "$0"; "$@" > "$0" & run=$!
until grep -qs "resumed after" "$0"; do kill -0 $run || exit 1; sleep 0.02; done
kill -$SIGNAL $run; wait $run]])
foreach(signal INT TERM)
  execute_process(COMMAND "${CMAKE_COMMAND}" -E env SIGNAL=${signal} sh -c "${interrupt}" "${FOLDER}/parts/log.txt" ${run}
                          --out "${FOLDER}/parts" --resume
                  RESULT_VARIABLE status)
  file(READ "${FOLDER}/parts/log.txt" message)
  if(NOT status EQUAL 3 OR NOT message MATCHES "stopped after [2-5] of 6 steps")
    message(FATAL_ERROR "SIG${signal} did not stop the run: ${status}, ${message}")
  endif()
endforeach()
execute_process(COMMAND ${run} --out "${FOLDER}/parts" --resume COMMAND_ERROR_IS_FATAL ANY OUTPUT_VARIABLE text)
if(NOT text MATCHES "resumed after [3-5] steps")
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
