"""Writes incumbent_graphs.json: the graphs that esp-ppq 1.3.12 quantizes, for the collection of reference cases.

Usage: PYTHONHASHSEED=0 python make_incumbent_graphs.py <folder with peer_cases/>   (needs esp-ppq==1.3.12, torch, onnx)

Per case, the operations in insertion order after formatting and ConvTranspose decomposition: [type, name, inputs,
outputs]. Constants are written as their shape, names that esp-ppq generated as "*".
"""
import contextlib
import io
import json
import pathlib
import sys

with contextlib.redirect_stdout(io.StringIO()):
    from esp_ppq.api.interface import load_onnx_graph
    from esp_ppq.quantization.optim import ConvTransposeDecompositionPass


def label(variable):
    if variable.name == "":
        return ""
    if variable.is_parameter:
        return list(variable.value.shape)
    return "*" if variable.name.startswith("PPQ_") else variable.name


def operations(file):
    graph = load_onnx_graph(str(file))  # formats it as well
    with contextlib.suppress(RuntimeError, ValueError):  # what it cannot decompose stays
        ConvTransposeDecompositionPass().optimize(graph=graph, dataloader=None, executor=None, calib_steps=0)
    return [
        [op.type, "*" if op.name.startswith("PPQ_") else op.name,
         [label(v) for v in op.inputs], [label(v) for v in op.outputs]]
        for op in graph.operations.values()
    ]


result = {}
for folder in sorted(pathlib.Path(sys.argv[1], "peer_cases").iterdir()):
    if not folder.is_dir() or folder.name.startswith("fails_"):
        continue
    simplified = folder / "simplified.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        result[folder.name] = operations(simplified if simplified.exists() else folder / "model.onnx")
text = json.dumps(result, separators=(",", ":"))
pathlib.Path(__file__).with_name("incumbent_graphs.json").write_text(text.replace("]]],", "]]],\n") + "\n")
