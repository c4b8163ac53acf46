#!/usr/bin/env python3
"""TQT as esp-ppq 1.3.12 does it (blocks of depth 4, 500 steps with one sample), in both tools on the same networks: processor time, as a ratio.

usage: compare_tqt.py ESPQ ZOO NAME [NAME ...] --esp-ppq PYTHON [--target esp32p4] [--steps 500]
ZOO is what accuracy/make_zoo.py makes; PYTHON an interpreter with esp-ppq==1.3.12. What TQT takes is what the tool takes with it less what
it takes without; user and system time on one thread, which other work on the machine changes little.
"""
import argparse, json, pathlib, sys, tempfile

from compare_with_esp_ppq import measure

HERE = pathlib.Path(__file__).resolve().parent
TQT = {"blocks": "depth", "block_size": 4, "batch": 1, "rate": 1e-5, "exponent_rate": 1e-5, "rate_unit": "absolute", "schedule": "constant",
       "warm_up": 0, "exponents": 1, "gradual": 0, "order": "in_order", "judge": "training", "fine_tune_steps": 0}


def seconds(command):
    """Processor seconds of a command on one thread."""
    took = measure(command, threads=1)
    return took[1] if took else sys.exit(1)


def of_espq(arguments, network, folder, steps):
    recipe = json.loads((HERE.parent / 'recipes' / 'esp-ppq-1.3.12.json').read_text())
    recipe['calibration']['observer'] = 'percentile'
    recipe['equalize'] = {"rule": "magnitudes", "iterations": 4, "value_threshold": 0.4}
    if steps: recipe['train_thresholds'] = {**TQT, "steps": steps}
    path = folder / 'recipe.json'; path.write_text(json.dumps(recipe))
    return seconds([arguments.espq, 'quantize', network / 'model.onnx', '--target', arguments.target, '--calib', network / 'calib',
                    '--recipe', path, '--out', folder / 'out.espdl'])


def of_esp_ppq(arguments, network, folder, steps):
    return seconds([arguments.esp_ppq, HERE / 'accuracy' / 'quantize_with_esp_ppq.py', network, arguments.target, folder / 'out.espdl',
                    '--setting', 'best', '--steps', str(steps)])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('espq'); parser.add_argument('zoo', type=pathlib.Path); parser.add_argument('names', nargs='+')
    parser.add_argument('--esp-ppq', required=True); parser.add_argument('--target', default='esp32p4')
    parser.add_argument('--steps', type=int, default=500)
    arguments = parser.parse_args()
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            took = [of_tool(arguments, arguments.zoo / name, pathlib.Path(folder), arguments.steps)
                    - of_tool(arguments, arguments.zoo / name, pathlib.Path(folder), 0) for of_tool in (of_espq, of_esp_ppq)]
        print(f'{name}: espq {took[0]:.1f} s, esp-ppq {took[1]:.1f} s, {took[1] / took[0]:.1f} times', flush=True)
