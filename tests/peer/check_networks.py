#!/usr/bin/env python3
"""Take networks through check, quantize, verify and compare, and write a table of what came out.

usage: check_networks.py ESPQ FOLDER ... [--out TABLE.md] [--results RESULTS.json] [--only NAME ...] [--again NAME ...]

FOLDER holds networks.json as make_networks.py writes it, or the cases of a reference set (manifest.json with `cases`, a folder with
model.onnx and calib each). Calibration data is drawn (normal, seeded) where a network brings none. What is in RESULTS.json already
is not run again, so a run can be interrupted and continued; the table is written from all of it.
"""
import argparse, collections, json, os, pathlib, subprocess, sys, tempfile, time, zlib
import numpy as np

TARGETS = ['esp32p4', 'esp32s3']
TIME_LIMIT = 400    # seconds for one command


def networks_of(folder):
    """The networks of a folder: name, source, model file, inputs (name -> shape, dtype, high), further arguments, data."""
    if (folder / 'networks.json').exists():
        for entry in json.loads((folder / 'networks.json').read_text()):
            yield {**entry, 'model': str(folder / entry['model']),
                   'calib': str(folder / entry['calib']) if entry.get('calib') else None}
        return
    for case in json.loads((folder / 'manifest.json').read_text())['cases']:
        place = folder / case['name']
        yield {'name': case['name'], 'source': folder.name, 'model': str(place / 'model.onnx'), 'calib': str(place / 'calib')}


def draw(network, folder):
    """Calibration batches of the network's inputs, as quantize takes them."""
    rng = np.random.default_rng(zlib.crc32(network['name'].encode()))
    for batch in range(network.get('batches', 4)):
        values = {}
        for name, entry in network['inputs'].items():
            shape, dtype = entry['shape'], entry.get('dtype', 'float32')
            if 'high' in entry: values[name] = rng.integers(0, entry['high'], shape).astype(dtype)
            elif dtype == 'float32': values[name] = (rng.standard_normal(shape) * entry.get('scale', 1)).astype(dtype)
            else: values[name] = np.zeros(shape, dtype)
        if len(values) == 1: np.save(folder / f'{batch:03}.npy', next(iter(values.values())))
        else: np.savez(folder / f'{batch:03}.npz', **values)


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else ''


class Tool:
    def __init__(self, program):
        self.program = program
        self.environment = {**os.environ, 'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', '1')}

    def __call__(self, *arguments):
        start = time.monotonic()
        try:
            done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, env=self.environment,
                                  timeout=TIME_LIMIT)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, err = 'time', '', f'more than {TIME_LIMIT} s'
        return {'code': code, 'out': out, 'err': err, 'seconds': round(time.monotonic() - start, 2)}


def check(tool, network, target):
    run = tool('check', network['model'], '--target', target, '--json', *network.get('arguments', []))
    result = {'code': run['code'], 'seconds': run['seconds']}
    if run['code'] not in (0, 1) or not run['out'].startswith('{'):
        return {**result, 'error': last_line(run['err'])}
    operations = json.loads(run['out'])['operations']
    counts = collections.Counter(operation['verdict'] for operation in operations)
    refused = [f"{o['type']} {o['name']}: {r['why']}; {r['remedy']}" for o in operations for r in o['refusals']]
    rewrites = collections.Counter(text for o in operations for text in o['rewrites'])
    types = collections.Counter(o['type'] for o in operations)
    return {**result, 'counts': counts, 'refused': refused, 'rewrites': rewrites, 'types': types}


def signal_to_noise(tool, network, file, data):
    """The outputs of the file in Board precision against the float network, in dB."""
    with tempfile.NamedTemporaryFile(suffix='.json') as report:
        run = tool('compare', network['model'], file, '--inputs', data, '--batches', 2, '--json', report.name, '--quiet',
                   *[a for a in network.get('arguments', [])])
        if run['code'] != 0: return {'error': last_line(run['err'])}
        outputs = json.loads(pathlib.Path(report.name).read_text())['outputs']
        return {'outputs': [{'name': o['name'], 'decibel': o['snr_decibel']} for o in outputs]}


def convert(tool, network, target, data, folder):
    file = folder / 'network.espdl'
    made = tool('quantize', network['model'], '--target', target, '--calib', data, '--out', file, '--test-values', 'random',
                '--seed', 1, '--quiet', *network.get('arguments', []))
    result = {'quantize': {'code': made['code'], 'seconds': made['seconds'], 'error': last_line(made['err'])}}
    warnings = [line for line in made['err'].splitlines() if 'warning' in line]
    if warnings: result['quantize']['warnings'] = warnings
    if made['code'] != 0: return result
    result['quantize']['bytes'] = file.stat().st_size
    verified = tool('verify', file)
    result['verify'] = {'code': verified['code'], 'seconds': verified['seconds'],
                        'text': last_line(verified['out'] if verified['code'] == 0 else verified['err'] or verified['out'])}
    result['compare'] = signal_to_noise(tool, network, file, data)
    return result


def inputs_of(tool, network):
    shown = tool('import', network['model'], '--as-imported', '--json', *network.get('arguments', []))
    names = {'Float': 'float32', 'Int': 'int32', 'Long': 'int64', 'Bool': 'bool'}
    return {i['name']: {'shape': i['shape'], 'dtype': names[i['type']]} for i in json.loads(shown['out'])['inputs']}


def examine(tool, network, result, targets, only_check):
    """Fill in what `result` does not hold yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for target in targets:
            if target not in result['targets']: result['targets'][target] = {'check': check(tool, network, target)}
        waiting = [t for t in targets if (outcome := result['targets'][t])['check']['code'] == 0 and 'quantize' not in outcome]
        if only_check or not waiting: return
        data = network.get('calib')
        if not data or not pathlib.Path(data).exists():
            if 'inputs' not in network: network['inputs'] = inputs_of(tool, network)
            data = folder / 'calib'
            data.mkdir()
            draw(network, data)
        for target in waiting: result['targets'][target] |= convert(tool, network, target, data, folder)


def cell(text): return text.replace('|', '\\|').replace('\n', ' ')


def shorten(text, length=160): return text if len(text) <= length else text[:length - 3] + '...'


def row(name, result):
    """One line of the table; figures of the two targets are divided by a slash where they differ."""
    outcomes = [result['targets'][target] for target in TARGETS if target in result['targets']]

    def both(value):
        texts = [value(outcome) for outcome in outcomes]
        return cell(texts[0] if len(set(texts)) == 1 else ' / '.join(t or '-' for t in texts))

    def verdicts(outcome):
        counts = outcome['check'].get('counts')
        if counts is None: return 'not checked'
        return ', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items(), key=lambda item: item[0]))

    def reason(outcome):
        checked = outcome['check']
        return shorten(checked.get('error') or next(iter(checked.get('refused', [])), ''))

    def quantized(outcome):
        if 'quantize' not in outcome: return ''
        made = outcome['quantize']
        return f"{made['seconds']:.1f} s" if made['code'] == 0 else 'failed: ' + shorten(made['error'])

    def verified(outcome):
        if 'verify' not in outcome: return ''
        return 'equal' if outcome['verify']['code'] == 0 else 'DIFFERENT: ' + shorten(outcome['verify']['text'])

    def noise(outcome):
        if 'compare' not in outcome: return ''
        compared = outcome['compare']
        if 'error' in compared: return 'failed: ' + shorten(compared['error'])
        values = [o['decibel'] for o in compared['outputs']]
        return ', '.join('-' if v is None else 'equal' if v > 200 else f'{v:.0f}' for v in values[:4]) + (', ...' if len(values) > 4 else '')

    operations = max(sum(o['check'].get('counts', {}).values()) for o in outcomes)
    seconds = max(o['check']['seconds'] for o in outcomes)
    return (f"| {name} | {result['source']} | {operations or ''} | {both(verdicts)} | {both(reason)} | {seconds:.1f} | {both(quantized)} | "
            f"{both(verified)} | {both(noise)} |")


def table(results, note):
    passed = [r for r in results.values() if all(o.get('verify', {}).get('code') == 0 for o in r['targets'].values())]
    checked = [r for r in results.values() if all(o['check']['code'] == 0 for o in r['targets'].values())]
    refused = [r for r in results.values() if any(o['check'].get('refused') for o in r['targets'].values())]
    reasons = collections.Counter()
    for r in refused:
        first = next(o['check']['refused'] for o in r['targets'].values() if o['check'].get('refused'))
        for kind in {text.split(' ')[0] for text in first}: reasons[kind] += 1
    unfinished = [r for r in checked if any('quantize' not in o for o in r['targets'].values())]
    torch = sum(name.endswith(('.pt', '.pt2')) for name in results)
    lines = [note.strip(), '',
             f'{len(results)} networks, {torch} of them TorchScript or torch.export files. `espq check` lets {len(checked)} through; '
             f'{len(passed)} of these were quantized and verified equal for every target in their row'
             + (f', {len(unfinished)} were checked only.' if unfinished else '.'), '']
    if reasons: lines += ['Networks that cannot run, by the type of operation: ' + ', '.join(f'{k} {n}' for k, n in reasons.most_common()) + '.', '']
    by_source = collections.defaultdict(list)
    for name, result in results.items(): by_source[result['source']].append((name, result))
    lines += ['| network | source | operations | verdicts | first reason | check, s | quantize | verify | SNR, dB |',
              '|---|---|---|---|---|---|---|---|---|']
    for source in by_source: lines += [row(name, result) for name, result in by_source[source]]
    return '\n'.join(lines) + '\n'


NOTE = """
# Networks that `espq check` has seen
Written by `tests/peer/check_networks.py`. Networks of torchvision, timm, ultralytics and `audio` have random weights and come from
`tests/peer/make_networks.py`; the others are trained and come from packages. Where two figures stand in a cell they are those of
esp32p4 and esp32s3. Quantization is 8-bit with the default recipe; where no calibration data belongs to a network it is drawn from a
normal distribution. SNR is that of the network's outputs in Board precision against the float network on two batches: with random
weights and drawn data it shows that nothing went wrong, not how accurate a trained network would be: a last layer that starts
with zeros gives nothing to compare (`-`), branches that start near zero (layer scale) vanish beside their trunk, and what Silero
VAD does with states and sound of its own stands in [data](data.md#networks-with-states). Seconds are wall time
of a whole command on a machine that was compiling at the same time: an idle one takes 0.3 to 1 s for a check.
"""

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('espq'); parser.add_argument('folders', nargs='*', type=pathlib.Path)
    parser.add_argument('--out', type=pathlib.Path); parser.add_argument('--results', type=pathlib.Path, default='results.json')
    parser.add_argument('--only-check', action='store_true')
    parser.add_argument('--targets', nargs='+', default=TARGETS)
    parser.add_argument('--only', nargs='*'); parser.add_argument('--again', nargs='*', default=[])
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    tool = Tool(arguments.espq)
    for network in [n for folder in arguments.folders for n in networks_of(folder)]:
        name = network['name']
        if arguments.only and name not in arguments.only: continue
        if name not in results or name in arguments.again or arguments.again == ['all']:
            results[name] = {'source': network['source'], 'targets': {}}
        before = json.dumps(results[name])
        examine(tool, network, results[name], arguments.targets, arguments.only_check)
        if json.dumps(results[name]) == before: continue
        arguments.results.write_text(json.dumps(results, indent=1))
        print(row(name, results[name]), flush=True)
    if arguments.out: arguments.out.write_text(table(results, NOTE))
