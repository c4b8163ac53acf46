#!/usr/bin/env python3
"""The figures of `espq compare` at the outputs, computed again with onnxruntime (float side) and numpy.

check_compare.py --model MODEL.onnx --espdl MODEL.espdl --inputs FOLDER [--input-shape NAME=1x3x48x192]

The integers of the .espdl file come from `espq run`, one batch at a time; everything else is recomputed. For models with
one input. Needs numpy and onnxruntime.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime

HERE = pathlib.Path(__file__).parent


def rows(value):
    return value.astype(np.float64).reshape(value.shape[0], -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espq", type=pathlib.Path, default=HERE.parent / "build/release/cli/espq")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--espdl", type=pathlib.Path, required=True)
    parser.add_argument("--inputs", type=pathlib.Path, required=True)
    parser.add_argument("--input-shape")
    options = parser.parse_args()

    session = onnxruntime.InferenceSession(options.model)
    source = session.get_inputs()[0].name
    shape = ["--input-shape", options.input_shape] if options.input_shape else []
    sums = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([options.espq, "compare", options.model, options.espdl, "--inputs", options.inputs, *shape, "--quiet",
                        "--json", folder / "compare.json"], check=True)
        report = json.loads((folder / "compare.json").read_text())
        for file in sorted(options.inputs.iterdir()):
            batch = np.load(file)
            np.save(folder / "input.npy", np.ascontiguousarray(np.moveaxis(batch, 1, -1)))
            subprocess.run([options.espq, "run", options.espdl, "--input", f"{source}={folder / 'input.npy'}", "--out-dir",
                            folder / "out"], check=True, stdout=subprocess.DEVNULL)
            wanted = session.run([entry["reference"] for entry in report["outputs"]], {source: batch})
            for entry, float_value in zip(report["outputs"], wanted):
                file_name = "".join(c if c.isalnum() or c in "._-" else "_" for c in entry["name"]) + ".npy"
                value = np.load(folder / "out" / file_name)
                if entry["grid"] and value.dtype.kind == "i":
                    value = value * 2.0 ** entry["grid"]["exponent"]
                if value.shape != float_value.shape:
                    value = np.moveaxis(value, -1, 1)
                a, b = rows(float_value), rows(value)
                error = b - a
                own = sums.setdefault(entry["name"], {"noise_to_signal": [], "cosine": [], "max_error": [], "mean_error": [],
                                                      "mean_absolute_error": []})
                own["noise_to_signal"].append((error**2).sum(1) / ((a**2).sum(1) + 1e-7))
                own["cosine"].append((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))
                own["max_error"].append(np.abs(error).max())
                own["mean_error"].append(error.mean())
                own["mean_absolute_error"].append(np.abs(error).mean())
    failed = False
    print(f"{'output':<32} {'figure':<20} {'espq':>14} {'numpy':>14}")
    for entry in report["outputs"]:
        for figure, values in sums[entry["name"]].items():
            again = max(values) if figure == "max_error" else np.mean(values)
            # onnxruntime adds float32 products in another order than LibTorch.
            tolerance = 1e-3 * abs(again) + 1e-6 * sums[entry["name"]]["mean_absolute_error"][0] + 1e-9
            failed |= abs(again - entry[figure]) > tolerance
            print(f"{entry['name']:<32} {figure:<20} {entry[figure]:>14.8g} {again:>14.8g}")
    sys.exit("figures differ" if failed else 0)


if __name__ == "__main__":
    main()
