"""Writes incumbent_passes.onnx and .json: what esp-ppq 1.3.12 makes of every pattern that its formatting rewrites.

Usage: PYTHONHASHSEED=0 python make_incumbent_passes.py   (needs esp-ppq==1.3.12, torch, onnx)

The .json lists the operations in insertion order after formatting and ConvTranspose decomposition: [type, name, inputs,
outputs, values of the float constants]. Names that esp-ppq generated are "*".
"""
import contextlib
import io
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

with contextlib.redirect_stdout(io.StringIO()):
    from esp_ppq.api.interface import load_onnx_graph
    from esp_ppq.quantization.optim import ConvTransposeDecompositionPass

random = np.random.default_rng(5)
nodes, constants = [], []


def constant(name, shape=None, value=None, low=-1.0):
    array = np.asarray(value) if value is not None else random.uniform(low, 1, shape).astype(np.float32)
    constants.append(numpy_helper.from_array(array, name))
    return name


def add(type, name, inputs, **attributes):
    nodes.append(helper.make_node(type, inputs, [name + "_out"], name=name, **attributes))
    return name + "_out"


def batch_normalization(name, x, channels):
    statistics = [constant(f"{name}.{part}", [channels], low=0.1) for part in ("gamma", "beta", "mean", "var")]
    return add("BatchNormalization", name, [x, *statistics], epsilon=1e-3)


def mean_of_squares(name, x):
    square = add("Pow", name + "_pow", [x, constant(name + ".two", value=np.float32(2))])
    return add("ReduceMean", name + "_mean", [square, constant(name + ".axes", value=np.array([-1]))], keepdims=1)


x = add("Conv", "conv_bn", ["x", constant("w0", [4, 3, 3, 3])], pads=[1, 1, 1, 1])
x = batch_normalization("bn0", x, 4)
x = add("Mul", "swish_mul", [x, add("Sigmoid", "swish_sigmoid", [x])])
x = batch_normalization("bn_alone", x, 4)
x = add("Conv", "conv_add", [x, constant("w1", [4, 2, 1, 1])], group=2)
x = add("Add", "add_bias", [x, constant("shift", [1, 4, 1, 1])])
x = add("Identity", "identity", [x])
up = add("ConvTranspose", "up_bn", [x, constant("w2", [4, 3, 3, 3]), constant("b2", [6])], group=2, strides=[2, 2])
up = batch_normalization("bn2", up, 6)
up = add("Mul", "input_mul", [up, constant("gain", [1, 6, 1, 1])])
root = add("Sqrt", "rms_sqrt", [add("Add", "rms_add", [mean_of_squares("rms", up), constant("rms.eps", value=np.float32(1e-4))])])
rms = add("Mul", "rms_gain", [add("Div", "rms_div", [up, root]), constant("rms.gain", [9])])
norm = add("ReduceL2", "lp_norm", [rms, constant("lp.axes", value=np.array([1]))], keepdims=1)
norm = add("Clip", "lp_clip", [norm, constant("lp.min", value=np.float32(1e-12))])
lp = add("Div", "lp_div", [rms, add("Expand", "lp_expand", [norm, constant("lp.shape", value=np.array([1, 6, 9, 9]))])])
flat = add("Flatten", "flatten", [lp], axis=1)
y = add("Gemm", "gemm_bn", [flat, constant("w3", [5, 6 * 9 * 9]), constant("b3", [5])], transB=1)
y = batch_normalization("bn3", y, 5)
z = add("Gemm", "gemm_add", [y, constant("w4", [5, 3])])
z = add("Add", "add_gemm", [constant("shift4", [3]), z])
add("Relu", "last", [z])
add("Neg", "dead", [y])
nodes[-2].output[0] = "y"

graph = helper.make_graph(
    nodes, "passes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
file = pathlib.Path(__file__).with_name("incumbent_passes.onnx")
onnx.save(model, file)

with contextlib.redirect_stdout(io.StringIO()):
    formatted = load_onnx_graph(str(file))  # formats it as well
    ConvTransposeDecompositionPass().optimize(graph=formatted, dataloader=None, executor=None, calib_steps=0)


def name(item):
    return "*" if item.name.startswith("PPQ_") else item.name


result = []
for op in formatted.operations.values():
    values = [v.value.flatten().tolist() for v in op.inputs if v.is_parameter and v.value.is_floating_point()]
    if op.type == "Gemm":
        values = [v[:40] for v in values]
    result.append([op.type, name(op), [name(v) for v in op.inputs], [name(v) for v in op.outputs], values])
text = json.dumps(result, separators=(",", ":")).replace("]]],", "]]],\n")
file.with_suffix(".json").write_text(text + "\n")
