"""Writes incumbent_recovery/: what the bias correction and the layer-wise equalization of esp-ppq 1.3.12 make of small networks.

Usage: PYTHONHASHSEED=0 OMP_NUM_THREADS=1 python make_incumbent_recovery.py   (needs esp-ppq==1.3.12, torch, onnx)

bias_correction-TARGET.npz: weights and biases (float32, before they are rounded) of incumbent_tqt/model.onnx after bias correction
with its data. equalization.onnx: a chain of layers; equalization.npz: its weights and biases after equalization, for every target.
"""
import contextlib
import io
import pathlib
import tempfile

import numpy as np
import onnx
import torch
from esp_ppq import QuantizationSettingFactory
from esp_ppq.api.espdl_interface import espdl_quantize_onnx
from onnx import TensorProto, helper, numpy_helper

here = pathlib.Path(__file__).parent
folder = here / "incumbent_recovery"
folder.mkdir(exist_ok=True)


def quantized(model, samples, target, **switches):
    """Parameters of the network by name, with the default settings and these."""
    setting = QuantizationSettingFactory.espdl_setting()
    for name, value in switches.items():
        setattr(setting, name, value)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        copy = pathlib.Path(scratch) / "model.onnx"  # which esp-ppq overwrites
        copy.write_bytes(model.read_bytes())
        network = espdl_quantize_onnx(
            str(copy), f"{scratch}/file.espdl", [torch.from_numpy(sample) for sample in samples], len(samples),
            list(samples[0].shape), target=target, quant_type="w8a8", collate_fn=lambda batch: batch, setting=setting,
            device="cpu", error_report=False, skip_export=True, verbose=0)
    return {variable.name: variable.value.detach().numpy().astype(np.float32)
            for operation in network.operations.values() for _, variable in operation.config_with_variable
            if variable.is_parameter}


def chain():
    """Conv, depthwise Conv, pool, Conv, Conv: the sizes of channels spread over 1:30."""
    random = np.random.default_rng(5)
    nodes, constants = [], []

    def layer(name, x, shape, **attributes):
        weight = random.normal(0, 1, shape) * np.exp(random.uniform(-1.7, 1.7, [shape[0]] + [1] * 3))
        constants.append(numpy_helper.from_array(weight.astype(np.float32), name + ".weight"))
        constants.append(numpy_helper.from_array(random.normal(0, 0.1, shape[:1]).astype(np.float32), name + ".bias"))
        return add("Conv", name, [x, name + ".weight", name + ".bias"], **attributes)

    def add(type, name, inputs, **attributes):
        nodes.append(helper.make_node(type, inputs, [name + "_out"], name=name, **attributes))
        return name + "_out"

    x = add("Relu", "relu0", [layer("stem", "x", [6, 3, 3, 3], pads=[1, 1, 1, 1])])
    x = add("Relu", "relu1", [layer("depthwise", x, [6, 1, 3, 3], group=6)])
    x = add("MaxPool", "pool", [layer("middle", x, [5, 6, 1, 1])], kernel_shape=[2, 2], strides=[2, 2])
    layer("head", x, [4, 5, 1, 1])
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 3, 3])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


data = [np.load(file) for file in sorted((here / "incumbent_tqt/calib").glob("*.npy"))]
for target in ["esp32p4", "esp32s3"]:
    np.savez(folder / f"bias_correction-{target}.npz",
             **quantized(here / "incumbent_tqt/model.onnx", data, target, bias_correct=True))
onnx.save(chain(), folder / "equalization.onnx")
samples = list(np.random.default_rng(6).normal(0, 1, [8, 1, 3, 8, 8]).astype(np.float32))
np.savez(folder / "equalization.npz", **quantized(folder / "equalization.onnx", samples, "esp32s3", equalization=True))
