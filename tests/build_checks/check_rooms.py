#!/usr/bin/env python3
"""check_rooms.py ROOT: fails for each #include that the table in ROOT/cmake/rooms.txt does not allow."""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')


def read_table(file):
    table = {}
    for line in file.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, _, allowed = line.partition(":")
            table[room.strip()] = allowed.split()
    return table


def contains(folder, path):
    return path == folder or path.startswith((folder + "/", folder + "."))


def room_of(path, table):
    return max((room for room in table if contains(room, path)), key=len, default=None)


def reachable(room, table):
    """Every room that `room` may include."""
    found, waiting = set(), [room]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            for name in table[current]:
                below = [other for other in table if name == "*" or contains(name, other)]
                if not below:
                    sys.exit(f"cmake/rooms.txt: {current} names {name}, which has no line")
                waiting += below
    return found


def main(root):
    table = read_table(root / "cmake/rooms.txt")
    allowed = {room: reachable(room, table) for room in table}
    for room in table:
        for other in allowed[room] - {room}:
            if room in allowed[other] and "*" not in table[room]:
                sys.exit(f"cmake/rooms.txt: {room} and {other} may include each other")
    files = sorted(file for top in {room.split("/")[0] for room in table} for file in (root / top).rglob("*")
                   if file.suffix in (".h", ".cpp"))
    wrong, arrows = [], 0
    for file in files:
        path = file.relative_to(root).as_posix()
        room = room_of(path, table)
        if room is None:
            wrong.append(f"{path}: is in no room of cmake/rooms.txt")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or not (root / match[1]).is_file():
                continue  # the system's, or generated
            arrows += 1
            other = room_of(match[1], table)
            if other is None or other not in allowed[room]:
                wrong.append(f"{path}:{number}: {room} may not include {match[1]}")
    print("\n".join(wrong))
    print(f"{len(files)} files, {arrows} includes of the project's headers, {len(wrong)} not allowed")
    return 1 if wrong or not arrows else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
