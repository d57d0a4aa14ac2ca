"""What scripts/bench.d/proposals measures: DIRECTORY SIDECARS

A bundle without a sandbox: supervisor, pipelock, egress, git-gate and supervise. A rule grants each route that is asked for, so one call is all there is to it:
asked, decided, applied at both doors, confirmed, and each of that written down. A run may ask a hundred times, and note 2,000 lines of progress. It may ask ten times
at once and is then made to wait; a bundle that was ended goes on with the record, and may be asked ten times more.
"""

import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import time

DIR, SIDECARS = pathlib.Path(sys.argv[1]), sys.argv[2]
# The limits of a run (crates/bottle-sidecars/src/approvals/limits.rs): so many at once, and so many altogether.
PROPOSALS, NOTES = (10, 100), (30, 2000)
LOG = DIR / "log"


def until(what, check):
    for _ in range(2000):
        found = check()
        if found:
            return found
        time.sleep(0.005)
    sys.exit(f"not in time: {what}\n{LOG.read_text()[-2000:]}")


def write(name, text):
    (DIR / name).parent.mkdir(parents=True, exist_ok=True)
    (DIR / name).write_text(text)


def prepare():
    for name in ["doors", "internal", "state/log", "secrets"]:
        (DIR / name).mkdir(parents=True)
    write("secrets/SOME_KEY", os.urandom(24).hex())
    write("config/routes.yaml", "version: 1\nroutes:\n  - { host: api.bottle.test, methods: [GET] }\n")
    write("config/pipelock.yaml", "version: 1\nsecrets: [SOME_KEY]\n")
    write("config/gate.yaml", "version: 1\n")
    write("config/supervise.yaml", "version: 1\nrun: run-1\nauto: [{ host: '*.bottle.test' }]\n")
    daemons = [("pipelock", "pipelock"), ("egress", "routes"), ("git-gate", "gate"), ("supervise", "supervise")]
    write("config/bundle.yaml", "version: 1\ndaemons:\n" + "".join(f"  - {{ door: {door}, config: {file}.yaml }}\n" for door, file in daemons))


class Life:
    """A bundle from its start to its end."""

    def __enter__(self):
        dirs = [word for name in ["doors", "internal", "state", "secrets"] for word in (f"--{name}", str(DIR / name))]
        command = [SIDECARS, *dirs, "supervisor", "--config", str(DIR / "config/bundle.yaml")]
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(LOG, "wb"), stderr=subprocess.STDOUT)
        until("the bundle", lambda: "all doors open" in LOG.read_text())
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()

    @staticmethod
    def process(door):
        return int(re.search(rf"\b{door} +\| started, process (\d+)\n", LOG.read_text())[1])


def processor_us(*pids):
    return sum(int((task / "schedstat").read_text().split()[0]) for pid in pids for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1000


def call(tool, arguments):
    """A tool's answer, as the agent gets it; whatever is no success ends all."""
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(20)
        stream.connect(str(DIR / "doors/supervise.sock"))
        stream.sendall(f"POST / HTTP/1.1\r\nhost: supervise:9100\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n"
                       f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        answer = b"".join(iter(lambda: stream.recv(1 << 16), b"")).decode()
    messages = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
    result = messages[-1].get("result", {}) if messages else {}
    if not result or result.get("isError"):
        sys.exit(f"{tool} was not taken: {answer[-1000:]}")
    return result["content"][0]["text"]


def grown(limit, events, ask):
    """Medians of each life: how many there were, and what one more took of supervise and of both outgoing doors, in microseconds."""
    at_once, most = limit
    points = []
    for first in range(0, most, at_once):
        costs = []
        with Life() as life:
            supervise, doors = life.process("supervise"), [life.process("pipelock"), life.process("egress")]
            for number in range(first, min(first + at_once, most)):
                before, start = (processor_us(supervise), processor_us(*doors)), time.monotonic()
                ask(number)
                costs.append((processor_us(supervise) - before[0], processor_us(*doors) - before[1], 1000 * (time.monotonic() - start)))
        # The first of a life meets nothing warm.
        own, others, took = (statistics.median(some) for some in zip(*costs[1:]))
        points.append({events: first + (1 + len(costs)) // 2, "supervise_us": round(own, 1), "doors_us": round(others, 1), "ms": round(took, 2)})
    return points


def route(number):
    said = call("request_route", {"host": f"h{number}.bottle.test", "methods": ["GET"], "why": "the tests ask for it"})
    if f"h{number}.bottle.test" not in (DIR / "config/routes.yaml").read_text():
        sys.exit(f"a route was not granted: {said}")


prepare()
proposals = grown(PROPOSALS, "proposals", route)
notes = grown(NOTES, "notes", lambda number: call("progress", {"line": f"Step {number}: the tests of the parser pass."}))
record = (DIR / "state/log/proposals.jsonl").read_text().splitlines()
asked = sum('"asked"' in line for line in record)
noted = sum('"noted"' in line for line in record)
if (asked, noted) != (PROPOSALS[1], NOTES[1]):
    sys.exit(f"the record has {asked} proposals and {noted} lines of progress")
for point in [*proposals, notes[0], notes[len(notes) // 2], notes[-1]]:
    print(f"    {point}", file=sys.stderr)
print(json.dumps({"bench": "proposals", "proposals": proposals, "notes": [notes[at] for at in (0, 2, 9, len(notes) // 2, -1)], "missed": []}))
