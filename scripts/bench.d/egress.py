"""What scripts/bench.d/egress measures: DIRECTORY SIDECARS LOAD FLOOR MITMDUMP [credentials|connections] [--quick] [ROUNDS]

One nginx with TLS is the origin, one load tool asks it: directly, and through each proxy. The ways take turns in every round, so
that what else the machine does hits all alike; medians count. The floor is a proxy of the same libraries that looks at nothing: one process
(one_hop), and two with a unix socket between them (floor), as egress and pipelock are. BEFORE_SIDECARS is an earlier build of the doors, which then is one more way
(before). With `credentials` it is only what a credential costs: doors that add a static header, one that was renewed, and a signature, in turns; with `connections`
only how the doors' costs grow by the connections that they hold. `--quick` is one round, with a tenth of what passes while memory is looked at.
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

DIR, (SIDECARS, LOAD, FLOOR, MITMDUMP) = pathlib.Path(sys.argv[1]), sys.argv[2:6]
MORE = sys.argv[6:]
IS_QUICK = "--quick" in MORE
PART = next((word for word in MORE if word in ["credentials", "connections"]), None)
ROUNDS = next((int(word) for word in MORE if word.isdigit()), 1 if IS_QUICK else 5)
# An earlier build of the doors.
BEFORE = os.environ.get("BEFORE_SIDECARS")
CONNECTIONS, STREAMS, SECONDS, HELD = 16, 100, 3, 1000
# How long connections are open when what they take is looked at.
HELD_SECONDS = 2
# In each round the credentials take so many turns of so many requests.
TURNS, REQUESTS = 12, 400
GIB = 1 << 30
# What goes up as one body, in each round; and what passes each way while the doors' memory is looked at.
UPWARD, PASSING = 100_000_000, (1 if IS_QUICK else 10) * 1_000_000_000
# How many connections are held, and how often each is asked over once more.
GROWTH = {1: 20, 10: 10, 100: 5, 1_000: 3, 5_000: 2}
SQUID = f"bench{os.getpid()}"
ENV = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(DIR), "LC_ALL": "C.UTF-8"}
RUNNING = []
# What is measured as PSS.
SHARES = ["memory_mb", "idle_mb", "passing_down_mb", "passing_up_mb"]

TARGETS = {
    "rate_of_floor": 0.6,
    "p99_ms": 0.5,
    "download_of_floor": 0.85,
    "upload_of_floor": 0.85,
    "noise_upload_of_floor": 0.85,
    "h2_of_h1": 1.0,
    "rate_of_squid": 1.0,
    "rate_of_mitmproxy": 15.0,
    "added_latency_ms": 0.3,
    "event_late_ms": 1.0,
    "download_of_squid": 0.5,
    "download_of_mitmproxy": 5.0,
    "memory_mb": 40.0,
    "passing_down_mb": 64.0,
    "passing_up_mb": 64.0,
    "renewed_us": 50.0,
    "signed_us": 50.0,
}


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def write(name, text):
    path = DIR / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*command):
    subprocess.run([str(word) for word in command], env=ENV, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def start(name, *command, **env):
    log = open(DIR / f"{name}.log", "wb")
    child = subprocess.Popen(
        [str(word) for word in command], env=ENV | env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    RUNNING.append(child)
    return child


def until(what, check):
    for _ in range(2000):
        if check():
            return
        time.sleep(0.01)
    sys.exit(f"not in time: {what}")


def listens(place):
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    with socket.socket(family) as sock:
        try:
            sock.connect(place if isinstance(place, str) else ("127.0.0.1", place))
            return True
        except OSError:
            return False


def authority(name):
    """A CA in DIR/name.pem and .key."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", DIR / f"{name}.key", "-out", DIR / f"{name}.pem")


def origin():
    authority("origin")
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
        "-keyout", DIR / "leaf.key", "-out", DIR / "leaf.csr")
    write("leaf.ext", "subjectAltName=DNS:localhost\n")
    run("openssl", "x509", "-req", "-in", DIR / "leaf.csr", "-CA", DIR / "origin.pem", "-CAkey", DIR / "origin.key",
        "-days", "2", "-extfile", DIR / "leaf.ext", "-out", DIR / "leaf.pem")
    os.makedirs(DIR / "www")
    for name, size in [("gib", GIB), ("passing", PASSING)]:
        with open(DIR / "www" / name, "wb") as file:
            file.truncate(size)
    port, source, swallow = free_port(), free_port(), free_port()
    conf = write("nginx.conf", f"""
daemon off; worker_processes 1; pid {DIR}/nginx.pid; error_log {DIR}/nginx-error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; root {DIR}/www; sendfile on;
  client_body_temp_path {DIR}/tmp; proxy_temp_path {DIR}/tmp; fastcgi_temp_path {DIR}/tmp; uwsgi_temp_path {DIR}/tmp;
  scgi_temp_path {DIR}/tmp;
  server {{
    listen 127.0.0.1:{port} ssl http2; server_name localhost;
    ssl_certificate {DIR}/leaf.pem; ssl_certificate_key {DIR}/leaf.key;
    ssl_session_cache shared:s:4m;
    location = / {{ default_type text/plain; return 200 "fine\\n"; }}
    location = /events {{ proxy_pass http://127.0.0.1:{source}; proxy_buffering off; proxy_http_version 1.1; }}
    location = /gib {{ }}
    location = /passing {{ }}
    location = /swallow {{
      proxy_pass http://127.0.0.1:{swallow}; proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 0; client_body_buffer_size 1m;
    }}
  }}
}}
""")
    start("nginx", "nginx", "-c", conf)
    start("source", LOAD, "source", source)
    start("swallow", LOAD, "swallow", swallow)
    until("nginx", lambda: listens(port))
    until("the source of events", lambda: listens(source))
    until("the origin of bodies", lambda: listens(swallow))
    return port


def bodies():
    """What goes up: this repository's own text, as dlp takes it, and noise."""
    root = pathlib.Path(__file__).resolve().parents[2]
    texts = []
    for path in sorted(path for name in ["crates", "src", "docs", "scripts"] for path in (root / name).rglob("*") if path.is_file()):
        try:
            texts.append(path.read_text())
        except UnicodeDecodeError:
            pass
    noise = DIR / "noise"
    noise.write_bytes(os.urandom(16 << 20))
    return {"source": write("source.txt", "".join(texts)), "noise": noise}


def bundle(name, secrets, routes, program=SIDECARS):
    """Both doors, with these secrets in files and these routes; where egress listens, its authority, and the processes."""
    home = DIR / name
    for inner in ["doors", "internal", "state/log", "secrets"]:
        os.makedirs(home / inner)
    for file, value in secrets.items():
        write(f"{name}/secrets/{file}", value)
    known = ", ".join(file for file in secrets if "." not in file)
    routes = "".join(f"  - {{ {route} }}\n" for route in routes)
    write(f"{name}/config/routes.yaml", f"version: 1\nroutes:\n{routes}")
    write(f"{name}/config/pipelock.yaml",
          f"version: 1\nsecrets: [{known}]\ndlp: {{ action: block }}\nssrf: {{ ip_allowlist: [127.0.0.0/8, '::1/128'] }}\n")
    children = []
    for door, config, waited in [("pipelock", "pipelock.yaml", "internal/pipelock.sock"), ("egress", "routes.yaml", "doors/egress.sock")]:
        dirs = [word for inner in ["doors", "internal", "state", "secrets"] for word in (f"--{inner}", home / inner)]
        command = [program, *dirs, door, "--config", home / "config" / config]
        children.append(start(f"{name}-{door}", *command, SSL_CERT_FILE=str(DIR / "origin.pem")))
        until(door, lambda: listens(str(home / waited)))
    return str(home / "doors/egress.sock"), home / "state/ca/egress.crt", children


def doors(port, name="bundle", program=SIDECARS):
    return bundle(name, {"BENCH_KEY": os.urandom(24).hex()}, [
        "host: api.example.org, methods: [GET, POST], auth: { header: x-api-key, from: BENCH_KEY }",
        f'host: localhost, port: {port}, methods: [GET, POST], paths: ["/", /events, /gib, /passing, /swallow], max_bytes: 16GiB',
    ], program)


def credentials(port):
    """Doors that add a static header, doors that add one which was renewed ten times and ends in an hour, and doors that sign."""
    def route(auth):
        return [f'host: localhost, port: {port}, methods: [GET], paths: ["/"], auth: {{ {auth} }}']

    value = lambda: os.urandom(24).hex()
    header = "header: x-api-key, from: BENCH_KEY"
    before = {f"BENCH_KEY.{number}": value() for number in range(1, 11)}
    end = {"ends_at": int(time.time() * 1000) + 3_600_000, "failure": None}
    status = json.dumps({"generation": 10, "credentials": {"BENCH_KEY": end}})
    keys = json.dumps({"Version": 1, "AccessKeyId": "KEYOFTHEBENCH", "SecretAccessKey": value(), "SessionToken": value()})
    return {
        "static": bundle("static", {"BENCH_KEY": value()}, route(header)),
        "renewed": bundle("renewed", {"BENCH_KEY": value(), **before, ".status.json": status}, route(header)),
        "signed": bundle("signed", {"BENCH_KEY": keys}, route("aws: { service: execute-api, region: eu-central-1, from: BENCH_KEY }")),
    }


def floor(port):
    """The bare proxy: of one process, of two, and of two that speak HTTP/2 on all ways."""
    leaf = ["--certificate", DIR / "leaf.pem", "--key", DIR / "leaf.key"]
    origin = ["--port", port, "--ca", DIR / "origin.pem"]

    def pair(name, *more):
        listen, socket = free_port(), str(DIR / f"{name}.sock")
        children = [start(f"{name}-back", FLOOR, socket, *origin, *more), start(f"{name}-front", FLOOR, listen, *leaf, "--next", socket, *more)]
        for place in [listen, socket]:
            until("the floor", lambda: listens(place))
        return str(listen), DIR / "origin.pem", children

    one = free_port()
    alone = start("one-hop", FLOOR, one, *leaf, *origin)
    until("the floor", lambda: listens(one))
    return {"one_hop": (str(one), DIR / "origin.pem", [alone]), "floor": pair("floor")}, pair("floor-h2", "--h2")


def squid():
    authority("squid")
    port = free_port()
    (DIR / "squid.pair").write_bytes((DIR / "squid.key").read_bytes() + (DIR / "squid.pem").read_bytes())
    conf = write("squid.conf", f"""
http_port 127.0.0.1:{port} ssl-bump tls-cert={DIR}/squid.pair generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program /usr/lib/squid/security_file_certgen -s {DIR}/squid/db -M 4MB
ssl_bump bump all
tls_outgoing_options cafile={DIR}/origin.pem
http_access allow all
cache deny all
access_log none
cache_log {DIR}/squid/cache.log
pid_filename {DIR}/squid/pid
coredump_dir {DIR}/squid
max_filedescriptors 8192
shutdown_lifetime 0 seconds
workers 1
""")
    os.makedirs(DIR / "squid")
    run("/usr/lib/squid/security_file_certgen", "-c", "-s", DIR / "squid/db", "-M", "4MB")
    if os.geteuid() == 0:
        for path in [DIR / "squid", *(DIR / "squid").rglob("*"), DIR / "squid.pair"]:
            shutil.chown(path, "proxy", "proxy")
    # What a killed one has left in shared memory bears its name, and no other starts there.
    child = start("squid", "squid", "--foreground", "-n", SQUID, "-f", conf)
    until("squid", lambda: listens(port))
    return str(port), DIR / "squid.pem", [child]


def mitmproxy():
    port = free_port()
    addon = write("addon.py", "class Nothing:\n    def request(self, flow):\n        pass\n\n    def response(self, flow):\n        pass\n\n\naddons = [Nothing()]\n")
    child = start("mitmproxy", MITMDUMP, "-q", "--listen-host", "127.0.0.1", "-p", port, "-s", addon, "--set", f"confdir={DIR}/mitm",
                  "--set", f"ssl_verify_upstream_trusted_ca={DIR}/origin.pem")
    until("mitmproxy", lambda: listens(port))
    return str(port), DIR / "mitm/mitmproxy-ca-cert.pem", [child]


def tree(child):
    """The process and what it has started."""
    pids = [child.pid]
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            pids += [int(word) for word in task.read_text().split()]
    return pids


def processor_us(children):
    """What these processes and their children have had of the processors."""
    tasks = [task for child in children for pid in tree(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def memory(children):
    """What these processes and their children take, in MB: a page that several of them share counts once, as its shares
    (PSS), or once for each of them (RSS)."""
    kib = {"Pss": 0, "Rss": 0}
    for child in children:
        for pid in tree(child):
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in kib:
                    kib[name] += int(rest.split()[0])
    return kib["Pss"] / 1024, kib["Rss"] / 1024


class Sampled:
    """The largest memory of some processes, looked at fifty times a second."""

    def __init__(self, children):
        self.children, self.largest, self.is_over = children, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.is_over.wait(0.02):
            self.largest = max(self.largest, memory(self.children)[0])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def load_command(way, port, mode, *args):
    proxy, ca, _ = way
    by = ["--proxy", proxy] if proxy else []
    return [str(word) for word in [LOAD, *by, "--port", port, "--ca", ca, mode, *args]]


class Held:
    """Connections through a proxy that wait, each asked over once."""

    def __init__(self, way, port, count):
        self.child = subprocess.Popen(load_command(way, port, "hold", count), env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.expect(b"ready\n", f"{count} connections were not taken")

    def expect(self, line, problem):
        if self.child.stdout.readline() != line:
            sys.exit(problem)

    def ask_again(self):
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()
        self.expect(b"asked\n", "a connection that had waited was not served")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.communicate()


def growth_by_connections(port):
    """For each number of connections that doors hold: processor time of both doors for one request over each of them, in microseconds, and what the
    connections take, in MB over doors that hold none. And what was left out."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    points, not_measured = [], []
    for count, times in GROWTH.items():
        # A door has a socket to each side; and there is something else.
        if 2 * count + 500 > most:
            not_measured.append(f"{count} connections: a process may have {most} open files")
            continue
        way = doors(port, f"held-{count}")
        children = way[2]
        time.sleep(HELD_SECONDS)
        idle, _ = memory(children)
        with Held(way, port, count) as held:
            time.sleep(HELD_SECONDS)
            taken = memory(children)[0] - idle
            costs = []
            for _ in range(times):
                # A connection that waits gives its buffers back first.
                time.sleep(0.5)
                before = processor_us(children)
                held.ask_again()
                costs.append((processor_us(children) - before) / count)
        stop(children)
        cost = statistics.median(costs)
        points.append({"connections": count, "request_us": round(cost, 1), "held_mb": round(taken, 2), "connection_kb": round(1024 * taken / count, 1)})
        say(f"{count} connections held: {points[-1]}")
    return {"connections": points, "not_measured": {"connections": "; ".join(not_measured)}}


def stop(children):
    for child in children:
        child.terminate()
        child.wait()
        RUNNING.remove(child)


def memory_while_passing(port, program, name, body, load):
    """Both doors' memory: idle, and the largest while much passes down, and up."""
    way = doors(port, name, program)
    time.sleep(HELD_SECONDS)
    found = {"idle_mb": memory(way[2])[0]}
    with Sampled(way[2]) as sampled:
        load(way, "download", "/passing")
    found["passing_down_mb"] = sampled.largest
    with Sampled(way[2]) as sampled:
        load(way, "upload", "/swallow", body, PASSING)
    found["passing_up_mb"] = sampled.largest
    stop(way[2])
    return found


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = origin()
    if PART == "connections":
        print(json.dumps({"bench": "egress", **growth_by_connections(port), "missed": []}))
        return 0
    ways = {"direct": (None, DIR / "origin.pem", [])}
    # By which HTTP/2 goes through; squid has none towards its clients.
    streams = {}
    if PART != "credentials":
        floors, floor_h2 = floor(port)
        ways |= {"doors": doors(port)}
        if BEFORE:
            ways |= {"before": doors(port, "before", BEFORE)}
        ways |= {**floors, "squid": squid(), "mitmproxy": mitmproxy()}
        streams = {name: way for name, way in ways.items() if name not in ["one_hop", "floor", "squid"]} | {"floor": floor_h2}
    compared, with_credentials = list(ways), credentials(port)
    ways |= with_credentials
    upward = bodies() if compared[1:] else {}

    def load(way, mode, *args, may_fail=False):
        done = subprocess.run(load_command(way, port, mode, *args), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
        if done.returncode and may_fail:
            return None
        if done.returncode:
            name = next((name for name, one in ways.items() if one is way), "doors")
            sys.exit(f"{name} {mode}: {done.stderr.decode()[-2000:]}")
        return json.loads(done.stdout)

    figures = {}

    def add(way, name, value):
        figures.setdefault((way, name), []).append(value)

    def costing(name, key, way, units, mode, *args, may_fail=False):
        """What the load tool says; beside it, processor time of the proxy for each of so many units, or each request."""
        before = processor_us(way[2])
        done = load(way, mode, *args, may_fail=may_fail)
        if way[2] and done:
            add(name, key, (processor_us(way[2]) - before) / (units or done["requests"]))
        return done

    for number in range(ROUNDS):
        for turn in range(TURNS):
            # Each way is the first as often as the others.
            order = [*with_credentials][turn % 3 :] + [*with_credentials][: turn % 3]
            for way in order:
                # A tenth more are asked first, and not measured.
                add(way, "alone_ms", costing(way, "processor_us", ways[way], REQUESTS * 1.1, "latency", REQUESTS)["median_ms"])
        if PART == "credentials":
            continue
        for way in compared:
            done = costing(way, "rate_processor_us", ways[way], None, "rate", CONNECTIONS, SECONDS)
            for name in ["rate", "median_ms", "p99_ms"]:
                add(way, name, done[name])
            say(f"round {number + 1}, {way}: {done}")
        for way in compared:
            add(way, "alone_ms", load(ways[way], "latency", 1000)["median_ms"])
        # mitmproxy gives nothing of an answer on before it has all of it, and an event stream has no end.
        for way in [way for way in compared if way != "mitmproxy"]:
            done = load(ways[way], "events", 5)
            add(way, "event_ms", done["first_ms"])
            add(way, "later_ms", done["later_ms"])
        for way in compared:
            add(way, "mb_s", costing(way, "mb_processor_us", ways[way], GIB / 1e6, "download", "/gib")["mb_s"])
    for way in [] if PART else compared:
        children = ways[way][2]
        if children:
            with Held(ways[way], port, HELD):
                time.sleep(HELD_SECONDS)
                shares, resident = memory(children)
            add(way, "memory_mb", shares)
            add(way, "resident_mb", resident)
    # Behind that, because a proxy keeps some of what these take.
    for number in range(0 if PART else ROUNDS):
        for way in streams:
            # At once before it the same by HTTP/1.1, so that both find the machine alike.
            beside = costing(way, "beside_h2_processor_us", ways[way], None, "rate", CONNECTIONS, SECONDS)
            done = costing(way, "h2_processor_us", streams[way], None, "streams", STREAMS, SECONDS)
            add(way, "beside_h2_rate", beside["rate"])
            for name in ["rate", "median_ms", "p99_ms"]:
                add(way, f"h2_{name}", done[name])
            say(f"round {number + 1}, {way}, {STREAMS} streams: {done}, beside {beside}")
        for kind, body in upward.items():
            for way in compared:
                # squid 5.7 now and then ends a connection in the middle of a large body.
                done = costing(way, f"up_{kind}_mb_processor_us", ways[way], UPWARD / 1e6, "upload", "/swallow", body, UPWARD, may_fail=way == "squid")
                if done:
                    add(way, f"up_{kind}_mb_s", done["mb_s"])
                say(f"round {number + 1}, {way}, {kind} upward: {done or 'the connection was ended'}")
    if not PART:
        time.sleep(HELD_SECONDS)
        add("doors", "kept_mb", memory(ways["doors"][2])[0])
        for way, program in [("doors", SIDECARS), *([("before", BEFORE)] if BEFORE else [])]:
            for name, value in memory_while_passing(port, program, f"passing-{way}", upward["source"], load).items():
                add(way, name, value)

    def median(way, name):
        return statistics.median(figures[way, name])

    def ratio(name, way, of=None):
        """The doors' figure to the same round's of another way, or to another one of a way."""
        return statistics.median(ours / theirs for ours, theirs in zip(figures["doors", name], figures[way, of or name]))

    def added(name):
        return statistics.median(ours - theirs for ours, theirs in zip(figures["doors", name], figures["direct", name]))

    def over_static(way):
        """In microseconds, over the same turn's static header."""
        return statistics.median(1000 * (one - static) for one, static in zip(figures[way, "alone_ms"], figures["static", "alone_ms"]))

    got = {"renewed_us": over_static("renewed"), "signed_us": over_static("signed")}
    if not PART:
        got |= {
            "rate_of_floor": ratio("rate", "floor"),
            "p99_ms": median("doors", "p99_ms"),
            "download_of_floor": ratio("mb_s", "floor"),
            "rate_of_squid": ratio("rate", "squid"),
            "rate_of_mitmproxy": ratio("rate", "mitmproxy"),
            "added_latency_ms": added("alone_ms"),
            "event_late_ms": max(added("event_ms"), added("later_ms")),
            "download_of_squid": ratio("mb_s", "squid"),
            "download_of_mitmproxy": ratio("mb_s", "mitmproxy"),
            "upload_of_floor": ratio("up_source_mb_s", "floor"),
            "noise_upload_of_floor": ratio("up_noise_mb_s", "floor"),
            "h2_of_h1": ratio("h2_rate", "doors", "beside_h2_rate"),
            "memory_mb": median("doors", "memory_mb"),
            "passing_down_mb": median("doors", "passing_down_mb"),
            "passing_up_mb": median("doors", "passing_up_mb"),
        }
    at_most = {"p99_ms", "added_latency_ms", "event_late_ms", "memory_mb", "passing_down_mb", "passing_up_mb", "renewed_us", "signed_us"}
    targets = {name: target for name, target in TARGETS.items() if name in got}
    missed = [name for name, target in targets.items() if (got[name] > target if name in at_most else got[name] < target)]
    result = {"bench": "egress", "rounds": ROUNDS}
    for way in ways:
        result[way] = {name: round(median(of, name), 3) for of, name in figures if of == way}
    for name, target in targets.items():
        result[name] = round(got[name], 3)
        result[f"{name}_target"] = target
    if not PART:
        result |= growth_by_connections(port)
    if BEFORE and not PART:
        # More is better of rates, less of all else. Shares of memory say nothing here: other doors of this run share the program's pages with ours alone.
        result["to_before"] = {name: round(ratio(name, "before"), 3) for way, name in figures if way == "before" and ("doors", name) in figures and name not in SHARES}
        say(f"the doors to those before: {result['to_before']}")
    print(json.dumps(result | {"missed": missed}))
    return 1 if missed else 0


try:
    code = main()
finally:
    for child in RUNNING:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for left in pathlib.Path("/dev/shm").glob(f"{SQUID}-*"):
        left.unlink()
sys.exit(code)
