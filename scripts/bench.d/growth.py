"""How costs grow with the work: the curves of scripts/bench all --html, and whether one is worse than n log n, or than the same whatever the size."""

import math
import os
import subprocess
import sys
import time

import instructions

# What one more turn costs by callgrind, which is the same each time; or of a processor, where that would take minutes: the least of so many, of as many turns
# as take so long. A turn that takes more than the last is looked at once.
BY_INSTRUCTIONS, BY_TIME, TIMES = "instructions", "ms of a processor", 3
ENOUGH_MS, MOST_TURNS, LONG_MS = 60, 3000, 5000
# Above its bound by this much between the last two points is worse; time is not as steady as instructions are.
STEADY, UNSTEADY = 1.02, 1.25
N_LOG_N, CONSTANT = "n log n", "a constant"

# Name, path, its sizes, those that --quick leaves out, how it is measured, and what a size is, times so many.
CURVES = [
    ("a request by the routes there are", "route-10000", [1, 10, 100, 1_000, 10_000], [], BY_INSTRUCTIONS, "routes", 1),
    ("a push by its commits", "gate-commits", [100, 1_000, 10_000, 100_000], [], BY_TIME, "commits", 1),
    ("a push by its files, 2 KiB each", "gate-objects", [1, 10, 100, 1_000, 10_000, 50_000], [], BY_TIME, "files", 1),
    ("a record written and verified", "record-chain", [4_000, 40_000, 400_000], [4_000_000], BY_TIME, "bytes", 250),
    ("128 KiB by the size of a chunk", "known-secrets", [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10], [], BY_INSTRUCTIONS, "bytes a chunk", 1),
]

# Curves out of the figures of a benchmark: name, benchmark, its arguments, those with --quick (a text: left out, and why), where the points are, their x and y, what
# y is, and what it must not rise faster than.
BOTTLES = ("launch-bubblewrap", ["0", "1,10,50"], "61 bottles take minutes")
HISTORY = ("gate", ["history"], ["history=10000"])
HELD = ("egress", ["connections"], ["connections"])
OF_BENCHES = [
    ("a request by the connections that are held", *HELD, "connections", "connections", "request_us", "us of a processor", CONSTANT),
    ("memory of held connections", *HELD, "connections", "connections", "held_mb", "MB", N_LOG_N),
    ("a push of one commit by the objects of its history", *HISTORY, "history", "objects", "push_ms", BY_TIME, CONSTANT),
    ("one more proposal by those there are", "proposals", [], [], "proposals", "proposals", "supervise_us", "us of a processor", N_LOG_N),
    ("until all bottles are at their agents", *BOTTLES, "at_once", "bottles", "all_up_s", "s", N_LOG_N),
    ("memory of a bottle by those beside it", *BOTTLES, "at_once", "bottles", "bottle_pss_mib", "MiB", CONSTANT),
]
PARTS_LEFT_OUT = {"gate": "a history of 1,000,000 objects"}


def processor_ms(program, *arguments):
    """What the program has had of a processor by itself."""
    child = subprocess.Popen([program, *map(str, arguments)], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"error: {' '.join(map(str, arguments))} ended with {child.returncode}")
    return usage.ru_utime * 1000


def timed(program, path, size):
    """Milliseconds of a turn: the more turns the shorter they are, so that the clock's ticks don't show."""
    def more(turns, times=TIMES):
        first, all_turns = (min(processor_ms(program, path, count, size) for _ in range(times)) for count in (1, 1 + turns))
        return max(all_turns - first, 0.001) / turns

    turns, each = 1, more(1, 1)
    if each >= LONG_MS:
        return each
    each = more(1)
    # A few short turns may look like none, and like far too many.
    while each * turns < ENOUGH_MS / 2 and turns < MOST_TURNS:
        turns = min(max(math.ceil(ENOUGH_MS / each), 2 * turns), 50 * turns, MOST_TURNS)
        each = more(turns)
    return each


def exponent(points):
    """The slope of the line that fits best where both axes are logarithmic."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    middle_x, middle_y = (sum(values) / len(logs) for values in zip(*logs))
    below = sum((x - middle_x) ** 2 for x, _ in logs)
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / below


def is_worse(points, bound, steady):
    """Whether the last step of a curve rises faster than its bound: what costs the same whatever the size hides less and less there."""
    (x1, y1), (x2, y2) = points[-2:]
    allowed = (x2 * math.log(x2)) / (x1 * math.log(max(x1, 2))) if bound == N_LOG_N else 1
    return y2 / y1 > steady * allowed


def curve(name, points, measured, unit, bound):
    steady = STEADY if measured == BY_INSTRUCTIONS else UNSTEADY
    return {"name": name, "measured": measured, "unit": unit, "points": points, "exponent": round(exponent(points), 3), "bound": bound,
            "worse": is_worse(points, bound, steady)}


def told(one):
    ends = " to ".join(f"{y:,.4g} {one['measured']} at {x:,}" for x, y in (one["points"][0], one["points"][-1]))
    return f"growth: {one['name']}: {ends} {one['unit']}: n^{one['exponent']:.2f}, {'WORSE' if one['worse'] else 'not worse'} than {one['bound']}"


def measure(program, path, size, measured):
    return instructions.turn(program, path, 1, size) if measured == BY_INSTRUCTIONS else round(timed(program, path, size), 4)


def of_paths(program, is_quick, end, left_out):
    for name, path, sizes, large, measured, unit, factor in CURVES:
        points = []
        for size in sizes + large:
            if size in large and is_quick:
                left_out[f"growth, {name}"] = f"{size * factor:,} {unit} take minutes"
                break
            if len(points) >= 3 and time.monotonic() > end:
                left_out[f"growth, {name}"] = f"{size * factor:,} {unit} and more: the time was over"
                break
            points.append([size * factor, measure(program, path, size, measured)])
        yield curve(name, points, measured, unit, N_LOG_N)


def of_benches(is_quick, end, known, run, left_out):
    """`known` are figures of benchmarks that ran already; the others run once each."""
    for name, bench, arguments, quick, where, x, y, measured, bound in OF_BENCHES:
        arguments = quick if is_quick else arguments
        if isinstance(arguments, str):
            left_out[f"growth, {name}"] = arguments
            continue
        if where not in known.get(bench, {}):
            figures, _, problem = run(bench, arguments, end - time.monotonic()) if time.monotonic() < end else (None, False, "the time was over")
            known[bench] = known.get(bench, {}) | (figures or {where: problem})
        points = known[bench].get(where)
        if isinstance(points, str) or not points or len(points) < 2:
            left_out[f"growth, {name}"] = points if isinstance(points, str) else "there are no two points"
            continue
        if is_quick and bench in PARTS_LEFT_OUT:
            left_out[f"growth, {name}, in part"] = PARTS_LEFT_OUT[bench]
        if not_measured := known[bench].get("not_measured", {}).get(where):
            left_out[f"growth, {name}, in part"] = not_measured
        # Axes are logarithmic, and what is nothing, or less by what else the machine did, has no place there.
        yield curve(name, [[point[x], max(point[y], 0.01)] for point in points], measured, x, bound)


def curves(program, seconds, is_quick, known, run):
    """Each curve, and what was left out; the largest sizes are where the time is over."""
    end, left_out = time.monotonic() + seconds, {}
    found = [*of_paths(program, is_quick, end, left_out), *of_benches(is_quick, end, known, run, left_out)]
    return found, left_out
