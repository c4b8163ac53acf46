# cmake -DPROGRAM=... -DNETWORKS=... -DPOSE_NETWORK=... -DFOLDER=... -P check_yolo_errors.cmake: wrong options end with a
# code that is not 0 and a text that says what is wrong.
file(REMOVE_RECURSE "${FOLDER}")
file(WRITE "${FOLDER}/network.txt" "no network")
file(WRITE "${FOLDER}/empty.json" "{}")
set(network --network "${NETWORKS}/maps.onnx")

# expect(PATTERN ARGUMENT...)
function(expect pattern)
  execute_process(COMMAND "${PROGRAM}" --drawn-images 3 --calibration-images 1 --epochs 1 --threads 1 --out "${FOLDER}/out"
                          ${ARGN}
                  RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT code MATCHES "^[0-9]+$" OR code EQUAL 0)
    message(FATAL_ERROR "${ARGN}: ended with ${code}\n${text}")
  elseif(NOT text MATCHES "${pattern}")
    message(FATAL_ERROR "${ARGN}: '${pattern}' is not in\n${text}")
  endif()
endfunction()

expect("not expected: --nonsense" --nonsense)
expect("--network: .*none.onnx" --network none.onnx)
expect("network.txt: expected an .onnx, .pt or .pt2 file" --network "${FOLDER}/network.txt")
expect("--batch: " --batch 0)
expect("--average: " --average 1)
expect("--keypoint-values: " --keypoint-values 4)
expect("--nproc: " --nproc 0)
expect("give annotations to train on and to validate with" --train-annotations "${FOLDER}/empty.json")
expect("--test-annotations needs --train-annotations" --test-annotations "${FOLDER}/empty.json")
expect("empty.json: " --train-annotations "${FOLDER}/empty.json" --val-annotations "${FOLDER}/empty.json")
expect("has no tensor 'nonsense'" ${network} --outputs nonsense)
expect("the network has 3 outputs" ${network} --outputs box0 class0 box1)
expect("the network has 9 outputs" --network "${POSE_NETWORK}")
expect("esp9" ${network} --target esp9)
expect("network.txt" ${network} --recipe "${FOLDER}/network.txt")
