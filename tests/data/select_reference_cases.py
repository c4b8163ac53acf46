"""Copies the essence of the reference collection into this folder: board/ and peer/, each with its manifest.

Usage: python select_reference_cases.py COLLECTION [--dry-run]      (COLLECTION has the folders board_cases/ and peer_cases/)

What an item of the collection can tell is a set of facts: "the chip library's Conv at 8 bit on the esp32s3". The item with
the most new facts per byte is taken until none is left that adds one and fits; cheap items fill the rest. The same
collection gives the same choice. Other people's models (published networks and files) stay out of the repository.
"""
import argparse
import json
import pathlib
import shutil
import sys
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
BUDGET = 4 << 20  # bytes on disk for each of the two folders
MANIFEST = 80 << 10  # of it, kept free for the manifest
BLOCK = 4096  # of the file system: a folder or a small file takes one
# What a fact is worth where it is not 1: there are few options; the .espdl file holds the scales, too, and one text is
# like the other.
WORTH = {"option": 2, "scales": 0.15, "text": 0.15}
# esp-ppq's runs that espq does not repeat, as tests/peer_run.h and peer_cases_test.cpp have it.
WITHOUT_OPERATORS = {"Attention"}
WITHOUT_WIDTHS = {"w8a16"}


@dataclass(frozen=True)
class Item:
    """Files (relative to the collection's folder) that belong together, and the facts they prove: (kind, what, ...)."""
    name: str
    files: frozenset
    facts: frozenset
    required: bool = False


# ------------------------------------------------------------------------------------------------------ what there is
def board_items(folder, manifest):
    for case in manifest:
        name = case["dir"]
        files = {"model.espdl"} | {tensor["file"] for tensor in case["inputs"] + case["outputs"]}
        if case["counts"] == "either":
            files |= {output["plain_file"] for output in case["outputs"] if "plain_file" in output}
        facts = {("operator", case["op"], case["target"], case["bits"]), ("answer", case["counts"], case["target"])}
        yield Item(name, frozenset(f"{name}/{file}" for file in files), frozenset(facts), required="_acc20_" in name)


def options_of(run):
    """The run's settings, each as one word; values that name layers are left out."""
    for group, fields in run["options"].get("setting", {}).items():
        for key, value in fields.items() if isinstance(fields, dict) else [("", fields)]:
            yield ".".join([group, key] if isinstance(value, dict) else [group, key, str(value)])
    for width in set(run["options"].get("dispatch", {}).values()):
        yield f"dispatch.{width}"


def repeatable(run):
    """Switches turn passes on, and espq's training differs; the other settings choose among methods it has."""
    switched_on = any(value is True for value in run["options"].get("setting", {}).values())
    return not (switched_on or run["quant"] in WITHOUT_WIDTHS or WITHOUT_OPERATORS & set(run["espdl_ops"]))


def peer_items(folder, manifest):
    for case in manifest["cases"]:
        if case["source"] != "own network":
            continue
        name = case["name"]
        network = {f"{name}/model.onnx"} | {f"{name}/calib/{file.name}" for file in (folder / name / "calib").iterdir()}
        if (folder / name / "simplified.onnx").exists():
            network.add(f"{name}/simplified.onnx")
        if name.startswith("fails_"):  # esp-ppq refuses them, espq's own recipe does not
            yield Item(name, frozenset(network), frozenset(("refused", op) for op in case["ops"]), required=True)
            continue
        for run in case["runs"]:
            if "error" in run or not repeatable(run):
                continue
            place = f"{name}/{run['folder']}"
            target, width = run["target"], run["quant"]
            files = network | {f"{place}/peer.espdl"}
            if (folder / place / "options.json").exists():
                files.add(f"{place}/options.json")
            facts = {("network", name), *(("option", option) for option in options_of(run))}
            facts |= {("model operator", op, target, width) for op in case["ops"]}
            facts |= {("file operator", op, target, width) for op in run["espdl_ops"]}
            yield Item(place, frozenset(files), frozenset(facts))
            facts = {("scales", f"{target} {width}"), *(("scales", op) for op in case["ops"])}
            yield Item(f"{place} with its scales", frozenset(files | {f"{place}/peer.json"}), frozenset(facts))
            if (folder / place / "peer.info").exists():
                facts = frozenset(("text", op) for op in run["espdl_ops"])
                yield Item(f"{place} as text", frozenset(files | {f"{place}/peer.info"}), facts)


# ------------------------------------------------------------------------------------------------------ the choice
class Choice:
    def __init__(self, folder, budget):
        self.folder, self.budget, self.blocks_of = folder, budget, {}
        self.files, self.facts, self.places, self.size = set(), set(), {pathlib.PurePath(".")}, BLOCK

    def places_of(self, files):
        return {place for file in files for place in pathlib.PurePath(file).parents}

    def blocks(self, file):
        if file not in self.blocks_of:
            self.blocks_of[file] = -(-(self.folder / file).stat().st_size // BLOCK)
        return self.blocks_of[file]

    def cost(self, item):
        new_files = item.files - self.files
        return BLOCK * (sum(map(self.blocks, new_files)) + len(self.places_of(new_files) - self.places))

    def gain(self, item):
        return sum(WORTH.get(fact[0], 1) for fact in item.facts - self.facts)

    def take(self, item):
        self.size += self.cost(item)
        if self.size > self.budget:
            sys.exit(f"{item.name} is required and does not fit into {self.budget} bytes")
        self.files |= item.files
        self.facts |= item.facts
        self.places |= self.places_of(item.files)

    def fits(self, item):
        return self.size + self.cost(item) <= self.budget

    def fill(self, items):
        for item in items:
            if item.required:
                self.take(item)
        left = [item for item in items if not item.required]
        while left := [item for item in left if item.files - self.files and self.fits(item)]:
            # Most new facts per byte first, then cheapest first; the name decides between equals.
            self.take(min(left, key=lambda item: (-self.gain(item) / self.cost(item), self.cost(item),
                                                  item.name)))
        for item in items:  # facts that came along with the files of others
            if item.files <= self.files:
                self.facts |= item.facts


def chosen_board_manifest(manifest, choice):
    return [case for case in manifest if f"{case['dir']}/model.espdl" in choice.files]


def chosen_peer_manifest(manifest, choice):
    cases = []
    for case in manifest["cases"]:
        if f"{case['name']}/model.onnx" not in choice.files:
            continue
        runs = [{key: value for key, value in run.items() if not key.endswith("seconds")} for run in case["runs"]
                if "error" in run or f"{case['name']}/{run['folder']}/peer.espdl" in choice.files]
        cases.append(case | {"runs": runs})
    return {"made_with": manifest["made_with"], "environment": manifest["environment"], "cases": cases}


def text_of(manifest):
    """One case per line."""
    listed = isinstance(manifest, list)
    cases = "[\n" + ",\n".join(json.dumps(case) for case in (manifest if listed else manifest["cases"])) + "\n]"
    if listed:
        return cases + "\n"
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in manifest.items() if key != "cases")
    return "{" + head + '"cases": ' + cases + "}\n"


# ------------------------------------------------------------------------------------------------------ what to say
def print_coverage(name, choice, items):
    there = set().union(*(item.facts for item in items))
    print(f"{name}: {len(choice.files)} files, {choice.size} bytes on disk, {len(choice.facts)} of {len(there)} facts")
    for kind in sorted({fact[0] for fact in there}):
        of_kind = {fact for fact in there if fact[0] == kind}
        print(f"  {kind}: {len(of_kind & choice.facts)} of {len(of_kind)}")
        for fact in sorted(of_kind - choice.facts):
            print(f"    not covered: {' '.join(fact[1:])}")


def select(collection, name, items_of, chosen_manifest, dry_run):
    folder = collection / f"{name}_cases"
    manifest = json.loads((folder / "manifest.json").read_text())
    items = sorted(items_of(folder, manifest), key=lambda item: item.name)
    choice = Choice(folder, BUDGET - MANIFEST)
    choice.fill(items)
    print_coverage(name, choice, items)
    text = text_of(chosen_manifest(manifest, choice))
    if len(text) > MANIFEST:
        sys.exit(f"the manifest has {len(text)} bytes, {MANIFEST} are kept free for it")
    if dry_run:
        return
    shutil.rmtree(HERE / name, ignore_errors=True)
    for file in sorted(choice.files):
        (HERE / name / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, HERE / name / file)
    (HERE / name / "manifest.json").write_text(text)


arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
arguments.add_argument("collection", type=pathlib.Path)
arguments.add_argument("--dry-run", action="store_true", help="only print what would be covered")
arguments = arguments.parse_args()
select(arguments.collection, "board", board_items, chosen_board_manifest, arguments.dry_run)
select(arguments.collection, "peer", peer_items, chosen_peer_manifest, arguments.dry_run)
