#!/usr/bin/env python3
"""The referee of tests/random_networks: what onnxruntime computes for the same networks.

    pip install numpy onnx onnxruntime
    build/release/tests/random_networks/random_networks --seeds 1:1001 --out DIR --all
    tests/peer/random_networks.py DIR

For every network that survived: onnxruntime runs the file on the recorded inputs; its outputs are held against espq's
float results (they have to agree to float rounding) and against the board's (within four times the noise that rounding
to the network's widths makes, as espq measured it on the float network). What onnxruntime refuses, or computes
otherwise, is asked of the reference evaluator that the onnx package brings, the standard in code. Prints a line for
every network that differs and the counts.
"""
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnx.reference
import onnxruntime

MARGIN = 4  # as in tests/random_networks/trial.cpp
FLOAT_TOLERANCE = 1e-4


def size(values):
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64))))) if values.size else 0.0


def decibels(signal, noise):
    return 20 * np.log10((signal + 1e-12) / (noise + 1e-12))


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Fusions compute other functions here and there; the plain kernels are the reference.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def verdict_on(base, outputs, expected):
    """"agrees", or which of espq's results differ, and the lines to print."""
    verdict, lines = "agrees", []
    for name in outputs:
        reference = np.asarray(expected[name])
        ours = np.load(f"{base}.{name}.float.npy")
        board = np.load(f"{base}.{name}.board.npy")
        noise = float(np.load(f"{base}.{name}.expected.npy"))
        if list(reference.shape) != list(ours.shape):
            return "float differs", [f"{name}: shape {list(ours.shape)}, not {list(reference.shape)}"]
        signal = size(reference)
        apart = size(ours.astype(np.float64) - reference.astype(np.float64))
        if not apart <= FLOAT_TOLERANCE * signal + 1e-6:
            verdict = "float differs"
            lines.append(f"{name}: espq's float result is {decibels(signal, apart):.1f} dB from it")
        error = size(board.astype(np.float64) - reference.astype(np.float64))
        if not error <= MARGIN * noise + FLOAT_TOLERANCE * signal + 1e-6:
            verdict = "board differs" if verdict == "agrees" else verdict
            lines.append(f"{name}: board {decibels(signal, error):.1f} dB, {decibels(signal, noise):.1f} expected")
    return verdict, lines


def recorded_outputs(base):
    files = pathlib.Path(base).parent.glob(f"{pathlib.Path(base).name}.*.board.npy")
    return sorted(file.name[len(pathlib.Path(base).name) + 1 : -len(".board.npy")] for file in files)


def compare(path):
    """A verdict and the lines to print."""
    base = str(path)[: -len(".onnx")]
    model = onnx.load(path)
    outputs = recorded_outputs(base)
    if not outputs:
        return "not survived", []
    # Networks that end in a search (ArgMax) end in front of it on the chip.
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    inputs = {value.name: np.load(f"{base}.{value.name}.npy") for value in model.graph.input}
    try:
        verdict, lines = verdict_on(base, outputs, run(model, inputs))
        if verdict != "float differs":
            return verdict, lines
    except Exception as error:  # every kind of failure of the peer is a line of the report
        verdict, lines = "onnxruntime refuses", [str(error).splitlines()[0][:200]]
    try:
        values = onnx.reference.ReferenceEvaluator(model).run(None, inputs)
        second, _ = verdict_on(base, outputs, dict(zip(outputs, values)))
        lines.append(f"with the reference evaluator it {second}")
        if second == "agrees":
            verdict = "agrees with the reference evaluator"
    except Exception as error:
        lines.append("the reference evaluator refuses: " + (str(error).splitlines() or [""])[0][:100])
    return verdict, lines


def main():
    warnings.simplefilter("ignore")
    counts = {}
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx"), key=lambda each: int(each.stem)):
        verdict, lines = compare(path)
        counts[verdict] = counts.get(verdict, 0) + 1
        if lines:
            operators = " ".join(node.op_type for node in onnx.load(path).graph.node)
            print(f"{path.stem} | {operators} | {verdict} | {'; '.join(lines)}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return int(any(verdict.endswith("differs") for verdict in counts))


if __name__ == "__main__":
    sys.exit(main())
