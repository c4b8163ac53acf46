#!/usr/bin/env python3
"""Quantize the zoo's networks and say what is left of their accuracy.

usage: run.py ESPQ ZOO [NAME ...] [--recipes default fast accurate] [--targets esp32p4 esp32s3] [--esp-ppq PYTHON] [--results FILE]
              [--again] [--limit SECONDS] [--threads N] [--keep DIR]

For every network, target and recipe: `espq quantize` with the network's calib folder, `espq evaluate` of the written file on the eval
folder (Board precision: the integers of the chip), and the network's metric. With --esp-ppq PYTHON, an interpreter that has
esp-ppq 1.3.12, its default and its best settings are measured on the same data in the same way (quantize_with_esp_ppq.py); slow.
A recipe is the name of a shipped one or a file; NAME:RECIPE.json measures a file under a name of its own.

Results are merged into FILE (default results.json beside this script) as they come, and what is there already is not measured again
without --again, so a run may be interrupted. At the end the table is printed, and docs/accuracy.md and docs/accuracy.svg are written
where FILE is the default (report.py).
"""
import argparse, json, os, pathlib, shutil, subprocess, tempfile, time
import report
from score import Reference

HERE = pathlib.Path(__file__).resolve().parent


class Command:
    """Runs programs for a limited time, with a limited number of threads."""
    def __init__(self, limit, threads):
        self.limit = limit
        self.environment = {**os.environ, **({'OMP_NUM_THREADS': str(threads)} if threads else {})}

    def __call__(self, *words):
        """Seconds of wall time and of all cores; raises RuntimeError with the last line of what went wrong."""
        start, used = time.monotonic(), os.times()
        try: done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=self.environment, timeout=self.limit)
        except subprocess.TimeoutExpired: raise RuntimeError(f'more than {self.limit} s') from None
        if done.returncode: raise RuntimeError(([line for line in done.stderr.splitlines() if line.strip()] or [f'exit code {done.returncode}'])[-1])
        now = os.times()
        return {'seconds': round(time.monotonic() - start, 1),
                'cpu_seconds': round(now.children_user - used.children_user + now.children_system - used.children_system, 1)}


def measure(command, espq, reference, quantize, target, folder):
    """What the file that `quantize` writes is worth, or why there is none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder / 'network.espdl'
    try:
        quantized = quantize(file)
        evaluated = command(espq, 'evaluate', file, '--target', target, '--inputs', reference.folder / 'eval', '--out-dir', folder / 'answers', '--quiet')
        return {**reference.score(reference.read(folder / 'answers')), **quantized, 'evaluate': evaluated, 'bytes': file.stat().st_size}
    except RuntimeError as error: return {'error': str(error)}
    finally: shutil.rmtree(folder / 'answers', ignore_errors=True)


def recipe_of(text):
    """Name in the table, and what `--recipe` gets."""
    if ':' in text: return tuple(text.split(':', 1))
    return (pathlib.Path(text).stem if text.endswith('.json') else text), text


def stored(file): return json.loads(file.read_text()) if file.exists() else {}


def keep(file, name, network, label, target):
    """Add one run to what is there by now: another run.py may have written since."""
    results = stored(file)
    entry = results.setdefault(name, {})
    entry |= {key: value for key, value in network.items() if key != 'runs'}
    entry.setdefault('runs', {}).setdefault(label, {})[target] = network['runs'][label][target]
    incomplete = file.with_suffix('.part')
    incomplete.write_text(json.dumps(results, indent=1, sort_keys=True) + '\n')
    incomplete.replace(file)


def measure_all(arguments, results):
    command = Command(arguments.limit, arguments.threads)
    names = arguments.names or sorted(folder.parent.name for folder in arguments.zoo.glob('*/about.json'))
    for name in names:
        reference = Reference(arguments.zoo / name)
        network = results.setdefault(name, {})
        network |= {'about': reference.about, 'samples': len(reference.samples), 'float': reference.score()}
        runs = [(label, lambda file, target, recipe=recipe: command(
            arguments.espq, 'quantize', reference.folder / 'model.onnx', '--target', target, '--calib', reference.folder / 'calib', '--out', file,
            '--recipe', recipe, '--quiet')) for label, recipe in map(recipe_of, arguments.recipes)]
        if arguments.esp_ppq:
            runs += [(f'esp-ppq {setting}', lambda file, target, setting=setting: command(
                arguments.esp_ppq, HERE / 'quantize_with_esp_ppq.py', reference.folder, target, file, '--setting', setting)) for setting in arguments.esp_ppq_settings]
        for label, quantize in runs:
            for target in arguments.targets:
                known = network.setdefault('runs', {}).setdefault(label, {})
                if not arguments.again and target in known and not known[target].get('earlier'): continue
                folder = arguments.keep / f'{name}-{target}-{label.replace(" ", "-")}'
                known[target] = measure(command, arguments.espq, reference, lambda file: quantize(file, target), target, folder)
                print(f'{name:20} {target} {label:18}', json.dumps(known[target]), flush=True)
                keep(arguments.results, name, network, label, target)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('espq', type=pathlib.Path); parser.add_argument('zoo', type=pathlib.Path); parser.add_argument('names', nargs='*')
    parser.add_argument('--recipes', nargs='*', default=['default', 'fast', 'accurate'])
    parser.add_argument('--targets', nargs='+', default=['esp32p4', 'esp32s3'])
    parser.add_argument('--esp-ppq', metavar='PYTHON'); parser.add_argument('--esp-ppq-settings', nargs='+', default=['default', 'best'])
    parser.add_argument('--results', type=pathlib.Path, default=HERE / 'results.json')
    parser.add_argument('--again', action='store_true'); parser.add_argument('--limit', type=float, default=3600)
    parser.add_argument('--threads', type=int); parser.add_argument('--keep', type=pathlib.Path, help='where the files stay')
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        arguments.keep = arguments.keep or pathlib.Path(temporary)
        measure_all(arguments, stored(arguments.results))
    results = stored(arguments.results)
    print(report.table(results, arguments.names or list(results)))
    if arguments.results == HERE / 'results.json': report.write(results)
