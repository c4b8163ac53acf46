"""Writes tests/data/observers: tensors and the exponents that esp-ppq 1.3.12's observers give them.

Needs: pip install esp-ppq==1.3.12 numpy torch. The package's observers are run, not copied.
"""
import json
import math
import pathlib

import numpy as np
import torch
from esp_ppq.core import (OBSERVER_KL_HIST_BINS_MANUL_OVERRIDE, QuantizationPolicy, QuantizationProperty,
                          QuantizationStates, RoundingPolicy, TensorQuantizationConfig)
from esp_ppq.quantization.observer.range import (TorchHistObserver, TorchMinMaxObserver, TorchMSEObserver,
                                                 TorchPercentileObserver)

FOLDER = pathlib.Path(__file__).parent / "observers"
METHODS = {"minmax": TorchMinMaxObserver, "percentile": TorchPercentileObserver, "kl": TorchHistObserver,
           "mse": TorchMSEObserver}


def config(bits, channel_axis):
    kind = QuantizationProperty.PER_TENSOR if channel_axis is None else QuantizationProperty.PER_CHANNEL
    policy = QuantizationPolicy(QuantizationProperty.SYMMETRICAL + QuantizationProperty.LINEAR +
                                QuantizationProperty.POWER_OF_2 + kind)
    return TensorQuantizationConfig(
        policy=policy, rounding=RoundingPolicy.ROUND_HALF_EVEN, num_of_bits=bits, quant_min=-2 ** (bits - 1),
        quant_max=2 ** (bits - 1) - 1, scale=None, offset=None, exponent_bits=0, channel_axis=channel_axis,
        observer_algorithm="minmax", state=QuantizationStates.INITIAL,
        detail={OBSERVER_KL_HIST_BINS_MANUL_OVERRIDE: 32 * 2 ** (bits - 1)})


class Named:
    name = "x"


def exponents(method, bits, batches, channel_axis=None):
    tqc = config(bits, channel_axis)
    observer = METHODS[method](watch_on=Named(), quant_cfg=tqc)
    for _ in range(2 if method in ("kl", "mse") else 1):
        for batch in batches:
            observer.observe(torch.from_numpy(batch))
        observer.render_quantization_config()
    scale = tqc.scale.reshape(-1).tolist()
    return [int(round(math.log2(s))) for s in scale]


def cases():
    rng = np.random.default_rng(20)
    shapes = {"normal": lambda n: rng.normal(0, 1, n), "uniform": lambda n: rng.uniform(-1, 1, n),
              "rectified": lambda n: np.maximum(rng.normal(0, 1, n), 0), "laplace": lambda n: rng.laplace(0, 1, n),
              "few": lambda n: rng.choice([0.0, 0.25, 0.5, 3.0], n), "sparse": lambda n: rng.normal(0, 1, n) * (rng.random(n) < .02),
              "student": lambda n: rng.standard_t(2, n), "positive": lambda n: rng.exponential(1, n)}
    for name, draw in shapes.items():
        for size in (1, 5, 40, 400):
            scale = 2.0 ** rng.uniform(-12, 6)
            yield f"{name}_{size}", [(draw(size) * scale).astype(np.float32) for _ in range(3)]
    yield "large", [rng.laplace(0, 1, 21000).astype(np.float32)]
    yield "zeros", [np.zeros(16, np.float32), np.zeros(16, np.float32)]
    yield "lowest_code", [np.array([-128.0, 127.0], np.float32)]
    yield "highest", [np.array([127.5, 0.0], np.float32)]
    yield "above_highest", [np.array([127.50001, 0.0], np.float32)]
    yield "tiny", [np.array([1e-12, -1e-12], np.float32)]


def main():
    FOLDER.mkdir(exist_ok=True)
    arrays, expected = {}, {}
    for name, batches in cases():
        for index, batch in enumerate(batches):
            arrays[f"{name}.{index}"] = batch
        expected[name] = {f"{method}_{bits}": exponents(method, bits, batches)[0]
                          for method in METHODS for bits in (8, 16) if not (method == "kl" and bits == 16 and len(batches[0]) != 400)}
    rng = np.random.default_rng(21)
    for axis in (0, 1):
        weight = (rng.normal(0, 1, (6, 5, 3)) * 2.0 ** rng.uniform(-9, 3, (6, 5, 1))).astype(np.float32)
        arrays[f"weight_axis{axis}.0"] = weight
        expected[f"weight_axis{axis}"] = {"channels_8": exponents("minmax", 8, [weight], axis)}
    np.savez_compressed(FOLDER / "tensors.npz", **arrays)
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


main()
