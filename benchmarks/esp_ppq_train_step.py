#!/usr/bin/env python3
"""Milliseconds of one QAT step with esp-ppq: the other side of compare_qat_step.py.

esp_ppq_train_step.py MODEL.onnx BATCH STEPS TARGET; prints one line of JSON at the end. The graph is quantized as in the
package's own QAT programs: parameters are not baked, and forward_with_gradient rounds everything at every step.
"""
import json
import statistics
import sys
import time

import esp_ppq.lib as PFL
import torch
from esp_ppq.api import get_target_platform, load_onnx_graph
from esp_ppq.core import QuantizationVisibility, TargetPlatform
from esp_ppq.executor import TorchExecutor
from esp_ppq.IR import TrainableGraph
from esp_ppq.quantization.optim import (
    ParameterQuantizePass,
    PassiveParameterQuantizePass,
    QuantAlignmentPass,
    QuantizeFusionPass,
    QuantizeSimplifyPass,
    RuntimeCalibrationPass,
)


def quantized_graph(model, target, shape):
    platform = get_target_platform(target, 8)
    graph = load_onnx_graph(onnx_import_file=model)
    quantizer = PFL.Quantizer(platform=platform, graph=graph)
    dispatching = PFL.Dispatcher(graph=graph, method="conservative").dispatch(quantizer.quant_operation_types)
    for operation in list(graph.operations.values()):
        chosen = dispatching[operation.name]
        quantizer.quantize_operation(operation.name, platform if chosen == TargetPlatform.UNSPECIFIED else chosen)
    executor = TorchExecutor(graph=graph, device="cpu")
    executor.tracing_operation_meta(inputs=[torch.rand(shape)])
    batches = [torch.rand(shape) for _ in range(8)]  # its calibration wants at least eight
    PFL.Pipeline([
        QuantizeSimplifyPass(),
        QuantizeFusionPass(activation_type=quantizer.activation_fusion_types),
        ParameterQuantizePass(),
        RuntimeCalibrationPass(method="minmax"),
        PassiveParameterQuantizePass(clip_visiblity=QuantizationVisibility.EXPORT_WHEN_ACTIVE),
        QuantAlignmentPass(elementwise_alignment="Align to Output"),
    ]).optimize(graph=graph, dataloader=batches, verbose=False, calib_steps=8, collate_fn=lambda batch: batch,
                executor=executor)
    return graph


def main():
    model, batch, steps, target = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    import onnx

    dims = onnx.load(model).graph.input[0].type.tensor_type.shape.dim
    shape = [1] + [dim.dim_value for dim in dims[1:]]
    graph = quantized_graph(model, target, shape)
    executor = TorchExecutor(graph=graph, device="cpu")
    trainable = TrainableGraph(graph)
    for parameter in trainable.parameters():
        parameter.requires_grad = True
    optimizer = torch.optim.SGD(trainable.parameters(), lr=1e-5)
    inputs = torch.rand([batch] + shape[1:])
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        sum(output.square().mean() for output in executor.forward_with_gradient([inputs])).backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"qat_ms": statistics.median(times[1:])}))


if __name__ == "__main__":
    main()
