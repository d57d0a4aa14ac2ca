"""What scripts/bench.d/instructions and the growth curves of scripts/bench.d/all count.

EXPECTED is the TOML file of what was written down, COUNTED what `count PROGRAM` printed; paths given are looked at alone. A count is what valgrind's callgrind has collected of a program that
goes a path so many times more than another one, divided by that number: what both do before, and the first turn of each, is in neither.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("error: this needs Python 3.11 or newer, whose standard library reads TOML\nhelp: put one on PATH as python3")

TOLERANCE = 0.03
# In the order of the table's words.
AS_EXPECTED, MORE, FEWER, NOT_COUNTED, NEW = "as expected", "more", "fewer", "not counted", "new"
HEAD = """\
# Instructions of one turn of each path of crates/bottle-wire/examples/hotpaths.rs, and what they were counted with.
# `scripts/bench instructions` holds them, give or take 3 %; `scripts/bench instructions --update` writes them.
"""


def collected(program, *arguments):
    """Instructions of one run of the program, and what it printed."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, *map(str, arguments)]
    # The environment lies on the program's stack, and moves what is there.
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"error: {' '.join(map(str, arguments))}: valgrind ended with {done.returncode}\n{done.stderr[-2000:]}")
    return int(found[1]), done.stdout


def turn(program, path, turns, size=None):
    """Instructions of one turn."""
    sized = [] if size is None else [size]
    first, _ = collected(program, path, 1, *sized)
    more, _ = collected(program, path, 1 + turns, *sized)
    return round((more - first) / turns)


def paths(program):
    listed = subprocess.run([program, "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in listed.splitlines()]


def counters():
    """Valgrind runs a program on one processor at a time."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def toolchain(program):
    """What counts depend on besides the code: compiler, target, and the features of the processor that valgrind shows."""
    _, features = collected(program, "features")
    said = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"rustc": said.removeprefix("rustc ").strip(), "target": os.environ["TARGET_TRIPLE"],
            "profile": os.environ["PROFILE"], "features": features.strip()}


def count(program, wanted):
    known = paths(program)
    missing = set(wanted) - {path["name"] for path in known}
    if missing:
        sys.exit(f"error: no path is called {', '.join(sorted(missing))}\nhelp: {' '.join(path['name'] for path in known)}")
    chosen = [path for path in known if not wanted or path["name"] in wanted]
    with counters() as pool:
        counted = pool.map(lambda path: turn(program, path["name"], path["turns"]), chosen)
        counts = {path["name"]: number for path, number in zip(chosen, counted)}
    return {"toolchain": toolchain(program), "counts": counts}


def read(expected):
    try:
        with open(expected, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {"toolchain": {}, "counts": {}}
    except tomllib.TOMLDecodeError as error:
        sys.exit(f"error: {expected}: {error}")


def verdict(expected, counted):
    if counted is None:
        return NOT_COUNTED
    if expected is None:
        return NEW
    ratio = counted / expected
    return MORE if ratio > 1 + TOLERANCE else FEWER if ratio < 1 - TOLERANCE else AS_EXPECTED


def rows(expected, counted):
    for name in [*expected, *(name for name in counted if name not in expected)]:
        was, now = expected.get(name), counted.get(name)
        yield {"path": name, "expected": was, "counted": now, "ratio": round(now / was, 4) if was and now else None,
               "verdict": verdict(was, now)}


def shown(number):
    return "-" if number is None else f"{number:,}"


def compare(given, counted):
    expected = read(given.expected)
    table = [row for row in rows(expected["counts"], counted["counts"]) if not given.paths or row["path"] in given.paths]
    was, now = expected["toolchain"], counted["toolchain"]
    differing = [key for key in now if was.get(key) != now[key]]
    failed = [row["path"] for row in table if row["verdict"] != AS_EXPECTED]
    width = max(len(row["path"]) for row in table)
    if not given.json:
        print(f"{'path':{width}}  {'expected':>14}  {'counted':>14}  {'ratio':>7}  verdict")
        for row in table:
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
            said = "not comparable" if differing else row["verdict"]
            print(f"{row['path']:{width}}  {shown(row['expected']):>14}  {shown(row['counted']):>14}  {ratio:>7}  {said}")
    figures = {"bench": "instructions", "tolerance": TOLERANCE, "toolchain": now, "comparable": not differing,
               "rows": table, "missed": [] if differing else failed}
    print(json.dumps(figures))
    if differing:
        what = "; ".join(f"{key} is {now[key] or 'none'}, and was {was.get(key) or 'not written down'}" for key in differing)
        message = f"counts not comparable: other toolchain: {what}"
        # The compiler of releases is the one whose counts have to be written down.
        is_releases = "rustc" in differing and now["rustc"].split()[0] == given.release
        if given.if_comparable and not is_releases:
            print(f"warning: {message}\nwarning: the instructions were NOT held against those written down", file=sys.stderr)
            return 0
        print(f"error: {message}\nhelp: count with the toolchain that is written down (RUSTUP_TOOLCHAIN), or write these down: "
              "scripts/bench instructions --update", file=sys.stderr)
        return 1
    if failed:
        each = ", ".join(f"{row['path']} ({row['verdict']})" for row in table if row["verdict"] != AS_EXPECTED)
        print(f"error: not as written down, give or take {TOLERANCE:.0%}: {each}\n"
              "help: find what costs more; where the new count is meant, write it down: scripts/bench instructions --update", file=sys.stderr)
    return 1 if failed else 0


def update(expected_file, counted, wanted):
    expected = read(expected_file)
    counts = counted["counts"]
    if wanted:
        if expected["toolchain"] != counted["toolchain"]:
            sys.exit("error: some paths alone can't be written down beside counts of another toolchain\nhelp: write all down, by --update alone")
        counts = expected["counts"] | counts
    lines = ["[toolchain]", *(f"{key} = {json.dumps(value)}" for key, value in counted["toolchain"].items())]
    lines += ["", "[counts]", *(f"{name} = {number}" for name, number in counts.items())]
    with open(expected_file, "w") as file:
        file.write(HEAD + "\n" + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ["count", "compare", "update"]:
        command = commands.add_parser(name)
        for file in ["program"] if name == "count" else ["expected", "counted"]:
            command.add_argument(file)
        command.add_argument("paths", nargs="*")
        if name == "compare":
            command.add_argument("--json", action="store_true")
            command.add_argument("--if-comparable", action="store_true")
            command.add_argument("--release", metavar="RUSTC")
    given = parser.parse_args()
    if given.command == "count":
        print(json.dumps(count(given.program, given.paths)))
        return 0
    with open(given.counted) as file:
        counted = json.load(file)
    if given.command == "update":
        update(given.expected, counted, given.paths)
        return 0
    return compare(given, counted)


if __name__ == "__main__":
    sys.exit(main())
