"""How costs grow with the work: the curves of scripts/bench all --html, and whether one is worse than n log n."""

import math
import os
import subprocess
import sys
import time

import instructions

# What one more turn costs by callgrind, which is the same each time; or of a processor, where that would take minutes: the least of so many, of as many turns
# as take so long.
BY_INSTRUCTIONS, BY_TIME, TIMES = "instructions", "ms of a processor", 3
ENOUGH_MS, MOST_TURNS = 60, 3000
# Above n log n by this much between the last two points is worse; time is not as steady.
STEADY = {BY_INSTRUCTIONS: 1.02, BY_TIME: 1.25}

# Name, path, its sizes, how it is measured, and what a size is, times so many.
CURVES = [
    ("a request by the routes there are", "route-10000", [1, 10, 100, 1_000, 10_000], BY_INSTRUCTIONS, "routes", 1),
    ("a push by its commits", "gate-commits", [100, 1_000, 10_000, 100_000], BY_TIME, "commits", 1),
    ("a push by its files, 2 KiB each", "gate-objects", [1, 10, 100, 1_000, 10_000], BY_TIME, "files", 1),
    ("a record written and verified", "record-chain", [4_000, 40_000, 400_000], BY_TIME, "bytes", 250),
    ("128 KiB by the size of a chunk", "known-secrets", [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10], BY_INSTRUCTIONS, "bytes a chunk", 1),
]


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
    def more(turns):
        first, all_turns = (min(processor_ms(program, path, count, size) for _ in range(TIMES)) for count in (1, 1 + turns))
        return max(all_turns - first, 0.001) / turns

    once = more(1)
    return once if once >= ENOUGH_MS else more(min(math.ceil(ENOUGH_MS / once), MOST_TURNS))


def exponent(points):
    """The slope of the line that fits best where both axes are logarithmic."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    middle_x, middle_y = (sum(values) / len(logs) for values in zip(*logs))
    below = sum((x - middle_x) ** 2 for x, _ in logs)
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / below


def is_worse(points, steady):
    """Whether the last step of a curve rises faster than n log n: what costs the same whatever the size hides less and less there."""
    (x1, y1), (x2, y2) = points[-2:]
    return y2 / y1 > steady * (x2 * math.log(x2)) / (x1 * math.log(max(x1, 2)))


def curve(name, points, measured, unit):
    return {"name": name, "measured": measured, "unit": unit, "points": points, "exponent": round(exponent(points), 3),
            "worse": is_worse(points, STEADY[measured])}


def told(one):
    ends = " to ".join(f"{y:,.4g} {one['measured']} at {x:,}" for x, y in (one["points"][0], one["points"][-1]))
    return f"growth: {one['name']}: {ends} {one['unit']}: n^{one['exponent']:.2f}, {'WORSE' if one['worse'] else 'not worse'} than n log n"


def measure(program, path, size, measured):
    return instructions.turn(program, path, 1, size) if measured == BY_INSTRUCTIONS else round(timed(program, path, size), 4)


def curves(program, seconds):
    """Each curve; the largest sizes are left out where the time is over."""
    end, found = time.monotonic() + seconds, []
    for name, path, sizes, measured, unit, factor in CURVES:
        points = []
        for size in sizes:
            if len(points) >= 3 and time.monotonic() > end:
                print(f"    {name}: {size} and more left out: the time is over", file=sys.stderr)
                break
            points.append([size * factor, measure(program, path, size, measured)])
        found.append(curve(name, points, measured, unit))
    return found
