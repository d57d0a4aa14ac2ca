"""What scripts/bench.d/precision measures: DIRECTORY SIDECARS - DIR... [--steps N] [--together] [--trees].

Each DIR is a repository, of which each of the last N first-parent steps is pushed on top of its real parent, as an agent would
have pushed it; with --together all of them at once, on top of the first one's parent. With --trees each DIR is a directory of
files, pushed as one commit.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys

from gate_world import DIR, ENV, World, run, say, through

MOST_STEPS_REFUSED, MOST_TREES_REFUSED = 0.003, 0.10

parser = argparse.ArgumentParser()
parser.add_argument("words", nargs=3)
parser.add_argument("dirs", nargs="+", metavar="DIR", type=pathlib.Path)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--together", action="store_true")
parser.add_argument("--trees", action="store_true")
ARGS = parser.parse_args()


class Tally:
    """What became of the pushes."""

    def __init__(self):
        self.pushes = self.commits = self.refused = self.refused_commits = self.old = 0
        self.rules, self.failures = collections.Counter(), []

    def push(self, world, repo, what, commit, ref):
        """Pushes a commit; the gate's own record says the rest."""
        record, log = DIR / "gate/state/log/gate.jsonl", DIR / "gate/log"
        before, start = (len(record.read_text().splitlines()) if record.exists() else 0), log.stat().st_size
        command = ["git", "push", "-q", through("subject"), f"{commit}:refs/heads/{ref}"]
        done = subprocess.run(command, cwd=repo, env=ENV, capture_output=True)
        lines = record.read_text().splitlines()[before:] if record.exists() else []
        if not lines:
            self.failures.append(f"{what}: {done.stderr.decode()[-300:]}")
            say(f"{what}: no verdict: {done.stderr.decode()[-300:]}")
            return
        pushed = json.loads(lines[-1])
        self.pushes += 1
        self.commits += pushed["commits"]
        with open(log, "rb") as file:
            file.seek(start)
            # What upstream has already is in no record.
            for line in file.read().decode(errors="replace").splitlines():
                if "upstream has already" in line:
                    self.old += int(line.split("found: ")[1].split()[0])
        if pushed["verdict"] == "refused":
            self.refused += 1
            where = {(one["rule"], one["path"], one.get("line")) for one in pushed["findings"]}
            self.refused_commits += max(1, len(self.introductions(repo, pushed)))
            self.rules.update(rule for rule, _, _ in where)
            self.rules.update(["(no finding)"] if not where else [])
            say(f"{what}: {'; '.join(f'{rule} at {path}:{line}' for rule, path, line in sorted(where, key=str)) or pushed['reasons']}")

    def introductions(self, repo, pushed):
        """The commits that bring a rule's finding to a path; those that only touch the file later would not be refused alone."""
        order = run("git", "rev-list", "--topo-order", "--reverse", "-5000", pushed["new"], cwd=repo).decode().split()
        age = {commit: number for number, commit in enumerate(order)}
        first = {}
        for one in sorted(pushed["findings"], key=lambda one: age.get(one.get("commit"), -1)):
            first.setdefault((one["rule"], one["path"]), one.get("commit"))
        return set(first.values())


def history(world, tally, source):
    """Each step of a repository's history on top of its real parent."""
    world.stop_gate()
    bare = DIR / "upstream/subject.git"
    run("rm", "-rf", bare)
    world.upstream("subject")
    git_dir = run("git", "rev-parse", "--absolute-git-dir", cwd=source).decode().strip()
    (bare / "objects/info").mkdir(parents=True, exist_ok=True)
    (bare / "objects/info/alternates").write_text(f"{git_dir}/objects\n")
    listed = run("git", "rev-list", "--first-parent", "--parents", f"-{ARGS.steps}", "HEAD", cwd=source).decode()
    steps = [line.split()[:2] for line in reversed(listed.splitlines()) if " " in line]
    run("git", "update-ref", "refs/heads/main", steps[0][1], cwd=bare)
    world.start_gate(["subject"])
    if ARGS.together:
        tally.push(world, source, source.parent.name, steps[-1][0], "all")
        return
    for number, (commit, parent) in enumerate(steps):
        run("git", "update-ref", "refs/heads/main", parent, cwd=bare)
        tally.push(world, source, f"{source.parent.name} {commit[:12]}", commit, f"step-{number}")
        # Else the next step would bring nothing new.
        run("git", "update-ref", "-d", f"refs/heads/step-{number}", cwd=bare)


def tree(world, tally, source):
    """A directory's files as one commit on an empty one."""
    work = DIR / "work/tree"
    run("rm", "-rf", work)
    run("git", "init", "-q", "-b", "main", work)
    run("git", "fetch", "-q", DIR / "upstream/subject.git", "main", cwd=work)
    run("git", "reset", "-q", "--hard", "FETCH_HEAD", cwd=work)
    run("git", f"--work-tree={source.resolve()}", "add", "-A", "-f", cwd=work)
    run("git", "commit", "-q", "--allow-empty", "-m", "The tree", cwd=work)
    tally.push(world, work, str(source), "HEAD", f"tree-{tally.pushes}")
    run("git", "update-ref", "-d", f"refs/heads/tree-{tally.pushes - 1}", cwd=DIR / "upstream/subject.git")


tally, by_repository = Tally(), {}
world = World()
try:
    if ARGS.trees:
        bare = world.upstream("subject")
        empty = run("git", "mktree", cwd=bare).decode().strip()
        first = run("git", "commit-tree", "-m", "empty", empty, cwd=bare).decode().strip()
        run("git", "update-ref", "refs/heads/main", first, cwd=bare)
        world.start_gate(["subject"])
    for source in ARGS.dirs:
        before = (tally.pushes, tally.refused)
        (tree if ARGS.trees else history)(world, tally, source.resolve())
        name = source.name if ARGS.trees else source.resolve().parent.name
        by_repository[name] = [tally.pushes - before[0], tally.refused - before[1]]
        if not ARGS.trees:
            say(f"{name}: {by_repository[name][1]} of {by_repository[name][0]} steps refused")
finally:
    world.stop()
most = MOST_TREES_REFUSED if ARGS.trees else MOST_STEPS_REFUSED
of, refused = (tally.pushes, tally.refused) if ARGS.trees else (tally.commits, tally.refused_commits)
share = refused / max(1, of)
missed = ["refused"] if share > most or tally.failures else []
figures = {"pushes": tally.pushes, "commits": tally.commits, "refused_pushes": tally.refused, "refused_commits": tally.refused_commits}
figures |= {"refused_share": round(share, 4), "refused_target": most, "new_findings_by_rule": dict(tally.rules.most_common())}
figures |= {"findings_upstream_has": tally.old, "without_verdict": len(tally.failures)}
if not ARGS.trees:
    figures["steps_and_refused_by_repository"] = by_repository
print(json.dumps({"bench": "precision", **figures, "missed": missed}))
sys.exit(1 if missed else 0)
