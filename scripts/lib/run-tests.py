#!/usr/bin/env python3
"""Runs the workspace's tests where cargo-nextest is not installed, in its manner: each test is a process of its own, one more at
a time than there are processors. usage: run-tests.py PROFILE [--ignored] [--locked] [PART OF A NAME]...
       run-tests.py slowest JUNIT.XML

PROFILE is one of .config/nextest.toml; its default-filter says which modules it leaves out. `slowest` prints the ten slowest
tests of a run of cargo-nextest.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A test that hangs is ended, so that the others are still heard of: as slow-timeout in .config/nextest.toml.
TIMEOUT = 15 * 60
FILTER = re.compile(r"not test\(/\^\(([a-z_:|]+)\)::(?:\|::\(([a-z_|]+)\)\$)?/\)")


def left_out(profile):
    """How the names of the tests begin and end that a profile leaves out, by its default-filter."""
    config = (ROOT / ".config/nextest.toml").read_text()
    found = re.search(r"^\[profile\." + re.escape(profile) + r"\]\ndefault-filter = ('''|')(.*?)\1$", config, re.M | re.S)
    text = " ".join(found[2].split()) if found else "missing"
    match = FILTER.fullmatch(text)
    if not match:
        sys.exit(f"error: .config/nextest.toml: the default-filter of {profile} must be not test(/^(A|B)::|::(C|D)$/), and is {text}")
    ends = match[2].split("|") if match[2] else []
    return tuple(module + "::" for module in match[1].split("|")), tuple("::" + end for end in ends)


def build(options):
    """Builds all tests; gives (name, path, directory) of each binary."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics", *options]
    built = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        sys.exit(built.returncode)
    binaries = []
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            directory = Path(message["manifest_path"]).parent
            name = f"{directory.name if directory != ROOT else 'bottle-runner'}::{message['target']['name']}"
            binaries.append((name, message["executable"], directory))
    return binaries


def names(binary, *arguments):
    listed = subprocess.run([binary[1], "--list", "--format=terse", *arguments], cwd=binary[2], stdout=subprocess.PIPE, text=True, check=True)
    return [line[: -len(": test")] for line in listed.stdout.splitlines() if line.endswith(": test")]


running = set()


def end(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def run(binary, test):
    """Runs one test; gives whether it passed, its output and the seconds."""
    start = time.monotonic()
    # The test has a process group, so that whatever a hanging test has started ends with it.
    child = subprocess.Popen(
        [binary[1], "--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"],
        cwd=binary[2], env={**os.environ, "CARGO_MANIFEST_DIR": str(binary[2])},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=os.setpgrp,
    )
    running.add(child.pid)
    timer = threading.Timer(TIMEOUT, end, (child.pid, signal.SIGKILL))
    timer.start()
    output, _ = child.communicate()
    timer.cancel()
    running.discard(child.pid)
    return child.returncode == 0, output.decode(errors="replace"), time.monotonic() - start


def processor_seconds():
    """What this program's children took that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_slowest(times):
    print("\nThe ten slowest tests:")
    for seconds, name in sorted(times, reverse=True)[:10]:
        print(f"{seconds:9.2f} s  {name}")


def main():
    profile, *rest = sys.argv[1:]
    if profile == "slowest":
        cases = xml.etree.ElementTree.parse(rest[0]).iter("testcase")
        return print_slowest([(float(case.get("time", 0)), f"{case.get('classname')} {case.get('name')}") for case in cases])
    with_ignored = "--ignored" in rest
    options = [word for word in rest if word == "--locked"]
    wanted = [word for word in rest if word not in ("--ignored", "--locked")]
    if unknown := [word for word in wanted if word.startswith("-")]:
        sys.exit(f"error: without cargo-nextest only parts of tests' names can be given, and not {unknown[0]}")
    modules, ends = left_out(profile)
    jobs, counts = [], {}
    for binary in build(options):
        everything = names(binary)
        ignored = set() if with_ignored else set(names(binary, "--ignored"))
        chosen = [t for t in everything if not t.startswith(modules) and not t.endswith(ends) and (not wanted or any(w in t for w in wanted))]
        counts[binary[0]] = {"ok": 0, "FAILED": 0, "ignored": len(ignored & set(chosen)), "out": len(everything) - len(chosen), "time": 0.0}
        jobs += [(binary, test) for test in chosen if test not in ignored]
    # The one test that takes minutes whatever the machine does begins first; then what runs real bottles, and what searches through
    # cuts, which take longest.
    jobs.sort(key=lambda job: ("six_minutes" not in job[1], not job[0][0].endswith("::it"), not job[0][0].endswith("::escape")))

    print(f"\nrunning {len(jobs)} tests", flush=True)
    lock, times, failures, before = threading.Lock(), [], [], processor_seconds()

    def one(job):
        binary, test = job
        passed, output, seconds = run(binary, test)
        with lock:
            word = "ok" if passed else "FAILED"
            print(f"test {binary[0]} {test} ... {word} <{seconds:.3f}s>", flush=True)
            counts[binary[0]][word] += 1
            counts[binary[0]]["time"] += seconds
            times.append((seconds, f"{binary[0]} {test}"))
            if not passed:
                failures.append(f"{binary[0]} {test}")
                print(f"---- {binary[0]} {test} ----\n{output}", flush=True)

    # One more than there are cores: many tests wait for a time to pass, or for a run's next look at the forge.
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1)
    try:
        for done in [pool.submit(one, job) for job in jobs]:
            done.result()
    except KeyboardInterrupt:
        pool.shutdown(wait=False)
        for group in list(running):
            end(group, signal.SIGINT)
        os._exit(130)

    for name, count in counts.items():
        print(f"\n     Running {name}")
        print(
            f"test result: {'FAILED' if count['FAILED'] else 'ok'}. {count['ok']} passed; {count['FAILED']} failed; {count['ignored']} ignored; "
            f"0 measured; {count['out']} filtered out; finished in {count['time']:.2f}s"
        )
    print_slowest(times)
    print(f"\nThe tests took {(processor_seconds() - before) / 60:.1f} minutes of processor time, without that of containers.")
    if failures:
        print("\nfailures:")
        print("".join(f"    {name}\n" for name in sorted(failures)))
        sys.exit(101)


if __name__ == "__main__":
    main()
