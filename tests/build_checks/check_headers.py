#!/usr/bin/env python3
"""check_headers.py ROOT FOLDER...: fails for each header that uses a type of the standard library and does not include it.
With --fix adds the missing lines."""
import pathlib
import re
import sys

HEADER_OF = {
    "array": "array", "function": "functional", "map": "map", "make_shared": "memory", "make_unique": "memory",
    "nullopt": "optional", "optional": "optional", "ostream": "iosfwd", "set": "set", "shared_ptr": "memory",
    "span": "span", "string": "string", "string_view": "string_view", "to_string": "string", "tuple": "tuple",
    "unique_ptr": "memory", "unordered_map": "unordered_map", "unordered_set": "unordered_set", "variant": "variant",
    "vector": "vector",
}
ALSO = {"iosfwd": ("iostream", "ostream", "fstream", "sstream")}


def missing_headers(text):
    code = re.sub(r"//.*", "", text)
    included = set(re.findall(r"^#include <([^>]+)>", code, re.M))
    needed = {HEADER_OF[name] for name in re.findall(r"\bstd::(\w+)", code) if name in HEADER_OF}
    return sorted(header for header in needed - included if not included & set(ALSO.get(header, ())))


def fixed(text, missing):
    """The lines join the standard headers' block, or make one in front of the first other line; clang-format sorts."""
    lines = text.split("\n")
    blocks = [index for index, line in enumerate(lines) if re.match(r"#include <[a-z_]+>", line)]
    added = [f"#include <{header}>" for header in missing]
    if blocks:
        lines[blocks[0]:blocks[0]] = added
    else:
        place = lines.index("#pragma once") + 1
        own = [index for index, line in enumerate(lines) if line.startswith('#include "')]
        lines[place:place] = added + ([""] if own and own[0] == place else [])
    return "\n".join(lines)


def main(root, folders, fix):
    headers = sorted(header for folder in folders for header in (root / folder).rglob("*.h"))
    wrong = 0
    for header in headers:
        text = header.read_text()
        missing = missing_headers(text)
        if missing and fix:
            header.write_text(fixed(text, missing))
        elif missing:
            wrong += 1
            print(f"{header.relative_to(root)}: lacks " + ", ".join(f"#include <{name}>" for name in missing))
    print(f"{len(headers)} headers, {wrong} lack what they use")
    return 1 if wrong or not headers else 0


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--fix"]
    sys.exit(main(pathlib.Path(arguments[0]), arguments[1:], "--fix" in sys.argv))
