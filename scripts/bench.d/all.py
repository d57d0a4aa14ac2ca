"""What scripts/bench all runs and prints: the benchmarks of this directory, one after the other, as one table; and how costs grow.

The benchmarks' last lines are read, which are JSON. A ratio is ours to the floor, or to the best peer where there is no floor.
"""

import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

import growth
import page

HERE = pathlib.Path(__file__).resolve().parent
LAST_RELEASE = HERE / "last-release.toml"
# All of --quick, programs built beforehand; of it what the curves take, and what one benchmark may take.
QUICK_SECONDS, CURVES_SECONDS, EACH_SECONDS = 600, 220, 240

# Each benchmark's arguments with --quick; none: it is left out, and why.
QUICK = {
    "instructions": ["--if-comparable"],
    "dlp": ["--quick"],
    "worst": ["60"],
    "size": ["--programs"],
    "launch-bubblewrap": ["3", "2"],
    "egress": ["--quick"],
    "gate": ["--rounds", "1", "commits"],
    "apply": "it puts a thousand policies in force, in tests that are built optimised",
}
PARTS_LEFT_OUT = {
    "dlp": "1 MB of each kind in place of 8, the best of two in place of five",
    "worst": "60 tries in place of 3,000",
    "size": "the images: they need a container engine",
    "launch-bubblewrap": "3 rounds in place of 7, 2 bottles at once in place of 20",
    "egress": "1 round in place of 5, 1 GB in place of 10 while memory is looked at",
    "gate": "1 round of the large push; no large blobs, fetches and clones",
}


def row(name, unit, ours, floor=None, peers=None, more_is_better=False):
    """A line of the table; figures that a benchmark did not give are none."""
    peers = {peer: value for peer, value in (peers or {}).items() if value is not None}
    best = (max if more_is_better else min)(peers.values(), default=None)
    beside = floor if floor is not None else best
    ratio = round(ours / beside, 3) if ours is not None and beside else None
    return {"name": name, "unit": unit, "floor": floor, "ours": ours, "peers": peers, "ratio": ratio, "more_is_better": more_is_better}


def of_instructions(figures):
    for path in figures["rows"]:
        yield row(path["path"], "instructions", path["counted"], peers={"written down": path["expected"]})


def of_dlp(figures):
    floors = {"memchr": figures.get("memchr_mb_s")}
    peers = {"aho-corasick": figures["aho_corasick_mb_s"]}
    yield row("rules alone, source", "MB/s", figures["rules_alone_mb_s"], floors["memchr"], peers, True)
    for kind, rate in figures["kinds"].items():
        yield row(f"doors, all forms, secrets: {kind}", "MB/s", rate, floors["memchr"], more_is_better=True)


def of_worst(figures):
    for scanner in ["doors", "gate"]:
        yield row(f"{scanner}: worst input, to the slowest honest", "x", figures[scanner]["worst_ratio"], 1.0)


def of_size(figures):
    for key, name in [("runner_mb", "bottle-runner"), ("sidecars_mb", "bottle-sidecars"), ("link_mb", "bottle-link"), ("bundle_added_mb", "bundle image, over its base")]:
        if key in figures:
            yield row(name, "MB", figures[key])


def of_launch(figures):
    floor = round(figures["bwrap_true_ms"] + figures["bundle_ms"], 1)
    yield row("first exec (floor: bwrap true, and the bundle)", "ms", figures["first_exec_ms"], floor)
    yield row("to the agent", "ms", figures["to_agent_ms"])
    yield row("the agent's first command", "ms", figures["agents_first_command_ms"])
    yield row("memory of a bundle", "MiB", figures["bundle_pss_mib"])


def of_egress(figures):
    def way(name, key):
        return figures.get(name, {}).get(key)

    for key, name, unit, more in [
        ("rate", "requests, 16 connections", "1/s", True), ("median_ms", "median, 16 connections", "ms", False), ("p99_ms", "p99, 16 connections", "ms", False),
        ("alone_ms", "a request alone", "ms", False), ("event_ms", "first event", "ms", False), ("mb_s", "download of 1 GiB", "MB/s", True),
        ("h2_rate", "requests, 100 streams of one connection", "1/s", True), ("h2_p99_ms", "p99, 100 streams of one connection", "ms", False),
        ("up_source_mb_s", "upload of 100 MB, source", "MB/s", True), ("up_noise_mb_s", "upload of 100 MB, noise", "MB/s", True),
        ("memory_mb", "memory, 1,000 connections", "MB", False), ("idle_mb", "memory of both doors, idle", "MB", False),
        ("passing_down_mb", "memory while much passes down", "MB", False), ("passing_up_mb", "memory while much passes up", "MB", False),
    ]:
        yield row(name, unit, way("doors", key), way("floor", key), {peer: way(peer, key) for peer in ["squid", "mitmproxy"]}, more)
    for key, name in [("renewed_us", "a renewed credential, over a static"), ("signed_us", "a signature, over a static header")]:
        yield row(name, "us", figures.get(key))


def of_gate(figures):
    for key in ["commits", "text_blob", "binary_blob", "no_op_fetch", "cold_clone", "cold_clone_without_a_checkout", "warm_clone"]:
        if f"{key}_s" in figures:
            peers = {"by hand": figures[f"{key}_by_hand_s"]}
            yield row(key.replace("_", " "), "s", figures[f"{key}_s"], figures.get(f"{key}_push_s"), peers)


def of_apply(figures):
    for key, name in [("median_ms", "a policy at the doors, median"), ("max_ms", "a policy at the doors, longest"),
                      ("gate_median_ms", "a policy at the gate, median"), ("gate_max_ms", "a policy at the gate, longest")]:
        yield row(name, "ms", figures[key])


ROWS = {
    "instructions": of_instructions, "dlp": of_dlp, "worst": of_worst, "size": of_size, "launch-bubblewrap": of_launch, "egress": of_egress,
    "gate": of_gate, "apply": of_apply,
}


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def run(name, arguments, seconds):
    """A benchmark's figures, whether it met its targets, and what went wrong."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([HERE / name, *arguments], stdin=subprocess.DEVNULL, stdout=out, start_new_session=True,
                                 preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            # As by Ctrl-C: a benchmark then ends what it has started.
            for number, patience in [(signal.SIGINT, 20), (signal.SIGKILL, None)]:
                try:
                    os.killpg(child.pid, number)
                    child.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    continue
            return None, False, f"not done in {seconds:.0f} s"
        out.seek(0)
        lines = out.read().splitlines()
    try:
        figures = json.loads(lines[-1])
        return figures, child.returncode == 0, None
    except (IndexError, ValueError):
        return None, False, f"ended with {child.returncode}, without figures"


def missed(name, figures, met):
    """The targets that a benchmark names as missed, or itself where it names none."""
    named = figures.get("missed") or ([] if met else [name])
    return [f"{name}: {what}" if what != name else name for what in named]


def collect(names, is_quick, seconds):
    begin, rows, known, left_out, late = time.monotonic(), [], {}, {}, []
    for name in names:
        arguments = QUICK[name] if is_quick else []
        if isinstance(arguments, str):
            left_out[name] = arguments
            continue
        left = seconds - (time.monotonic() - begin) if is_quick else None
        if is_quick and left < 5:
            left_out[name] = f"the {QUICK_SECONDS // 60} minutes were over"
            late.append(name)
            continue
        say(f"{name} {' '.join(arguments)}")
        figures, met, problem = run(name, arguments, min(left, EACH_SECONDS) if is_quick else None)
        if problem:
            left_out[name] = problem
            late.append(name)
            continue
        known[name] = figures
        rows += [{"bench": name, **one} for one in ROWS[name](figures)]
        late += missed(name, figures, met)
        if is_quick and name in PARTS_LEFT_OUT:
            left_out[f"{name}, in part"] = PARTS_LEFT_OUT[name]
    return rows, known, left_out, late


def last_release():
    """The figures that were written down at the last release, by benchmark and name; none before the first."""
    if not LAST_RELEASE.exists():
        return None, {}
    with open(LAST_RELEASE, "rb") as file:
        read = tomllib.load(file)
    return read["version"], read["figures"]


def write_release(version, rows):
    lines = ["# The figures of the last release, which `scripts/bench all` prints beside its own. `scripts/bench all --release VERSION` writes them.",
             f"version = {json.dumps(version)}"]
    for bench in dict.fromkeys(one["bench"] for one in rows):
        lines += ["", f"[figures.{bench}]"]
        lines += [f"{json.dumps(one['name'])} = {one['ours']}" for one in rows if one["bench"] == bench and one["ours"] is not None]
    LAST_RELEASE.write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench all")
    parser.add_argument("--quick", action="store_true", help="at most ten minutes, programs built beforehand; what is left out is said")
    parser.add_argument("--html", metavar="FILE", help="also write a page with the table, and curves of how costs grow")
    parser.add_argument("--release", metavar="VERSION", help="write the figures down as those of this release")
    parser.add_argument("--hotpaths", required=True, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {' '.join(QUICK)}")
    given = parser.parse_args()
    for name in given.names:
        if name not in QUICK:
            parser.error(f"there is no benchmark `{name}` in the table: {' '.join(QUICK)}")
    begin = time.monotonic()
    version, figures = last_release()
    rows, known, left_out, late = collect(given.names or list(QUICK), given.quick, QUICK_SECONDS - (CURVES_SECONDS if given.html else 0))
    for one in rows:
        one["last_release"] = figures.get(one["bench"], {}).get(one["name"])
    for line in page.table(rows, version):
        print(line)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    for what in late:
        print(f"missed: {what}")
    curves = []
    if given.html:
        seconds = QUICK_SECONDS - (time.monotonic() - begin) if given.quick else math.inf
        curves, not_drawn = growth.curves(given.hotpaths, seconds, given.quick, known, lambda *bench: run(bench[0], bench[1], None if math.isinf(bench[2]) else bench[2]))
        left_out |= not_drawn
        for name, why in not_drawn.items():
            print(f"left out: {name}: {why}")
        for curve in curves:
            print(growth.told(curve))
            if curve["worse"]:
                late.append(f"growth: {curve['name']}")
        pathlib.Path(given.html).write_text(page.html(rows, version, left_out, late, curves, given.quick))
        say(f"the page: {given.html}")
    if given.release:
        write_release(given.release, rows)
        say(f"written down in {LAST_RELEASE}")
    print(json.dumps({"bench": "all", "quick": given.quick, "seconds": round(time.monotonic() - begin), "rows": rows, "left_out": left_out,
                      "curves": curves, "missed": late}))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
