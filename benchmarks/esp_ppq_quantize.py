#!/usr/bin/env python3
"""Quantizes one ONNX model with esp-ppq, without reports: the other side of compare_with_esp_ppq.py.

esp_ppq_quantize.py MODEL.onnx CALIB_FOLDER TARGET OUT.espdl
"""
import pathlib
import sys

import numpy as np
import torch
from esp_ppq.api import espdl_quantize_onnx


def read_batch(file, names):
    """A tensor, or a list of tensors in the order of the model's inputs."""
    content = np.load(file)
    if file.suffix == ".npy":
        return torch.from_numpy(content)
    return [torch.from_numpy(content[name]) for name in names]


def main():
    model, folder, target, out = sys.argv[1:5]
    import onnx

    graph = onnx.load(model).graph
    constants = {initializer.name for initializer in graph.initializer}
    names = [entry.name for entry in graph.input if entry.name not in constants]
    batches = [read_batch(file, names) for file in sorted(pathlib.Path(folder).iterdir())]
    first = batches[0] if isinstance(batches[0], list) else [batches[0]]
    espdl_quantize_onnx(
        onnx_import_file=model,
        espdl_export_file=out,
        calib_dataloader=batches,
        calib_steps=len(batches),
        input_shape=[list(tensor.shape) for tensor in first],
        inputs=first,
        collate_fn=lambda batch: batch,
        target=target,
        num_of_bits=8,
        device="cpu",
        error_report=False,
        export_test_values=True,
        verbose=0,
    )


if __name__ == "__main__":
    main()
