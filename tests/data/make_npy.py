#!/usr/bin/env python3
"""Writes the files in tests/data/npy with NumPy: what espq's reader is tested against.

Element i (C order) of every array is (7 * i + 3) mod 11, plus 0.5 for floats, parity for bool.
"""
import pathlib
import zipfile

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "npy"
DTYPES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def array(shape, dtype):
    count = int(np.prod(shape, dtype=int))
    values = (7 * np.arange(count) + 3) % 11
    if dtype[0] == "b":
        values = values % 2
    if dtype[0] == "f":
        values = values + 0.5
    return values.astype(dtype).reshape(shape)


def write_version(name, version, value):
    with open(FOLDER / name, "wb") as stream:
        np.lib.format.write_array(stream, value, version=version)


def main():
    FOLDER.mkdir(exist_ok=True)
    for major in (1, 2, 3):
        write_version(f"version{major}.npy", (major, 0), array((2, 3, 4), "f4"))
    np.save(FOLDER / "fortran.npy", np.asfortranarray(array((2, 3, 4), "f4")))
    np.save(FOLDER / "scalar.npy", array((), "f8"))
    np.save(FOLDER / "vector.npy", array((5,), "i8"))
    np.save(FOLDER / "empty.npy", array((3, 0, 2), "f4"))
    np.save(FOLDER / "big_endian.npy", array((3,), "f4").astype(">f4"))
    np.save(FOLDER / "complex.npy", array((3,), "f4").astype("c8"))
    np.save(FOLDER / "structured.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    np.save(FOLDER / "not_finite.npy", np.array([1, np.nan, np.inf], "f4"))
    np.savez(FOLDER / "dtypes.npz", **{d: array((2, 3, 4), d) for d in DTYPES})
    np.savez_compressed(FOLDER / "dtypes_fortran.npz", **{d: np.asfortranarray(array((2, 3, 4), d)) for d in DTYPES})
    np.savez(FOLDER / "two_inputs.npz", image=array((1, 2, 4), "f4"), length=array((1,), "f8"))
    # Sizes and offsets in 64-bit records, as for archives above 4 GiB.
    zipfile.ZIP64_LIMIT = 16
    np.savez_compressed(FOLDER / "zip64.npz", a=array((2, 3, 4), "f4"), b=array((5,), "i8"))


if __name__ == "__main__":
    main()
