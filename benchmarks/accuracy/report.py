#!/usr/bin/env python3
"""docs/accuracy.md and its plots from the results of run.py.

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
BROKEN = ['mobilenet_v2_relu', 'mobilenet_v2_relu_rescaled', 'mobilenet_v2_relu6', 'mobilenet_v2_relu6_rescaled']
RANDOM = ['mobilenet_v2_random', 'yolo11n_random']
COLUMNS = ['esp-ppq default', 'esp-ppq best', 'default', 'fast', 'accurate']
COLOURS = {'esp-ppq default': '#c9c9c9', 'esp-ppq best': '#8f8f8f', 'default': '#9ec9e8', 'fast': '#4b9bd1', 'accurate': '#15507c'}


def ordered(results):
    """The zoo: what is neither broken on purpose nor random."""
    return sorted(set(results) - {*BROKEN, *RANDOM}, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def columns_of(results, names):
    found = {label for name in names for label in results[name].get('runs', {})}
    return [c for c in COLUMNS if c in found] + sorted(found - set(COLUMNS))


def figure(run, snr):
    if not run: return '–'
    if 'error' in run: return 'failed'
    return f'{run["value"]:.1f}' + (f' ({run["snr"]:.1f})' if snr and run.get('snr') is not None else '') + ('*' if run.get('earlier') else '')


def row(cells): return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'


def both(runs, value):
    """A cell: P4 / S3."""
    texts = [value(runs.get(target)) for target in TARGETS]
    return '–' if set(texts) == {'–'} else ' / '.join(texts)


def values(results, names):
    """What is left, with the SNR of the outputs beside metrics that are something else."""
    columns = columns_of(results, names)
    lines = [row(['network', 'metric', 'float', *columns]), row(['---'] * (3 + len(columns)))]
    for name in names:
        network = results[name]
        decibels = network['about']['metric'] == 'snr'
        lines.append(row([name, METRIC[network['about']['metric']] + ('' if decibels else ' (SNR, dB)'),
                          '' if decibels else f'{network["float"]["value"]:.1f}',
                          *[both(network.get('runs', {}).get(c, {}), lambda run: figure(run, not decibels)) for c in columns]]))
    return '\n'.join(lines) + '\n'


def seconds(results, names):
    columns = columns_of(results, names)
    def cell(run): return f'{run["seconds"]:.0f} ({run["cpu_seconds"]:.0f})' if run and 'cpu_seconds' in run else '–'
    lines = [row(['network', *columns]), row(['---'] * (1 + len(columns)))]
    lines += [row([name, *[both(results[name].get('runs', {}).get(c, {}), cell) for c in columns]]) for name in names]
    return '\n'.join(lines) + '\n'


def failures(results, names):
    found = [f'- {name}, {target}, {label}: {run["error"]}' for name in names for label, runs in results[name].get('runs', {}).items()
             for target, run in runs.items() if 'error' in run]
    return '\n'.join(['Failed:', '', *found]) + '\n' if found else ''


def recorded(results, names):
    """What those who trained a network measured themselves."""
    notes = [f'- {name}, {results[name]["about"]["note"]}' for name in names if 'test set' in results[name]['about'].get('note', '')]
    return '\n'.join(['Recorded by those who trained the networks:', '', *notes]) + '\n' if notes else ''


def table(results, names):
    return '\n'.join([values(results, names), 'Seconds of quantization: wall time of the whole command (CPU time of all cores):\n',
                      seconds(results, names), recorded(results, names), failures(results, names)]).rstrip() + '\n'


def plot(results, names, key, title):
    """A group of bars per network, a panel per chip. `key` is what the bars show; lines mark what the float networks reach."""
    columns = [c for c in columns_of(results, names) if c in COLOURS]
    shown = {(name, c, t): run[key] for name in names for c in columns for t, run in results[name].get('runs', {}).get(c, {}).items() if run.get(key) is not None}
    highest = max([10, *shown.values()]) if key == 'snr' else 100
    bar, gap, left, height, top = 11, 16, 44, 190, 34
    group = max(bar * len(columns) + gap, 60)
    width, panel = max(left + group * len(names) + 70, left + 112 * len(columns)), height + 90
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + panel * len(TARGETS)}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>']
    for i, column in enumerate(columns):
        parts.append(f'<rect x="{left + 112 * i}" y="8" width="11" height="11" fill="{COLOURS[column]}"/>'
                     f'<text x="{left + 112 * i + 16}" y="18">{html.escape(column)}</text>')
    for p, target in enumerate(TARGETS):
        base = top + panel * p + height
        def y(value): return base - max(0, value) / highest * (height - 12)
        for mark in range(0, int(highest) + 1, 10 if key == 'snr' else 20):
            parts.append(f'<line x1="{left}" x2="{width - 8}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#e4e4e4"/>'
                         f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark}</text>')
        parts.append(f'<text x="{left}" y="{base - height + 2}" font-weight="bold">{target}: {html.escape(title)}</text>')
        for n, name in enumerate(names):
            x = left + group * n + gap / 2
            for c, column in enumerate(columns):
                value = shown.get((name, column, target))
                if value is None: continue
                parts.append(f'<rect x="{x + bar * c:.1f}" y="{y(value):.1f}" width="{bar - 1}" height="{base - y(value):.1f}" fill="{COLOURS[column]}">'
                             f'<title>{name}, {html.escape(column)}: {value:.1f}</title></rect>')
            if key == 'value':
                reached = y(results[name]['float']['value'])
                parts.append(f'<line x1="{x - 3:.1f}" x2="{x + bar * len(columns) + 2:.1f}" y1="{reached:.1f}" y2="{reached:.1f}" stroke="#c0392b"/>')
            parts.append(f'<text transform="translate({x + 6:.1f},{base + 12}) rotate(25)">{name}</text>')
    return '\n'.join([*parts, '</svg>']) + '\n'


PAGE = '''# What quantization costs the networks of the zoo
Written by `benchmarks/accuracy/report.py` from what `benchmarks/accuracy/run.py` measured ([how](../benchmarks/accuracy/README.md)).
All networks were trained by somebody else, but for `digits`; all figures come from the written `.espdl` file in Board precision, which
computes the integers of the chip. Weights and activations have 8 bits. Where a cell has two figures they are those of esp32p4 and esp32s3.
SNR is the signal to noise of the outputs against the float network. `default`, `fast` and `accurate` are espq's recipes; `esp-ppq best` is
esp-ppq 1.3.12 with percentile calibration, layer-wise equalization and TQT (500 steps, blocks of 4).

{zoo}
What mirror images of its pictures add to efficientnet_lite0 stands on the page about [data](data.md#mirror-images).
Figures with a star were measured with earlier passes, on the same networks and data. Seconds are those of the machine that measured, which had other work to do at the same time; compare columns, not machines.

![SNR of the outputs](accuracy.svg)

## How far to trust a figure
- **Processors round floats differently**, so exporters fold other last bits into the weights and ranges differ in theirs. Where two ways
  are nearly equal, a recipe then takes the other one. Two files of efficientnet_lite0 from two processors gave with the same earlier
  `fast` 85.6 / 82.5 % (17.9 / 12.6 dB) and 91.9 / 83.8 % (18.8 / 12.7 dB), and the same with `default`. Its `fast` and `accurate` above are
  those of the first file (whose hash differs from `expected.json`), the other columns those of the second. rnet, from the same file on that processor: `accurate` 27.8 / 29.7 dB instead of 30.9 / 31.1 dB, since on esp32p4 the ten
  faces that are held out called its training no gain. On one machine every run gives the same bytes, with any number of threads.
- **160 pictures** tell 90 from 92 % no better than a coin: the standard deviation is 2.4 points.
- **The SNR of ocr_cls is that of a handful of lines.** Its outputs are two probabilities, and half of the 200 lines are right to 114 dB.
  Five lines of which the network itself is not sure hold 94 to 97 % of the noise: another processor, whose roundings turned one of
  them, moved `fast` from 21.6 to 25.9 dB on esp32p4. Its accuracy is the figure to read.
'''

BROKEN_SECTION = '''
## A MobileNetV2, broken and recovered
Two MobileNetV2 (317 thousand parameters) learned here to read characters over photographs, one with ReLU, one with ReLU6. Then the sizes
of their channels were changed by factors drawn log-uniformly over 1:100 such that they compute the same function, as networks do by
themselves that were trained with BatchNormalization: with ReLU the channels of stem, expansions, depthwise convolutions and the last
convolution, with ReLU6 (whose bound has a size of its own) those of the linear bottlenecks, along their residual additions.

{values}
```
python3 benchmarks/accuracy/make_zoo.py out/zoo {names}
python3 benchmarks/accuracy/run.py build/release/cli/espq out/zoo {names}
```
![Accuracy of MobileNetV2, whole and broken; the line is the float network](rescaled.svg)
'''

RANDOM_SECTION = '''
## Shapes with random weights
Nobody trained these: full-size MobileNetV2 (96x96, 1000 classes) and YOLO11n (160x160, the maps of its head), with normalizations that
know the data. They show that every pass gets through such networks, and how long it takes. Random weights make much of small errors, so
their decibels say little about trained networks.

{values}
{seconds}'''


def write(results):
    zoo, broken, random = ordered(results), [n for n in BROKEN if n in results], [n for n in RANDOM if n in results]
    page = PAGE.format(zoo=table(results, zoo))
    (DOCS / 'accuracy.svg').write_text(plot(results, zoo, 'snr', 'SNR of the outputs, dB'))
    if broken:
        page += BROKEN_SECTION.format(values=values(results, broken), names=' '.join(broken)) + failures(results, broken)
        (DOCS / 'rescaled.svg').write_text(plot(results, broken, 'value', 'accuracy, % (line: float)'))
    if random: page += RANDOM_SECTION.format(values=values(results, random), seconds=seconds(results, random)) + failures(results, random)
    (DOCS / 'accuracy.md').write_text(page)


if __name__ == '__main__':
    write(json.loads(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE / 'results.json').read_text()))
