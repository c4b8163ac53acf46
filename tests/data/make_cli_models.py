#!/usr/bin/env python3
"""Writes tests/data/cli: tiny ONNX models, calibration data, and the float answers of onnxruntime.

Needs the packages onnx, onnxruntime and numpy.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "cli"
random = np.random.default_rng(7)


def parameter(name, *shape):
    return numpy_helper.from_array(random.normal(0, 0.3, shape).astype("f4"), name)


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save(name, nodes, inputs, outputs, parameters=(), check=True):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(parameters))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if check:
        onnx.checker.check_model(model)
    onnx.save(model, FOLDER / f"{name}.onnx")


def classifier(name, batch, searches=False):
    """Conv, Relu, MaxPool, Flatten, Gemm: the shape of most small networks. 18 channels leave a remainder of 2. One that
    searches answers with the number of the class."""
    search = [helper.make_node("ArgMax", ["scores/raw"], ["class"], "search", axis=1, keepdims=0)] if searches else []
    found = helper.make_tensor_value_info("class", TensorProto.INT64, [batch])
    save(
        name,
        [
            helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c1"], ["r1"], "relu"),
            helper.make_node("MaxPool", ["r1"], ["p1"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Flatten", ["p1"], ["f1"], "flatten"),
            helper.make_node("Gemm", ["f1", "w2", "b2"], ["scores/raw"], "gemm", transB=1),
        ]
        + search,
        [value("image", [batch, 3, 8, 8])],
        [found if searches else value("scores/raw", [batch, 10])],
        [parameter("w1", 18, 3, 3, 3), parameter("b1", 18), parameter("w2", 10, 288), parameter("b2", 10)],
    )


def main():
    (FOLDER / "calib").mkdir(parents=True, exist_ok=True)
    (FOLDER / "calib_pair").mkdir(exist_ok=True)
    classifier("classifier", 1)
    for name, batch, searches in (("classifier_dynamic", "N", False), ("classifier_class", 1, True)):
        random.bit_generator.state = np.random.default_rng(7).bit_generator.state
        classifier(name, batch, searches)
    save(
        "pair",
        [helper.make_node("Add", ["left", "right"], ["sum"], "add"), helper.make_node("Relu", ["sum"], ["out"], "relu")],
        [value("left", [1, 4, 4]), value("right", [1, 4, 4])],
        [value("out", [1, 4, 4])],
    )
    save("unknown_operator", [helper.make_node("Frobnicate", ["x"], ["y"], "frob", domain="")], [value("x", [1, 4])],
         [value("y", [1, 4])], check=False)

    batches = [random.normal(0, 1, (1, 3, 8, 8)).astype("f4") for _ in range(4)]
    for index, batch in enumerate(batches):
        np.save(FOLDER / "calib" / f"batch_{index}.npy", batch)
    bad = batches[0].copy()
    bad[0, 1, 2, 3] = np.nan
    np.save(FOLDER / "with_nan.npy", bad)
    np.save(FOLDER / "wrong_shape.npy", batches[0][:, :, :7])
    for index in range(2):
        pair = {name: random.normal(0, 1, (1, 4, 4)).astype("f4") for name in ("left", "right")}
        np.savez(FOLDER / "calib_pair" / f"batch_{index}.npz", **pair)
        if index == 0:
            for name, array in pair.items():
                np.save(FOLDER / f"{name}.npy", array)

    session = onnxruntime.InferenceSession(FOLDER / "classifier.onnx")
    np.save(FOLDER / "classifier_scores.npy", session.run(None, {"image": batches[0]})[0])


if __name__ == "__main__":
    main()
