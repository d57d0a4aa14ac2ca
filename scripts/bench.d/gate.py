"""What scripts/bench.d/gate measures: DIRECTORY SIDECARS LINK [--rounds N] [PART]...

The upstream is a real sshd on loopback. Each round does the same work by hand and through the gate, one after the other, so
that what else the machine does hits both alike; medians count.
"""

import json
import random
import shutil
import statistics
import sys

from gate_world import DIR, World, run, say, through, timed

# Fewer rounds of the pushes, for a quick look.
AT_MOST, MORE = (int(sys.argv[5]), sys.argv[6:]) if sys.argv[4:5] == ["--rounds"] else (5, sys.argv[4:])
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
finally:
    world.stop()
print(json.dumps({"bench": "gate", **FIGURES, "missed": MISSED}))
sys.exit(1 if MISSED else 0)
