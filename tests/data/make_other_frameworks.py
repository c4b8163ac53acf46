#!/usr/bin/env python3
"""Make the networks of other_frameworks/: ONNX graphs as converters leave them, and what the frameworks themselves answered.

usage: make_other_frameworks.py OUT_DIR keras|tensorflow|tflite|paddle [--only NAME ...]
A network is a folder: model.onnx, calib/N.npy, answers/N_K.npy (what the framework computes for calib/N.npy, output K of the graph),
about.json (framework, converter, versions). Weights are random and seeded, nothing is downloaded.
docs/other_frameworks.md says which versions worked together; each part runs in an environment of its own.
"""
import argparse, json, os, pathlib, shutil, sys
import numpy as np

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
OPSET = 17
BATCHES = 3


def versions(*modules): return {m.__name__: m.__version__ for m in modules}


def batches_of(shape, seed):
    return [np.random.default_rng([seed, batch]).standard_normal(shape).astype(np.float32) for batch in range(BATCHES)]


def write(folder, data, answer, about, order=None):
    """`answer` gives the framework's outputs for a batch, in the order of the graph's. `order`: of the dimensions of the graph's input."""
    for part in ('calib', 'answers'):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    for batch, values in enumerate(data):
        np.save(folder / 'calib' / f'{batch}.npy', np.ascontiguousarray(values.transpose(order)) if order else values)
        for position, result in enumerate(answer(values)):
            np.save(folder / 'answers' / f'{batch}_{position}.npy', np.asarray(result, np.float32))
    (folder / 'about.json').write_text(json.dumps(about, indent=1) + '\n')


# Keras ---------------------------------------------------------------------------------------------------------------------------
def separable(keras):
    """A depthwise separable classifier: SAME pads that are asymmetric at stride 2, BatchNormalization, ReLU6."""
    layers = keras.layers
    x = inputs = keras.Input((24, 24, 3), batch_size=1, name='image')
    x = layers.Conv2D(8, 3, strides=2, padding='same', use_bias=False)(x)
    x = layers.ReLU(6.)(layers.BatchNormalization()(x))
    for channels, stride in ((16, 1), (24, 2)):
        x = layers.DepthwiseConv2D(3, strides=stride, padding='same', use_bias=False)(x)
        x = layers.ReLU(6.)(layers.BatchNormalization()(x))
        x = layers.Conv2D(channels, 1, use_bias=False)(x)
        x = layers.ReLU(6.)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation='softmax', name='scores')(x))


def speech(keras):
    """One-dimensional convolutions over time, flattened into a classifier, whose weights are in channels-last order."""
    layers = keras.layers
    x = inputs = keras.Input((32, 10), batch_size=1, name='features')
    for channels in (12, 16):
        x = layers.Conv1D(channels, 3, padding='same', activation='relu')(x)
        x = layers.MaxPooling1D(2)(x)
    return keras.Model(inputs, layers.Dense(6, name='scores')(layers.Flatten()(x)))


def residual(keras, leaky=True):
    """A residual addition, a gate per channel, an average pool, LeakyReLU, a map flattened into a classifier."""
    layers = keras.layers
    x = inputs = keras.Input((16, 16, 3), batch_size=1, name='image')
    x = layers.Conv2D(8, 3, padding='same', activation='relu')(x)
    y = layers.Conv2D(8, 3, padding='same')(x)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv2D(4, 1, activation='relu')(gate)
    gate = layers.Conv2D(8, 1, activation='sigmoid')(gate)
    x = layers.Add()([x, layers.Multiply()([y, gate])])
    x = layers.AveragePooling2D(2)(layers.ReLU()(x))
    x = (layers.LeakyReLU(0.125) if leaky else layers.ReLU())(layers.Conv2D(12, 3, padding='same')(x))
    return keras.Model(inputs, layers.Dense(4, name='scores')(layers.Flatten()(x)))


def autoencoder(keras):
    """Dense layers alone."""
    layers = keras.layers
    x = inputs = keras.Input((40,), batch_size=1, name='spectrum')
    for units in (24, 24, 6, 24): x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
    return keras.Model(inputs, layers.Dense(40, name='restored')(x))


def recurrent(keras):
    """An LSTM over time, a GRU on its states, a classifier on the last step. Unrolled: Keras 3 makes of others a Loop, which no chip has."""
    layers = keras.layers
    inputs = keras.Input((6, 8), batch_size=1, name='features')
    x = layers.LSTM(10, return_sequences=True, unroll=True)(inputs)
    return keras.Model(inputs, layers.Dense(4, name='scores')(layers.GRU(8, unroll=True)(x)))


def attention(keras):
    """One encoder layer of a transformer. Its GELU is the tanh form: tf2onnx 1.17 has no Erfc, which Keras 3 makes of the exact one."""
    layers = keras.layers
    x = inputs = keras.Input((16, 12), batch_size=1, name='features')
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 6)(x, x)]))
    y = layers.Dense(12)(layers.Dense(24, activation=lambda t: keras.activations.gelu(t, approximate=True))(x))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(4, name='scores')(layers.GlobalAveragePooling1D()(x)))


NETWORKS = {build.__name__: build for build in (separable, speech, residual, autoencoder, recurrent, attention)}
# tflite2onnx 0.4.1 has no LEAKY_RELU, and nothing of what the others are made of.
FOR_TFLITE = {'separable': separable, 'residual': lambda keras: residual(keras, leaky=False), 'autoencoder': autoencoder}


def unsettle(model, keras):
    """Weights as after training: statistics of normalizations that are not 0 and 1, biases that are not 0."""
    rng = np.random.default_rng(5)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = weights
            layer.set_weights([rng.uniform(.5, 1.5, gamma.shape), rng.normal(0, .3, beta.shape), rng.normal(0, .3, mean.shape),
                               rng.uniform(.3, 1.5, variance.shape)])
        elif len(weights) == 2 and weights[1].ndim == 1: layer.set_weights([weights[0], rng.normal(0, .1, weights[1].shape)])


def built(name, build, keras, tf):
    """The network as a function of one tensor, and data for it."""
    keras.utils.set_random_seed(list(NETWORKS).index(name))
    model = build(keras)
    unsettle(model, keras)
    entry = model.inputs[0]
    function = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec(entry.shape, tf.float32, name=entry.name)])
    return function, batches_of(list(entry.shape), list(NETWORKS).index(name))


def make_keras(out, wanted):
    import keras, onnx, tensorflow as tf, tf2onnx

    def keras_network(name):
        folder = out / f'keras_{name}'
        function, data = built(name, NETWORKS[name], keras, tf)
        write(folder, data, lambda x: [function(x).numpy()],
              {'framework': 'Keras', 'converter': 'tf2onnx', 'versions': versions(tf, keras, tf2onnx, onnx)})
        converted, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
        onnx.save(converted, folder / 'model.onnx')
    for name in NETWORKS:
        if wanted(f'keras_{name}'): yield f'keras_{name}', lambda: keras_network(name)


def make_tensorflow(out, wanted):
    """A plain function: an encoder and decoder with nearest enlargement and a Concat, as tf.nn spells them."""
    import onnx, tensorflow as tf, tf2onnx
    rng = np.random.default_rng(11)

    def filters(*shape): return tf.Variable((rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32))
    w = [filters(3, 3, 1, 8), filters(3, 3, 8, 16), filters(3, 3, 24, 8), filters(1, 1, 8, 2)]
    bias = [tf.Variable(rng.normal(0, .1, f.shape[-1]).astype(np.float32)) for f in w]

    def conv(x, i): return tf.nn.bias_add(tf.nn.conv2d(x, w[i], 1, 'SAME'), bias[i])

    @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 1], tf.float32, name='picture')])
    def segment(x):
        fine = tf.nn.relu(conv(x, 0))
        coarse = tf.nn.relu(conv(tf.nn.max_pool2d(fine, 2, 2, 'VALID'), 1))
        large = tf.compat.v1.image.resize_nearest_neighbor(coarse, [16, 16])
        return tf.sigmoid(conv(tf.nn.relu(conv(tf.concat([fine, large], 3), 2)), 3))

    def segmentation():
        folder = out / 'tensorflow_segmentation'
        write(folder, batches_of([1, 16, 16, 1], 21), lambda x: [segment(x).numpy()],
              {'framework': 'TensorFlow', 'converter': 'tf2onnx', 'versions': versions(tf, tf2onnx, onnx)})
        converted, _ = tf2onnx.convert.from_function(segment, segment.input_signature, opset=OPSET)
        onnx.save(converted, folder / 'model.onnx')
    if wanted('tensorflow_segmentation'): yield 'tensorflow_segmentation', segmentation


def make_tflite(out, wanted):
    """Keras networks as TFLite files; the answers are those of the TFLite interpreter."""
    import keras, onnx, tensorflow as tf, tflite2onnx

    def tflite_network(name):
        folder = out / f'tflite_{name}'
        function, data = built(name, FOR_TFLITE[name], keras, tf)
        content = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert()
        interpreter = tf.lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()

        def answer(values):
            interpreter.set_tensor(interpreter.get_input_details()[0]['index'], values)
            interpreter.invoke()
            return [interpreter.get_tensor(interpreter.get_output_details()[0]['index'])]
        write(folder, data, answer, {'framework': 'TFLite', 'converter': 'tflite2onnx', 'versions': versions(tf, keras, tflite2onnx, onnx)},
              [0, 3, 1, 2] if data[0].ndim == 4 else None)    # tflite2onnx gives pictures channels first
        flat = folder / 'network.tflite'
        flat.write_bytes(content)
        try: tflite2onnx.convert(str(flat), str(folder / 'model.onnx'))
        finally: flat.unlink()
    for name in FOR_TFLITE:
        if wanted(f'tflite_{name}'): yield f'tflite_{name}', lambda: tflite_network(name)


def make_paddle(out, wanted):
    import onnx, paddle, paddle2onnx
    nn = paddle.nn

    class Mobile(nn.Layer):
        """Hard swish, a depthwise convolution, a gate per channel."""
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False), nn.BatchNorm2D(8), nn.Hardswish())
            self.depthwise = nn.Sequential(nn.Conv2D(8, 8, 3, padding=1, groups=8, bias_attr=False), nn.BatchNorm2D(8), nn.Hardswish())
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Conv2D(8, 4, 1), nn.ReLU(), nn.Conv2D(4, 8, 1), nn.Hardsigmoid())
            self.head = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax())

        def forward(self, x):
            x = self.depthwise(self.stem(x))
            return self.head(x * self.gate(x))

    class Recognizer(nn.Layer):
        """Convolutions whose map becomes a sequence, a linear layer over time."""
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2D(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2), nn.Conv2D(8, 12, 3, padding=1), nn.ReLU(),
                                          nn.AvgPool2D((4, 1)))
            self.scores = nn.Linear(24, 11)

        def forward(self, x):    # the features are 1 x 12 x 2 x 16
            return self.scores(self.features(x).transpose([0, 3, 1, 2]).flatten(2))

    def paddle_network(name, build, shape, seed):
        paddle.seed(seed)
        model = build()
        model.train()    # statistics of the normalizations
        for batch in range(20): model(paddle.to_tensor(np.random.default_rng(batch).standard_normal([4, *shape[1:]]).astype(np.float32)))
        model.eval()
        folder = out / name
        write(folder, batches_of(shape, 31 + seed), lambda x: [model(paddle.to_tensor(x)).numpy()],
              {'framework': 'PaddlePaddle', 'converter': 'paddle2onnx', 'versions': versions(paddle, paddle2onnx, onnx)})
        paddle.onnx.export(model, str(folder / 'model'), input_spec=[paddle.static.InputSpec(shape, 'float32', 'image')], opset_version=OPSET)
    for seed, (name, build, shape) in enumerate((('paddle_mobile', Mobile, [1, 3, 24, 24]), ('paddle_recognizer', Recognizer, [1, 1, 16, 32]))):
        if wanted(name): yield name, lambda: paddle_network(name, build, shape, seed)


PARTS = {'keras': make_keras, 'tensorflow': make_tensorflow, 'tflite': make_tflite, 'paddle': make_paddle}

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=pathlib.Path); parser.add_argument('part', choices=PARTS); parser.add_argument('--only', nargs='*')
    arguments = parser.parse_args()
    failed = []
    for name, make in PARTS[arguments.part](arguments.out, lambda name: not arguments.only or name in arguments.only):
        try: make()
        except Exception as error:
            failed.append(name)
            shutil.rmtree(arguments.out / name, ignore_errors=True)
            print(f'{name}: {type(error).__name__}: {error}', file=sys.stderr, flush=True)
            continue
        print(name, f"{(arguments.out / name / 'model.onnx').stat().st_size} bytes", flush=True)
    if failed: sys.exit(f'not made: {" ".join(failed)}')
