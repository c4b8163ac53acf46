#!/usr/bin/env python3
"""Quantizes one ONNX model with esp-ppq and writes its error analyses: the other side of compare_error_analysis.py.

esp_ppq_analyse.py MODEL.onnx CALIB_FOLDER TARGET OUT.json

The layer-wise analysis runs as it is and is timed. For the graph-wise one, its random fetch of 4096 values per tensor is
replaced by all values, so that both programs measure the same thing.
"""
import json
import pathlib
import sys
import time

import onnx
from esp_ppq.api import espdl_quantize_onnx
from esp_ppq.quantization.analyse import graphwise, layerwise

from esp_ppq_quantize import read_batch


def main():
    model, folder, target, out = sys.argv[1:5]
    names = [entry.name for entry in onnx.load(model).graph.input]
    batches = [read_batch(file, names) for file in sorted(pathlib.Path(folder).iterdir())]
    first = batches[0] if isinstance(batches[0], list) else [batches[0]]
    graph = espdl_quantize_onnx(
        onnx_import_file=model, espdl_export_file=str(pathlib.Path(out).with_suffix(".espdl")),
        calib_dataloader=batches, calib_steps=len(batches), input_shape=[list(tensor.shape) for tensor in first],
        inputs=first, collate_fn=lambda batch: batch, target=target, num_of_bits=8, device="cpu", error_report=False,
        export_test_values=False, verbose=0)
    # It stops after steps + 1 batches.
    arguments = dict(graph=graph, dataloader=batches, running_device="cpu", steps=len(batches) - 1, verbose=False)
    start, processor_start = time.perf_counter(), time.process_time()
    layer_wise = layerwise.layerwise_error_analyse(**arguments)
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    graphwise.batch_random_fetch = lambda tensor, **_: tensor.flatten(start_dim=1)
    graph_wise = graphwise.graphwise_error_analyse(**arguments)
    content = {"layer_wise": layer_wise, "layer_wise_seconds": seconds,
               "layer_wise_processor_seconds": processor_seconds, "graph_wise": graph_wise}
    pathlib.Path(out).write_text(json.dumps(content))


if __name__ == "__main__":
    main()
