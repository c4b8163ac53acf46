#!/usr/bin/env python3
"""One QAT step of espq against a float step in LibTorch and against a QAT step of esp-ppq 1.3.12, in one run.

compare_qat_step.py --model MODEL.onnx --batch 8 [--steps 20] [--repeat 3] [--target esp32p4] [--threads 1]

The programs take turns; the fastest of the repeats counts, on all sides.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from compare_with_esp_ppq import HERE, make_environment


def run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    result = subprocess.run([str(part) for part in command], check=True, env=environment, stdout=subprocess.PIPE,
                            text=True)
    return json.loads(result.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=HERE.parent / "build/release/benchmarks/qat_step")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--target", default="esp32p4")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--venv", type=pathlib.Path, default=HERE.parent / "out/esp-ppq")
    options = parser.parse_args()

    python = make_environment(options.venv)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeat):
            peer = pathlib.Path(folder) / "peer.onnx"  # esp-ppq overwrites the file that it reads
            shutil.copyfile(options.model, peer)
            arguments = [options.batch, options.steps, options.target]
            ours.append(run([options.program, options.model, *arguments], options.threads))
            theirs.append(run([python, HERE / "esp_ppq_train_step.py", peer, *arguments], options.threads))
    plain = min(result["float_ms"] for result in ours)
    espq = min(result["qat_ms"] for result in ours)
    peer = min(result["qat_ms"] for result in theirs)
    print(f"{options.model.name}, batch {options.batch}, {options.target}: float {plain:.2f} ms, espq QAT {espq:.2f} ms, "
          f"esp-ppq QAT {peer:.2f} ms")
    print(f"espq QAT / float: {espq / plain:.2f}; esp-ppq QAT / espq QAT: {peer / espq:.2f}")


if __name__ == "__main__":
    main()
