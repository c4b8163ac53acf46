#!/usr/bin/env python3
"""Time and memory of whole processes: `espq quantize` against esp-ppq 1.3.12 on the same models, data and threads.

compare_with_esp_ppq.py --espq build/release/cli/espq --cases FOLDER [--only NAME ...] [--target esp32p4] [--repeat 3]

FOLDER holds one folder per case, with model.onnx and calib/*.npy or *.npz. esp-ppq is installed from PyPI into
--venv on the first run. Both sides write .espdl, .info and .json with test values of the first calibration batch, and
neither makes an error report. The fastest of the repeats counts, for both sides.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
ESP_PPQ = "esp-ppq==1.3.12"


def make_environment(venv):
    """Python of a virtual environment with esp-ppq; LibTorch comes from the surrounding Python when it has it."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", venv], check=True)
    if subprocess.run([python, "-c", "import esp_ppq"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", ESP_PPQ], check=True)
    return python


def measure(command, threads):
    """Wall seconds, processor seconds and peak memory in MiB of one process; None when it fails."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), PYTHONHASHSEED="0")
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            tail = log.read().decode(errors="replace").strip().splitlines()[-1:]
            print(f"  failed: {' '.join(tail)}", file=sys.stderr)
            return None
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def best(commands, repeat, threads):
    """Smallest of each measure over the repeats; `commands` makes a fresh command for each."""
    runs = [measure(commands(), threads) for _ in range(repeat)]
    if None in runs:
        return None
    return tuple(map(min, zip(*runs)))


def test_inputs(case, folder):
    """--test-input arguments for the first calibration batch."""
    first = sorted((case / "calib").iterdir())[0]
    if first.suffix == ".npy":
        import onnx  # installed with esp-ppq

        graph = onnx.load(case / "model.onnx").graph
        constants = {initializer.name for initializer in graph.initializer}
        name = next(entry.name for entry in graph.input if entry.name not in constants)
        return ["--test-input", f"{name}={first}"]
    import numpy as np

    arguments = ["--test-input"]
    for name, array in np.load(first).items():
        file = folder / f"{len(arguments)}.npy"
        np.save(file, array)
        arguments.append(f"{name}={file}")
    return arguments


def compare(case, options, python):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        tests = test_inputs(case, folder)

        def espq():
            return [options.espq, "quantize", "--allow-missing-kernels", case / "model.onnx", "--target", options.target, "--quiet",
                    "--calib", case / "calib", "--out", folder / "espq.espdl", *tests]

        def esp_ppq():
            model = folder / "model.onnx"  # esp-ppq overwrites the file that it reads
            shutil.copyfile(case / "model.onnx", model)
            return [python, HERE / "esp_ppq_quantize.py", model, case / "calib", options.target, folder / "peer.espdl"]

        return best(espq, options.repeat, options.threads), best(esp_ppq, options.repeat, options.threads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espq", type=pathlib.Path, default=HERE.parent / "build/release/cli/espq")
    parser.add_argument("--cases", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="+", help="names of cases; all by default")
    parser.add_argument("--target", default="esp32p4")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--venv", type=pathlib.Path, default=HERE.parent / "out/esp-ppq")
    options = parser.parse_args()

    python = make_environment(options.venv)
    if pathlib.Path(sys.prefix).resolve() != options.venv.resolve():
        os.execv(python, [python, *sys.argv])  # from here on with esp-ppq's packages
    start_up = best(lambda: [options.espq, "--help"], 5, options.threads)
    print(f"espq --help: {1000 * start_up[0]:.0f} ms")
    cases = sorted(case for case in options.cases.iterdir() if (case / "model.onnx").exists())
    if options.only:
        cases = [case for case in cases if case.name in options.only]
    print(f"{'case':<22} {'espq s':>8} {'esp-ppq s':>10} {'times':>6} {'cpu times':>10} {'espq MiB':>9} {'esp-ppq MiB':>12}")
    ratios = []
    for case in cases:
        ours, theirs = compare(case, options, python)
        if ours is None or theirs is None:
            print(f"{case.name:<22} {'failed' if ours is None else '':>8} {'failed' if theirs is None else '':>10}")
            continue
        ratios.append([their / our for our, their in zip(ours, theirs)])
        wall, cpu, _ = ratios[-1]
        print(f"{case.name:<22} {ours[0]:>8.2f} {theirs[0]:>10.2f} {wall:>6.1f} {cpu:>10.1f} {ours[2]:>9.0f} {theirs[2]:>12.0f}",
              flush=True)
    for name, values in zip(("wall time", "processor time", "memory"), zip(*ratios)):
        print(f"{name}: esp-ppq takes {statistics.median(values):.1f} times as much (median of {len(values)}), "
              f"at least {min(values):.1f} times")


if __name__ == "__main__":
    main()
