"""Tools that fetch: git, pip, npm or cargo against each fault of the origin. Arguments: tool, origin, name of this run, faults.

Prints a line for each step, with what the tool left behind.
"""
import hashlib, os, pathlib, shutil, subprocess, sys

TOOL, ORIGIN, RUN, *FAULTS = sys.argv[1:]
HOME = pathlib.Path(os.environ["HOME"])


def run(words, **more):
    environment = {**os.environ, **more.pop("env", {})}
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, timeout=90, **more)
    # For whoever looks why: what is compared is what it did, not its words.
    sys.stderr.write(f"{words[:4]} {done.returncode}: {done.stderr.decode(errors='replace')[-600:]}\n")
    return done


def left(directory, pattern):
    """What of this pattern is there, and its bytes."""
    files = sorted(path for path in directory.glob(pattern) if path.is_file())
    return [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in files]


def pip(base, place):
    words = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--no-compile"]
    yield "install", run([*words, "--target", place, "--index-url", f"{base}/simple/", "bottle-sample==1.0"])
    yield "left", left(place, "bottle_sample.py")


def npm(base, place):
    words = [os.environ["NODE"], os.environ["NPM"], "install", "--no-audit", "--no-fund", "--no-update-notifier"]
    words += ["--fetch-retry-mintimeout", "50", "--fetch-retry-maxtimeout", "100", "--cache", place / "cache", "--prefix", place]
    yield "install", run([*words, "--registry", f"{base}/npm/", "bottle-sample"])
    yield "left", left(place, "node_modules/bottle-sample/*")


def cargo(base, place):
    (place / "src").mkdir()
    (place / "src/lib.rs").write_text("")
    registry = 'bottle-sample = { version = "1.0.0", registry = "sample" }'
    (place / "Cargo.toml").write_text(f'[package]\nname = "x"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n{registry}\n')
    (place / ".cargo").mkdir()
    (place / ".cargo/config.toml").write_text(f'[registries.sample]\nindex = "sparse+{base}/index/"\n')
    trust = {"CARGO_HOME": place / "home", "CARGO_HTTP_CAINFO": os.environ["SSL_CERT_FILE"]}
    yield "fetch", run([os.environ["CARGO"], "fetch"], cwd=place, env=trust)
    yield "left", left(place, "home/registry/cache/*/*.crate")


def git(base, place):
    day = "2026-01-02T00:00:00Z"
    who = {f"GIT_{part}_{what}": "a@example.com" for part in ["AUTHOR", "COMMITTER"] for what in ["NAME", "EMAIL"]}
    who |= {"GIT_AUTHOR_DATE": day, "GIT_COMMITTER_DATE": day, "GIT_SSL_CAINFO": os.environ["SSL_CERT_FILE"], "GIT_TERMINAL_PROMPT": "0"}
    at = lambda *words: run(["git", "-C", place / "repo", "-c", "http.postBuffer=65536", *words], env=who)
    url = f"{base}/git/repo.git"
    yield "clone", run(["git", "clone", "-q", url, place / "repo"], env=who)
    yield "head", [at("rev-parse", "HEAD").stdout.decode().strip()]
    (place / "repo").mkdir(exist_ok=True)
    # More than one buffer: it goes in chunks.
    more = "".join(hashlib.sha256(f"more {n}".encode()).hexdigest() for n in range(4000))
    (place / "repo/more").write_text(more)
    at("add", ".")
    at("commit", "-q", "-m", "two")
    yield "push", at("push", "-q", "origin", "HEAD:refs/heads/side")
    yield "refs", at("ls-remote", "origin").stdout.decode().split()
    yield "fetch", at("fetch", "-q", "origin")


for fault in FAULTS:
    place = HOME / "tools"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    failed = False
    for step, done in globals()[TOOL](f"{ORIGIN}/open/{fault}/{RUN}", place):
        if isinstance(done, subprocess.CompletedProcess):
            failed = failed or done.returncode != 0
            done = ["done"]
        print(TOOL, fault, step, *["failed"] if failed else done)
