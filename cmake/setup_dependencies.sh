#!/usr/bin/env bash
# Brings everything that espq is built on to this machine: Debian packages, LibTorch, the ONNX C++ library.
# Idempotent and resumable: each step looks first, and what it makes appears under its final name only when complete.
# Everything that is not a Debian package lives in .deps (or $ESPQ_DEPS), outside the build folder.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=${ESPQ_DEPS:-$root/.deps}
onnx_version=1.19.1
torch_version=2.13.0
torch_minimum=2.9
jobs=${ESPQ_JOBS:-2}
mkdir -p "$deps"

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'setup_dependencies.sh: %s\n' "$*" >&2; exit 1; }

# Two runs at once would build the same thing twice into one folder.
exec 9>"$deps/.lock"
flock 9

install_debian_packages() {
  local wanted=(
    g++ cmake ninja-build ccache lld git make python3 python3-pip
    protobuf-compiler libprotobuf-dev libflatbuffers-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev
    libgtest-dev libgmock-dev libbenchmark-dev zlib1g-dev libssl-dev flatbuffers-compiler clang-format
    libturbojpeg0-dev libjpeg62-turbo-dev libpng-dev)
  command -v dpkg-query >/dev/null || fail "dpkg is missing: this script needs Debian 12; docs/building.md lists what to install"
  local missing=() package
  for package in "${wanted[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "Debian packages: ${missing[*]}"
  local as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || fail "installing ${missing[*]} needs root: run apt-get install for them, then this again"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Prints the folder of a Python package `torch` that is new enough. Reads the package's version file only, importing it
# would need all its Python dependencies.
usable_torch() {
  python3 - "$torch_minimum" "$@" <<'PYTHON'
import importlib.util, pathlib, re, sys
minimum = tuple(map(int, sys.argv[1].split(".")))
if len(sys.argv) > 2:
    sys.path[:0] = sys.argv[2:]
found = importlib.util.find_spec("torch")
folders = list(found.submodule_search_locations or []) if found else []
for folder in map(pathlib.Path, folders):
    version_file = folder / "version.py"
    if not version_file.is_file() or not (folder / "share/cmake/Torch/TorchConfig.cmake").is_file():
        continue
    text = version_file.read_text()
    version = re.search(r"""__version__\s*=\s*['"](\d+)\.(\d+)""", text)
    if version and tuple(map(int, version.groups())) >= minimum:
        print(folder)
        break
PYTHON
}

link_libtorch() {
  local link=$deps/libtorch folder
  [[ -f $link/share/cmake/Torch/TorchConfig.cmake && -f $link/lib/libtorch_cpu.so ]] && return 0
  folder=$(usable_torch "$deps/python")
  if [[ -z $folder ]]; then
    say "LibTorch $torch_version (PyPI wheel) into $deps/python"
    local pip=(python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --upgrade
               --target "$deps/python")
    # The CPU build where pip's indexes have it. The default wheel may be a CUDA build: it serves as well, and brings
    # the libraries that it loads as its dependencies. Python itself and numpy only write the tests' networks.
    "${pip[@]}" "torch==$torch_version+cpu" numpy 2>/dev/null ||
      "${pip[@]}" "torch==$torch_version" numpy || fail "pip cannot install torch==$torch_version"
    folder=$(usable_torch "$deps/python")
    [[ -n $folder ]] || fail "torch $torch_version was installed, but its CMake files are not where they should be"
  fi
  say "LibTorch: $folder"
  ln -sfn "$folder" "$link"
}

build_onnx() {
  local prefix=$deps/onnx stamp=$deps/onnx/.complete-$onnx_version
  [[ -f $stamp ]] && return 0
  local tarball=$deps/onnx-$onnx_version.tar.gz source=$deps/onnx-$onnx_version
  if [[ ! -f $tarball ]]; then
    say "ONNX $onnx_version source package from PyPI"
    rm -rf "$deps/download"
    python3 -m pip download --quiet --disable-pip-version-check --no-binary onnx --no-deps --dest "$deps/download" \
      "onnx==$onnx_version"
    mv "$deps/download/onnx-$onnx_version.tar.gz" "$tarball"
    rmdir "$deps/download"
  fi
  if [[ ! -f $source/CMakeLists.txt ]]; then
    rm -rf "$source.part"
    mkdir "$source.part"
    tar -xzf "$tarball" -C "$source.part" --strip-components=1
    mv "$source.part" "$source"
  fi
  say "building the ONNX C++ library (once, a few minutes)"
  cmake -S "$source" -B "$source/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_STANDARD=17 \
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DONNX_USE_PROTOBUF_SHARED_LIBS=OFF -DONNX_USE_LITE_PROTO=ON \
    >"$deps/onnx-configure.log" || fail "ONNX does not configure, see $deps/onnx-configure.log"
  cmake --build "$source/build" -j "$jobs" >"$deps/onnx-build.log" ||
    fail "ONNX does not build, see $deps/onnx-build.log"
  cmake --install "$source/build" >>"$deps/onnx-build.log"
  # ONNX's own operator test data serves our tests.
  rm -rf "$deps/onnx_backend_test_data"
  cp -r "$source/onnx/backend/test/data" "$deps/onnx_backend_test_data"
  touch "$stamp"
  rm -rf "$source"
}

install_debian_packages
link_libtorch
build_onnx
say "dependencies are complete in $deps"
