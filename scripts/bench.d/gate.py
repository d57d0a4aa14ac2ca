"""What scripts/bench.d/gate measures: DIRECTORY SIDECARS LINK [PART]...

The upstream is a real sshd on loopback. Each round does the same work by hand and through the gate, one after the other, so
that what else the machine does hits both alike; medians count.
"""

import json
import os
import pathlib
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time

DIR, SIDECARS, LINK = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
PARTS = [word for text in sys.argv[4:] for word in text.split(",")] or ["commits", "text_blob", "binary_blob", "fetch", "clone"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


GATE_PORT, SSH_PORT = free_port(), free_port()
WORDS = [line.strip() for line in """
alpha buffer cache daemon error field guard handle index joiner kernel layer module number object parser queue reader
socket table update value window yield branch commit merge vector string result option config filter stream packet
""".split()]
ENV = {
    "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
    "HOME": str(DIR / "home"),
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "Bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
    "GIT_SSH_COMMAND": f"ssh -F /dev/null -i {DIR}/sshd/guest -o IdentitiesOnly=yes -o BatchMode=yes "
    f"-o UserKnownHostsFile={DIR}/known_hosts -o StrictHostKeyChecking=yes",
}


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def run(*command, cwd=None, data=None, ok=(0,)):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=ENV, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if done.returncode not in ok:
        sys.exit(f"{' '.join(str(word) for word in command)} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def timed(*command, cwd=None, ok=(0,)):
    start = time.monotonic()
    run(*command, cwd=cwd, ok=ok)
    return time.monotonic() - start


def until(what, check):
    for _ in range(1000):
        if check():
            return
        time.sleep(0.01)
    sys.exit(f"not in time: {what}")


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


class World:
    """An sshd, upstreams, and gates in front of them."""

    def __init__(self):
        for name in ["home", "sshd", "upstream", "work"]:
            (DIR / name).mkdir(parents=True)
        for name in ["host", "guest"]:
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", DIR / "sshd" / name)
        self.host_key = " ".join((DIR / "sshd/host.pub").read_text().split()[:2])
        (DIR / "known_hosts").write_text(f"[localhost]:{SSH_PORT} {self.host_key}\n")
        (DIR / "sshd/config").write_text(
            f"ListenAddress 127.0.0.1:{SSH_PORT}\nHostKey {DIR}/sshd/host\nAuthorizedKeysFile {DIR}/sshd/guest.pub\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n"
            "PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n"
        )
        os.makedirs("/run/sshd", exist_ok=True)
        self.processes = []
        log = open(DIR / "sshd/log", "wb")
        self.processes.append(
            subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(DIR / "sshd/config")], stderr=log)
        )
        until("sshd answers", lambda: b"listening" in (DIR / "sshd/log").read_bytes())
        self.user = subprocess.check_output(["id", "-un"], text=True).strip()
        self.gate = None

    def url(self, name):
        return f"ssh://{self.user}@localhost:{SSH_PORT}{DIR}/upstream/{name}.git"

    def upstream(self, name):
        path = DIR / "upstream" / f"{name}.git"
        run("git", "init", "-q", "--bare", "-b", "main", path)
        return path

    def start_gate(self, names, checkout=None):
        """A gate that has seen nothing yet; with a checkout, it is given what that has, as the runner does."""
        self.stop_gate()
        home = DIR / "gate"
        if checkout:
            seed = home / "state/seed" / names[0]
            seed.mkdir(parents=True)
            tip = run("git", "rev-parse", "origin/main", cwd=checkout)
            (seed / "branches").write_text(f"{tip.decode().strip()} main\n")
            run("git", "pack-objects", "-q", "--revs", "--delta-base-offset", seed / "pack", cwd=checkout, data=tip)
        for name in ["state", "secrets", "doors"]:
            (home / name).mkdir(parents=True, exist_ok=True)
        key = home / "secrets/GIT_KEY"
        shutil.copy(DIR / "sshd/guest", key)
        policy = "version: 1\nsecrets: [GIT_KEY]\nupstreams:\n"
        for name in names:
            policy += (
                f"  - name: {name}\n    url: {self.url(name)}\n    identity: GIT_KEY\n"
                f"    known_host_key: {self.host_key}\n    push: {{ refs: ['refs/heads/**'] }}\n"
            )
        (home / "gate.yaml").write_text(policy)
        log = open(home / "log", "wb")
        dirs = [word for name in ["state", "secrets", "doors"] for word in (f"--{name}", str(home / name))]
        command = [SIDECARS, *dirs, "git-gate", "--config", str(home / "gate.yaml")]
        gate = subprocess.Popen(command, env=ENV, stderr=log)
        until("the gate is ready", lambda: b"git-gate ready" in (home / "log").read_bytes())
        link = subprocess.Popen([LINK, "forward", "--doors", str(home / "doors"), f"{GATE_PORT}=git-gate.sock"], env=ENV, stdout=log, stderr=log)
        self.gate = (gate, link)
        time.sleep(0.2)

    def stop_gate(self):
        for process in self.gate or ():
            process.terminate()
            process.wait()
        self.gate = None
        shutil.rmtree(DIR / "gate", ignore_errors=True)

    def stop(self):
        self.stop_gate()
        for process in self.processes:
            process.terminate()
            process.wait()


def through(name):
    return f"git://127.0.0.1:{GATE_PORT}/{name}.git"


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
            pushes(world, part, rounds, make)
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
