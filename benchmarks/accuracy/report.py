#!/usr/bin/env python3
"""docs/accuracy.md and docs/accuracy.svg from the results of run.py.

usage: report.py [RESULTS.json]
"""
import html, json, pathlib, sys

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parent.parent / 'docs'
TARGETS = ['esp32p4', 'esp32s3']
METRIC = {'accuracy': 'accuracy, %', 'agreement': 'top-1 agreement with float, %', 'face': 'accuracy, %', 'overlap': 'overlap with float, %',
          'character_accuracy': 'characters right, %', 'snr': 'SNR, dB'}
ORDER = ['digits', 'efficientnet_lite0', 'ocr_rec', 'ocr_det', 'ocr_cls', 'onet', 'rnet', 'detector_320n', 'mlperf_ds_cnn', 'mlperf_resnet8',
         'mlperf_mobilenet', 'mlperf_autoencoder']
COLUMNS = ['esp-ppq default', 'esp-ppq best', 'default', 'fast', 'accurate']
COLOURS = {'esp-ppq default': '#c9c9c9', 'esp-ppq best': '#8f8f8f', 'default': '#9ec9e8', 'fast': '#4b9bd1', 'accurate': '#15507c'}


def ordered(results): return sorted(results, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def columns_of(results):
    found = {label for network in results.values() for label in network.get('runs', {})}
    return [c for c in COLUMNS if c in found] + sorted(found - set(COLUMNS))


def figure(run, snr):
    if not run: return '–'
    if 'error' in run: return 'failed'
    return f'{run["value"]:.1f}' + (f' ({run["snr"]:.1f})' if snr and run.get('snr') is not None else '') + ('*' if run.get('earlier') else '')


def row(cells): return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'


def table(results):
    """Values, P4 / S3, with the SNR of the outputs beside those that are something else; then seconds."""
    columns = columns_of(results)
    def both(runs, value):
        texts = [value(runs.get(target)) for target in TARGETS]
        return '–' if set(texts) == {'–'} else ' / '.join(texts)
    lines = [row(['network', 'metric', 'float', *columns]), row(['---'] * (3 + len(columns)))]
    for name in ordered(results):
        network = results[name]
        decibels = network['about']['metric'] == 'snr'
        lines.append(row([name, METRIC[network['about']['metric']] + ('' if decibels else ' (SNR, dB)'),
                          '' if decibels else f'{network["float"]["value"]:.1f}',
                          *[both(network.get('runs', {}).get(c, {}), lambda run: figure(run, not decibels)) for c in columns]]))
    lines += ['', 'Seconds of quantization: wall time of the whole command (CPU time of all cores):', '', row(['network', *columns]), row(['---'] * (1 + len(columns)))]
    for name in ordered(results):
        runs = results[name].get('runs', {})
        lines.append(row([name, *[both(runs.get(c, {}), lambda run: f'{run["seconds"]:.0f} ({run["cpu_seconds"]:.0f})' if run and 'cpu_seconds' in run else '–') for c in columns]]))
    failures = [f'- {name}, {target}, {label}: {run["error"]}' for name in ordered(results) for label, runs in results[name].get('runs', {}).items()
                for target, run in runs.items() if 'error' in run]
    return '\n'.join([*lines, *(['', 'Failed:', '', *failures] if failures else [])]) + '\n'


def plot(results):
    """Signal to noise of the outputs: a group of bars per network, a panel per chip."""
    columns, names = [c for c in columns_of(results) if c in COLOURS], ordered(results)
    values = {(name, c, t): run['snr'] for name in names for c in columns for t, run in results[name].get('runs', {}).get(c, {}).items() if run.get('snr') is not None}
    highest = max([10, *values.values()])
    bar, gap, left, height, top = 11, 16, 44, 190, 34
    group = bar * len(columns) + gap
    width, panel = left + group * len(names) + 8, height + 74
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + panel * len(TARGETS)}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>']
    for i, column in enumerate(columns):
        parts.append(f'<rect x="{left + 112 * i}" y="8" width="11" height="11" fill="{COLOURS[column]}"/>'
                     f'<text x="{left + 112 * i + 16}" y="18">{html.escape(column)}</text>')
    for p, target in enumerate(TARGETS):
        base = top + panel * p + height
        def y(value): return base - max(0, value) / highest * (height - 12)
        for mark in range(0, int(highest) + 1, 10):
            parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#e4e4e4"/>'
                         f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark}</text>')
        parts.append(f'<text x="{left}" y="{base - height + 8}" font-weight="bold">{target}: SNR of the outputs, dB</text>')
        for n, name in enumerate(names):
            x = left + group * n + gap / 2
            for c, column in enumerate(columns):
                value = values.get((name, column, target))
                if value is None: continue
                parts.append(f'<rect x="{x + bar * c:.1f}" y="{y(value):.1f}" width="{bar - 1}" height="{base - y(value):.1f}" fill="{COLOURS[column]}">'
                             f'<title>{name}, {html.escape(column)}: {value:.1f} dB</title></rect>')
            parts.append(f'<text transform="translate({x + 6:.1f},{base + 12}) rotate(25)">{name}</text>')
    return '\n'.join([*parts, '</svg>']) + '\n'


PAGE = '''# What quantization costs the networks of the zoo
Written by `benchmarks/accuracy/report.py` from what `benchmarks/accuracy/run.py` measured ([how](../benchmarks/accuracy/README.md)).
All networks were trained by somebody else, but for `digits`; all figures come from the written `.espdl` file in Board precision, which
computes the integers of the chip. Weights and activations have 8 bits. Where a cell has two figures they are those of esp32p4 and esp32s3.
SNR is the signal to noise of the outputs against the float network. `default`, `fast` and `accurate` are espq's recipes; `esp-ppq best` is
esp-ppq 1.3.12 with percentile calibration, layer-wise equalization and TQT (500 steps, blocks of 4).

{table}
Figures with a star were measured before, on the same networks and data. Seconds are those of the machine that measured, which had other work to do at the same time; compare columns, not machines.

![SNR of the outputs](accuracy.svg)
'''


def write(results):
    (DOCS / 'accuracy.md').write_text(PAGE.format(table=table(results)))
    (DOCS / 'accuracy.svg').write_text(plot(results))


if __name__ == '__main__':
    write(json.loads(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / 'results.json').read_text()))
