"""Writes incumbent_tqt/: what the TQT of esp-ppq 1.3.12 makes of a small residual network.

Usage: PYTHONHASHSEED=0 OMP_NUM_THREADS=1 python make_incumbent_tqt.py   (needs esp-ppq==1.3.12, torch, onnx)

model.onnx and calib/ are the network and its data; TARGET.npz holds every weight and bias after the training (float32,
before they are rounded) by its name in the file.
"""
import contextlib
import io
import pathlib
import tempfile

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

STEPS, RATE = 60, 2e-4
folder = pathlib.Path(__file__).with_name("incumbent_tqt")
(folder / "calib").mkdir(parents=True, exist_ok=True)
random = np.random.default_rng(11)
nodes, constants = [], []


def layer(type, name, x, shape, **attributes):
    fan = int(np.prod(shape[1:]))
    constants.append(numpy_helper.from_array(random.normal(0, fan**-0.5, shape).astype(np.float32), name + ".weight"))
    constants.append(numpy_helper.from_array(random.normal(0, 0.1, shape[:1]).astype(np.float32), name + ".bias"))
    return add(type, name, [x, name + ".weight", name + ".bias"], **attributes)


def add(type, name, inputs, **attributes):
    nodes.append(helper.make_node(type, inputs, [name + "_out"], name=name, **attributes))
    return name + "_out"


x = add("Relu", "relu0", [layer("Conv", "stem", "x", [6, 3, 3, 3], pads=[1, 1, 1, 1])])
y = add("Relu", "relu1", [layer("Conv", "left", x, [6, 6, 3, 3], pads=[1, 1, 1, 1])])
y = layer("Conv", "right", y, [6, 6, 1, 1])
x = add("Add", "sum", [x, y])
x = add("Relu", "relu2", [layer("Conv", "depthwise", x, [6, 1, 3, 3], group=6, strides=[2, 2])])
x = add("Flatten", "flatten", [add("GlobalAveragePool", "pool", [x])], axis=1)
layer("Gemm", "head", x, [4, 6], transB=1)
nodes[-1].output[0] = "y"
graph = helper.make_graph(nodes, "tqt", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 9, 9])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, folder / "model.onnx")
data = random.normal(0, 1, [5, 1, 3, 9, 9]).astype(np.float32)
for i, sample in enumerate(data):
    np.save(folder / "calib" / f"{i}.npy", sample)

from esp_ppq import QuantizationSettingFactory
from esp_ppq.api.espdl_interface import espdl_quantize_onnx

for target in ["esp32p4", "esp32s3"]:
    setting = QuantizationSettingFactory.espdl_setting()
    setting.tqt_optimization = True
    setting.tqt_optimization_setting.steps = STEPS
    setting.tqt_optimization_setting.lr = RATE
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        quantized = espdl_quantize_onnx(
            str(folder / "model.onnx"), f"{scratch}/tqt.espdl", [torch.from_numpy(sample) for sample in data], len(data),
            [1, 3, 9, 9], target=target, quant_type="w8a8", collate_fn=lambda batch: batch, setting=setting,
            device="cpu", error_report=False, skip_export=True, verbose=0)
    trained = {}
    for operation in quantized.operations.values():
        for config, variable in operation.config_with_variable:
            if variable.is_parameter:
                trained[variable.name] = variable.value.detach().numpy().astype(np.float32)
    np.savez(folder / f"{target}.npz", **trained)
