#!/usr/bin/env python3
"""Takes digits.csv.gz out of scikit-learn's wheel: how the file beside this script was made. Not needed to build."""
import pathlib
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.5.2"

with tempfile.TemporaryDirectory() as folder:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"scikit-learn=={VERSION}"],
        check=True,
    )
    with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
        for name in ("sklearn/datasets/data/digits.csv.gz", "sklearn/datasets/descr/digits.rst"):
            content = wheel.read(name)
            if name.endswith(".gz"):
                (pathlib.Path(__file__).parent / "digits.csv.gz").write_bytes(content)
            else:
                print(content.decode())
        print([n for n in wheel.namelist() if "COPYING" in n or "LICENSE" in n])
