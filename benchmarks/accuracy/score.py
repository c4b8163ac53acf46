#!/usr/bin/env python3
"""What the answers of a quantized network are worth, by the metric of the zoo's network (make_zoo.py).

usage: score.py ZOO/NAME ANSWERS      ANSWERS/NNNN/OUTPUT.npy for eval/NNNN.npy, as `espq evaluate --out-dir` writes them
       score.py ZOO/NAME --float      the float network itself, run by onnxruntime
Prints a JSON line: `value` by the metric (higher is better) and `snr`, the signal to noise of the outputs against the float network in
dB: noise over signal of a sample, averaged over samples; the mean over outputs.
"""
import argparse, json, pathlib, re
import numpy as np


class Reference:
    """The float answers on the evaluation data."""
    def __init__(self, folder):
        import onnxruntime
        self.folder = pathlib.Path(folder)
        self.about, self.labels = (json.loads((self.folder / name).read_text()) for name in ('about.json', 'labels.json'))
        self.samples = sorted((self.folder / 'eval').glob('*.npy'))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(str(self.folder / 'model.onnx'), options, providers=['CPUExecutionProvider'])
        self.outputs = [output.name for output in session.get_outputs()]
        entry = session.get_inputs()[0].name
        self.answers = [dict(zip(self.outputs, session.run(None, {entry: np.load(sample)}))) for sample in self.samples]

    def read(self, folder):
        files = {name: re.sub(r'[^A-Za-z0-9._-]', '_', name) + '.npy' for name in self.outputs}
        return [{name: np.load(pathlib.Path(folder) / sample.stem / file) for name, file in files.items()} for sample in self.samples]

    def score(self, answers=None):
        answers = self.answers if answers is None else [{name: value[name].reshape(wanted[name].shape) for name in self.outputs}
                                                        for value, wanted in zip(answers, self.answers)]
        decibel = signal_to_noise(answers, self.answers, self.outputs)
        metric = METRICS[self.about['metric']]
        value = decibel if metric is None else 100 * metric(answers, self.answers, self.labels)
        return {'value': round(float(value), 3), 'snr': round(decibel, 2)}


def signal_to_noise(answers, reference, outputs):
    def noise(got, wanted): return np.square(np.float64(got) - wanted).sum() / max(np.square(np.float64(wanted)).sum(), 1e-30)
    shares = [np.mean([noise(got[name], wanted[name]) for got, wanted in zip(answers, reference)]) for name in outputs]
    return float(np.mean([-10 * np.log10(max(share, 1e-12)) for share in shares]))


def first(answer): return next(iter(answer.values()))


def classes(answers, reference, labels): return np.mean([first(answer).argmax() == label for answer, label in zip(answers, labels)])


def faces(answers, reference, labels):
    """The output with two scores says 'no face' and 'face'."""
    scores = [next(value.ravel() for value in answer.values() if value.size == 2) for answer in answers]
    return np.mean([(no < yes) == bool(label) for (no, yes), label in zip(scores, labels)])


def overlap(answers, reference, labels):
    """Intersection over union of what is taken for text."""
    areas = [(first(answer) > .3, first(wanted) > .3) for answer, wanted in zip(answers, reference)]
    return np.mean([(a & b).sum() / max(1, (a | b).sum()) for a, b in areas])


def characters(answers, reference, labels):
    """1 less the edit distance over the length of all texts."""
    alphabet = ['', *labels['characters']]
    def read(scores):
        best = scores.reshape(scores.shape[-2:]).argmax(-1)
        changes = np.flatnonzero(np.diff(best, prepend=-1))
        return ''.join(alphabet[i] if i < len(alphabet) else ' ' for i in best[changes] if i)
    wrong = sum(distance(read(first(answer)), text) for answer, text in zip(answers, labels['texts']))
    return 1 - wrong / sum(len(text) for text in labels['texts'])


def distance(a, b):
    """Insertions, deletions and exchanges that make b of a."""
    costs = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        previous, costs = costs, [row]
        for column, right in enumerate(b, 1):
            costs.append(min(previous[column] + 1, costs[-1] + 1, previous[column - 1] + (left != right)))
    return costs[-1]


METRICS = {'accuracy': classes, 'agreement': classes, 'face': faces, 'overlap': overlap, 'character_accuracy': characters, 'snr': None}

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('network', type=pathlib.Path); parser.add_argument('answers', nargs='?'); parser.add_argument('--float', action='store_true')
    arguments = parser.parse_args()
    if bool(arguments.answers) == arguments.float: parser.error('either ANSWERS or --float')
    reference = Reference(arguments.network)
    print(json.dumps({'name': arguments.network.name, 'metric': reference.about['metric'],
                      **reference.score(None if arguments.float else reference.read(arguments.answers)), 'samples': len(reference.samples)}))
