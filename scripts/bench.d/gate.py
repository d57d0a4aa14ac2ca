"""What scripts/bench.d/gate measures: DIRECTORY SIDECARS LINK [--rounds N] [PART]...

The part `history`, or `history=OBJECTS` for at most so many, is asked for by name: what a push of one commit costs the gate by the objects that its upstream has.

The upstream is a real sshd on loopback. Each round does the same work by hand and through the gate, one after the other, so
that what else the machine does hits both alike; medians count.
"""

import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

from gate_world import DIR, ENV, World, run, say, through, timed

# Fewer rounds of the pushes, for a quick look.
AT_MOST, MORE = (int(sys.argv[5]), sys.argv[6:]) if sys.argv[4:5] == ["--rounds"] else (5, sys.argv[4:])
# Objects of a history, in a tree of so many files; and how often one commit more is pushed.
HISTORIES, FILES, PUSHES = [100, 10_000, 1_000_000], 20, 12
PARTS = [word for text in MORE for word in text.split(",")] or ["commits", "text_blob", "binary_blob", "fetch", "clone"]
WORDS = [line.strip() for line in """
alpha buffer cache daemon error field guard handle index joiner kernel layer module number object parser queue reader
socket table update value window yield branch commit merge vector string result option config filter stream packet
""".split()]


def line(rng):
    return f"    {rng.choice(WORDS)}_{rng.choice(WORDS)} = {rng.choice(WORDS)}({rng.choice(WORDS)}, {rng.randrange(10000)})\n"


def lines(rng, count):
    return "".join(line(rng) for _ in range(count))


def history(repo, branch, base, commits, files, rng):
    """Commits that each change a line or two of one of many files, by git fast-import."""
    texts = [[line(rng) for _ in range(80)] for _ in range(files)]
    out = []
    for number in range(commits):
        which = rng.randrange(files)
        for _ in range(2):
            texts[which][rng.randrange(80)] = line(rng)
        message = f"Change {rng.choice(WORDS)} {number}\n\n{lines(rng, 2)}"
        content = "".join(texts[which])
        out.append(f"commit refs/heads/{branch}\ncommitter Bench <bench@example.org> {1700000000 + number} +0000\n")
        out.append(f"data {len(message)}\n{message}")
        if number == 0 and base:
            out.append(f"from {base}\n")
        if number == 0:
            for index, text in enumerate(texts):
                first = "".join(text)
                out.append(f"M 100644 inline src/m{index % 23}/f{index}.py\ndata {len(first)}\n{first}\n")
        else:
            out.append(f"M 100644 inline src/m{which % 23}/f{which}.py\ndata {len(content)}\n{content}\n")
    run("git", "fast-import", "--quiet", cwd=repo, data="".join(out).encode())


FIGURES, MISSED = {}, []


def conclude(name, ours, by_hand, most, parts=""):
    ours, by_hand = statistics.median(ours), statistics.median(by_hand)
    ratio = ours / by_hand
    FIGURES.update({f"{name}_s": round(ours, 3), f"{name}_by_hand_s": round(by_hand, 3)})
    FIGURES.update({f"{name}_ratio": round(ratio, 2), f"{name}_target": most})
    if ratio > most:
        MISSED.append(name)
    say(f"{name}: {ours:.3f} s against {by_hand:.3f} s by hand{parts}: {ratio:.2f}x (at most {most}x)")


def pushes(world, name, rounds, make):
    """Pushes that are new each time, by hand (gitleaks over the range, then a push) and through the gate."""
    world.upstream("direct"), world.upstream("gated")
    work = DIR / "work" / name
    run("git", "init", "-q", "-b", "main", work)
    history(work, "main", None, 30, 40, random.Random(1))
    run("git", "push", "-q", world.url("direct"), "main", cwd=work)
    run("git", "push", "-q", world.url("gated"), "main", cwd=work)
    world.start_gate(["gated"])
    run("git", "ls-remote", through("gated"))
    ours, by_hand, scans, direct = [], [], [], []
    for turn in range(rounds + 1):
        for side in ["direct", "gated"]:
            make(work, f"{side}{turn}", random.Random(f"{name} {side} {turn}"))
        scan = timed(
            "gitleaks", "git", "--no-banner", "--log-level=error", f"--log-opts=main..direct{turn}", ".", cwd=work
        )
        push = timed("git", "push", "-q", world.url("direct"), f"direct{turn}", cwd=work)
        gated = timed("git", "push", "-q", through("gated"), f"gated{turn}", cwd=work)
        took = json.loads((DIR / "gate/state/log/gate.jsonl").read_text().splitlines()[-1])["ms"]
        say(f"{name} {turn}: gitleaks {scan:.2f} s + push {push:.2f} s; through the gate {gated:.2f} s, of it ms {took}")
        if turn:
            ours.append(gated), by_hand.append(scan + push), scans.append(scan), direct.append(push)
    parts = f" (gitleaks {statistics.median(scans):.3f} s, push {statistics.median(direct):.3f} s)"
    # The floor: the same push, and nobody looks.
    FIGURES[f"{name}_push_s"] = round(statistics.median(direct), 3)
    conclude(name, ours, by_hand, 1.15, parts)
    world.stop_gate()
    for path in [DIR / "upstream/direct.git", DIR / "upstream/gated.git", work]:
        shutil.rmtree(path)


def commits(work, branch, rng):
    history(work, branch, "refs/heads/main", 1000, 40, rng)


def blob(work, branch, content):
    run("git", "checkout", "-q", "-B", branch, "main", cwd=work)
    (work / "large.dat").write_bytes(content)
    run("git", "add", "large.dat", cwd=work)
    run("git", "commit", "-q", "-m", "A large file", cwd=work)


def text_blob(work, branch, rng):
    # One distinct million of bytes after the other, as in a log or a dump.
    block = lines(rng, 20_000)
    content = "".join(f"# part {rng.random()}\n{block}" for _ in range(1 + 100_000_000 // len(block)))
    blob(work, branch, content.encode()[:100_000_000])


def binary_blob(work, branch, rng):
    blob(work, branch, rng.randbytes(100_000_000))


def large_repository(world, commits):
    path = world.upstream("large")
    history(path, "main", None, commits, 400, random.Random(2))
    run("git", "repack", "-a", "-d", "-q", "--write-bitmap-index", cwd=path)


def fetches(world):
    world.start_gate(["large"])
    by_hand, ours = DIR / "work/direct", DIR / "work/gated"
    run("git", "clone", "-q", world.url("large"), by_hand)
    run("git", "clone", "-q", through("large"), ours)
    direct, gated = [], []
    for _ in range(15):
        direct.append(timed("git", "fetch", "-q", cwd=by_hand))
        gated.append(timed("git", "fetch", "-q", cwd=ours))
    conclude("no_op_fetch", gated, direct, 1.2)
    shutil.rmtree(by_hand), shutil.rmtree(ours)


def clones(world):
    checkout, into = DIR / "work/checkout", DIR / "work/clone"
    run("git", "clone", "-q", world.url("large"), checkout)

    def clone(source):
        took = timed("git", "clone", "-q", source, into)
        shutil.rmtree(into)
        return took

    direct, cold, unseeded, warm = [], [], [], []
    for turn in range(6):
        times = [clone(world.url("large"))]
        for seed in [checkout, None]:
            world.start_gate(["large"], seed)
            times.append(clone(through("large")))
        times.append(clone(through("large")))
        say("clone %d: direct %.2f s, cold %.2f s, without a checkout %.2f s, warm %.2f s" % (turn, *times))
        if turn:
            for figures, took in zip([direct, cold, unseeded, warm], times):
                figures.append(took)
    conclude("cold_clone", cold, direct, 1.3)
    conclude("cold_clone_without_a_checkout", unseeded, direct, 1.3)
    conclude("warm_clone", warm, direct, 1.1)


def long_history(repo, objects):
    """So many objects: each commit changes one of a few short files, which makes a commit, a tree and a blob."""
    commits = (objects - FILES) // 3
    import_from = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=repo, env=ENV, stdin=subprocess.PIPE)
    with import_from.stdin as out:
        for number in range(commits):
            files = range(FILES) if number == 0 else [number % FILES]
            lines = [f"commit refs/heads/main\ncommitter Bench <bench@example.org> {1_600_000_000 + number} +0000\ndata 7\nA step\n"]
            for file in files:
                text = f"part {number} of {file}\n{WORDS[number % len(WORDS)]} = {number * 2_654_435_761 % 1_000_003}\n"
                lines.append(f"M 100644 inline f{file}.txt\ndata {len(text)}\n{text}\n")
            out.write("".join(lines).encode())
    if import_from.wait():
        sys.exit("git fast-import failed")
    run("git", "repack", "-a", "-d", "-q", cwd=repo)
    counted = run("git", "count-objects", "-v", cwd=repo).decode()
    return int(counted.split("in-pack: ")[1].split()[0])


def processor_ms(pid):
    """What a process and the children that have ended had of the processors; the clock ticks a hundred times a second."""
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return 1000 * sum(int(word) for word in words[11:15]) / os.sysconf("SC_CLK_TCK")


def histories(world, most):
    """By the objects at the upstream: processor time of the gate, with git and ssh that it starts, for all of it at first, for one commit more, and for a listing
    of nothing new."""
    points = []
    for objects in [size for size in HISTORIES if size <= most]:
        name, work = f"history{objects}", DIR / "work" / f"history{objects}"
        at = world.upstream(name)
        found = long_history(at, objects)
        # The guest's repository borrows all objects, so its own part of a push is that of a few.
        run("git", "clone", "-q", "--shared", "--no-checkout", at, work)
        world.start_gate([name])
        gate = world.gate[0].pid

        def costing(times, step):
            """Processor time and time of each step, in ms."""
            before, start = processor_ms(gate), time.monotonic()
            for number in range(times):
                step(number)
            return (processor_ms(gate) - before) / times, 1000 * (time.monotonic() - start) / times

        def push(number):
            text = run("git", "hash-object", "-w", "--stdin", cwd=work, data=f"new {number}\n".encode()).decode().strip()
            lines = [line for line in run("git", "ls-tree", "HEAD", cwd=work).decode().splitlines() if not line.endswith("\tf0.txt")]
            lines.append(f"100644 blob {text}\tf0.txt")
            tree = run("git", "mktree", cwd=work, data="\n".join(lines).encode() + b"\n").decode().strip()
            commit = run("git", "commit-tree", tree, "-p", "HEAD", "-m", "One more", cwd=work).decode().strip()
            run("git", "update-ref", "refs/heads/main", commit, cwd=work)
            run("git", "push", "-q", through(name), "main", cwd=work)

        _, cold = costing(1, lambda _: run("git", "ls-remote", through(name)))
        cold_ms = processor_ms(gate)
        # The first push meets nothing warm.
        push(-1)
        push_ms, push_took = costing(PUSHES, push)
        fetch_ms, fetch_took = costing(PUSHES, lambda _: run("git", "ls-remote", through(name)))
        points.append({"objects": found, "files": FILES, "first_ms": round(cold_ms), "first_took_ms": round(cold), "push_ms": round(push_ms, 1),
                       "push_took_ms": round(push_took, 1), "listing_ms": round(fetch_ms, 1), "listing_took_ms": round(fetch_took, 1)})
        say(f"history: {points[-1]}")
        world.stop_gate()
        shutil.rmtree(at), shutil.rmtree(work)
    FIGURES["history"] = points


world = World()
try:
    for part, rounds, make in [("commits", 5, commits), ("text_blob", 3, text_blob), ("binary_blob", 3, binary_blob)]:
        if part in PARTS:
            pushes(world, part, min(rounds, AT_MOST), make)
    if {"fetch", "clone"} & set(PARTS):
        large_repository(world, 10_000)
    if "fetch" in PARTS:
        fetches(world)
    if "clone" in PARTS:
        clones(world)
    for part in PARTS:
        name, _, most = part.partition("=")
        if name == "history":
            histories(world, int(most or HISTORIES[-1]))
finally:
    world.stop()
print(json.dumps({"bench": "gate", **FIGURES, "missed": MISSED}))
sys.exit(1 if MISSED else 0)
