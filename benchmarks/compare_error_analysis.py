#!/usr/bin/env python3
"""Error analyses of espq against those of esp-ppq 1.3.12: the same model, batches and threads, the same scales.

compare_error_analysis.py --model MODEL.onnx --calib FOLDER --input-shape NAME=1x3x320x320 [--target esp32p4]

esp-ppq quantizes first; espq then quantizes with the parity recipe, so that both analyse the same network. Prints the
seconds of the layer-wise analysis on both sides and how far the values of every layer are apart.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from compare_with_esp_ppq import HERE, make_environment


def fixed_shape(source, target, shape):
    """The model with static input shape, which esp-ppq needs."""
    import onnx

    name, dims = shape.split("=")
    model = onnx.load(source)
    for entry in model.graph.input:
        if entry.name == name:
            for dim, value in zip(entry.type.tensor_type.shape.dim, dims.split("x")):
                dim.dim_value = int(value)
    for entry in model.graph.output:
        entry.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model), target)


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), PYTHONHASHSEED="0")
    subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.DEVNULL)


def report(title, ours, theirs):
    common = sorted(set(ours) & set(theirs), key=lambda name: -theirs[name])
    print(f"{title}: {len(common)} layers in common, {len(set(ours) ^ set(theirs))} on one side only")
    print(f"  {'layer':<48} {'espq':>12} {'esp-ppq':>12} {'ratio':>8}")
    ratios = [ours[name] / theirs[name] if theirs[name] else 1 for name in common]
    for name, ratio in list(zip(common, ratios))[:10]:
        print(f"  {name:<48} {ours[name]:>12.3e} {theirs[name]:>12.3e} {ratio:>8.4f}")
    print(f"  ratios of all layers: {min(ratios):.4f} to {max(ratios):.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espq", type=pathlib.Path, default=HERE.parent / "build/release/cli/espq")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--calib", type=pathlib.Path, required=True)
    parser.add_argument("--input-shape", required=True)
    parser.add_argument("--target", default="esp32p4")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--venv", type=pathlib.Path, default=HERE.parent / "out/esp-ppq")
    options = parser.parse_args()

    python = make_environment(options.venv)
    if pathlib.Path(sys.prefix).resolve() != options.venv.resolve():
        os.execv(python, [python, *sys.argv])  # from here on with esp-ppq's packages
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fixed_shape(options.model, folder / "model.onnx", options.input_shape)
        shutil.copyfile(folder / "model.onnx", folder / "peer.onnx")  # esp-ppq overwrites the file that it reads
        run([python, HERE / "esp_ppq_analyse.py", folder / "peer.onnx", options.calib, options.target,
             folder / "peer.json"], options.threads)
        batches = len(list(options.calib.iterdir()))
        run([options.espq, "quantize", folder / "model.onnx", "--target", options.target, "--calib", options.calib,
             "--recipe", HERE.parent / "recipes/esp-ppq-1.3.12.json", "--out", folder / "espq.espdl", "--quiet",
             "--analysis", folder / "espq.json", "--analysis-batches", batches], options.threads)
        theirs = json.loads((folder / "peer.json").read_text())
        ours = json.loads((folder / "espq.json").read_text())
    for kind, title in (("layer_wise", "layer-wise"), ("graph_wise", "graph-wise")):
        report(title, {row["operation"]: row["value"] for row in ours[kind]["rows"]}, theirs[kind])
    print(f"layer-wise analysis, {batches} batches, {options.threads} threads")
    for kind, title in (("seconds", "wall time"), ("processor_seconds", "processor time")):
        our, their = ours["layer_wise"][kind], theirs[f"layer_wise_{kind}"]
        print(f"  {title}: esp-ppq {their:.1f} s, espq {our:.2f} s, {their / our:.1f} times")


if __name__ == "__main__":
    main()
