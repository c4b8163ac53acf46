#!/usr/bin/env python3
"""Do two builds of espq write the same files, byte for byte?

compare_builds.py BEFORE/espq AFTER/espq --cases FOLDER [--recipe BEFORE.json AFTER.json]...

Both programs quantize every network of FOLDER (NAME/model.onnx and NAME/calib) for every target and width with the same
calibration batches and random test inputs, by espq's own recipe and by each pair of recipe files. The .espdl (with the test
values that Board precision computes), .info and .json must be equal; the recipe beside them (.options.json) may be spelled
differently, which is only counted. What one program refuses the other must refuse. Exit status 0: no difference.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

TARGETS = ("esp32p4", "esp32s3", "c")
WIDTHS = ("8", "16")
ONE_THREAD = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def quantize(program, network, target, bits, recipe, options, folder):
    """Written files by name, and what the program said when it wrote none."""
    folder.mkdir()
    command = [program, "quantize", network / "model.onnx", "--calib", network / "calib", "--target", target, "--bits", bits,
               "--steps", options.steps, "--test-values", "random", "--allow-missing-kernels", "--quiet",
               "--out", folder / "net.espdl"]
    if recipe:
        command += ["--recipe", recipe]
    result = subprocess.run([str(part) for part in command], env=ONE_THREAD, capture_output=True, text=True)
    if result.returncode not in (0, 1):  # 1: espq refuses the model
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {result.returncode}: {result.stderr}")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return files, result.stderr.strip() if result.returncode else ""


def compare(network, target, bits, recipes, options):
    """(verdict, details)"""
    with tempfile.TemporaryDirectory() as folder:
        sides = [quantize(program, network, target, bits, recipe, options, pathlib.Path(folder, str(side)))
                 for side, (program, recipe) in enumerate(zip((options.before, options.after), recipes))]
    (before, refusal), (after, other_refusal) = sides
    if refusal and other_refusal:
        same = refusal == other_refusal
        return ("refused by both" if same else "refused by both in other words",
                "" if same else f"{refusal}\n    {other_refusal}")
    if refusal or other_refusal:
        return "DIFFERENT", f"refused only {'before' if refusal else 'after'}: {refusal or other_refusal}"
    if before.keys() != after.keys() or "net.espdl" not in before:
        return "DIFFERENT", f"files {sorted(before)} and {sorted(after)}"
    changed = {name for name in before if before[name] != after[name]}
    if changed - {"net.options.json"}:
        return "DIFFERENT", f"contents of {', '.join(sorted(changed))}"
    return ("equal, recipe spelled differently" if changed else "equal"), ""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="*", help="networks to compare (default: all)")
    parser.add_argument("--recipe", nargs=2, action="append", type=pathlib.Path, default=[], metavar=("BEFORE", "AFTER"))
    parser.add_argument("--steps", type=int, default=2, help="calibration batches to use (default: 2)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="a line for every run, not only for differences")
    return parser.parse_args()


def main():
    options = parse_arguments()
    networks = sorted(folder.parent for folder in options.cases.glob("*/model.onnx"))
    if options.only:
        networks = [network for network in networks if network.name in options.only]
    jobs = [(network, target, bits, recipes) for network in networks for recipes in [(None, None), *options.recipe]
            for target in TARGETS for bits in WIDTHS]
    counts = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        for job, (verdict, details) in zip(jobs, pool.map(lambda job: compare(*job, options), jobs)):
            counts[verdict] += 1
            if details or options.verbose:
                network, target, bits, recipes = job
                recipe = f" with {recipes[1].name}" if recipes[1] else ""
                print(f"{network.name} {target} {bits} bit{recipe}: {verdict}\n    {details}".rstrip(), flush=True)
    print(f"{len(networks)} networks, {len(jobs)} runs: " +
          ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return 0 if jobs and not counts["DIFFERENT"] else 1


if __name__ == "__main__":
    sys.exit(main())
