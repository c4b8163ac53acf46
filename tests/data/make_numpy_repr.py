#!/usr/bin/env python3
"""Writes numpy_repr.json: arrays (as hexadecimal bytes) and NumPy's own repr() of them. Needs NumPy 2."""
import json
import pathlib
import sys

import numpy

numpy.set_printoptions(threshold=sys.maxsize)
random = numpy.random.default_rng(1)
ONNX = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float64": 11,
        "uint32": 12, "uint64": 13}


def arrays():
    for dtype in ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"):
        limits = numpy.iinfo(dtype)
        for size in (0, 1, 13, 14, 40):
            yield random.integers(limits.min, limits.max, size, dtype, endpoint=True)
    for size in (1, 11, 12, 16):
        yield random.integers(0, 2, size).astype(bool)
    for dtype in ("float32", "float64"):
        yield numpy.zeros(4, dtype)
        yield numpy.array([0.5, 1.0, -2.25, 0.0], dtype)
        yield numpy.array([1e-4, 0.1], dtype)
        yield numpy.array([9.9999e-5, 0.01], dtype)
        yield numpy.array([999999.0, 1.0], dtype)
        yield numpy.array([1e6, 1e5, 0.0], dtype)
        yield numpy.array([99999999.0, 1e8], dtype)
        yield numpy.array([1.0, 1000.0], dtype)
        yield numpy.array([1.0, 1000.5], dtype)
        yield numpy.array([numpy.nan, 1.5, -numpy.inf], dtype)
        yield numpy.array([numpy.inf, 1e-9, 1e9], dtype)
        yield numpy.array([numpy.nan, numpy.nan], dtype)
        for scale in (1e-6, 1e-3, 1.0, 30.0, 1e5, 1e7):
            yield (random.standard_normal(9) * scale).astype(dtype)
            yield (random.uniform(0.5, 2.0, 9) * scale).astype(dtype)
        for exponent in range(-24, 8, 3):
            yield numpy.ldexp(random.integers(1, 128, 5).astype(dtype), exponent).astype(dtype)
    yield numpy.array([1e-200, 1e200, 3.5], "float64")


cases = [{"type": ONNX[str(a.dtype)], "bytes": a.tobytes().hex(), "repr": repr(a)} for a in arrays()]
target = pathlib.Path(__file__).with_name("numpy_repr.json")
target.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
