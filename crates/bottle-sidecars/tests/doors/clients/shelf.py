"""What tools fetch from the origin: a package for pip, one for npm, one for cargo, and a git repository. All is made when it starts."""
import base64, hashlib, io, json, os, subprocess, tarfile, tempfile, zipfile

NAME = "bottle-sample"
# Enough for several reads, and not to be packed small.
LARGE = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\n" for n in range(6000))


def tarball(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def wheel():
    out = io.BytesIO()
    info = "bottle_sample-1.0.dist-info"
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("bottle_sample.py", LARGE.replace(b"\n", b" #\n# "))
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: bottle-sample\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return out.getvalue()


WHEEL = wheel()
MODULE = tarball({"package/package.json": b'{"name":"%s","version":"1.0.0"}' % NAME.encode(), "package/large": LARGE})
CRATE = tarball({
    f"{NAME}-1.0.0/Cargo.toml": b'[package]\nname = "%s"\nversion = "1.0.0"\nedition = "2021"\n' % NAME.encode(),
    f"{NAME}-1.0.0/src/lib.rs": b"// " + LARGE.replace(b"\n", b"\n// "),
})


def file_at(path, base):
    """The type and bytes at a path below `base`, or none."""
    digest = hashlib.sha256(WHEEL).hexdigest()
    link = f'<a href="../../wheels/bottle_sample-1.0-py3-none-any.whl#sha256={digest}">bottle_sample-1.0-py3-none-any.whl</a>'
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(MODULE).digest()).decode()
    version = {"name": NAME, "version": "1.0.0", "dist": {"tarball": f"{base}/npm/{NAME}.tgz", "integrity": integrity}}
    index = {"name": NAME, "vers": "1.0.0", "deps": [], "cksum": hashlib.sha256(CRATE).hexdigest(), "features": {}, "yanked": False}
    return {
        f"simple/{NAME}/": ("text/html", f"<!DOCTYPE html><html><body>{link}</body></html>".encode()),
        "wheels/bottle_sample-1.0-py3-none-any.whl": ("application/zip", WHEEL),
        f"npm/{NAME}": ("application/json", json.dumps({
            "name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}).encode()),
        f"npm/{NAME}.tgz": ("application/octet-stream", MODULE),
        "index/config.json": ("application/json", json.dumps({"dl": f"{base}/crates/{{crate}}.crate"}).encode()),
        f"index/bo/tt/{NAME}": ("text/plain", json.dumps(index).encode()),
        f"crates/{NAME}.crate": ("application/gzip", CRATE),
    }.get(path)


class Repositories:
    """A bare repository for each fault and run, so that what one pushes another does not see."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory()
        work = os.path.join(self.dir.name, "work")
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        day = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
        git = lambda *words: subprocess.run(["git", *who, *words], check=True, env={**os.environ, **day}, stdout=subprocess.DEVNULL)
        git("init", "-q", "-b", "main", work)
        with open(os.path.join(work, "large"), "wb") as file:
            file.write(LARGE)
        git("-C", work, "add", ".")
        git("-C", work, "commit", "-q", "-m", "one")
        self.clone = lambda path: git("clone", "-q", "--bare", work, path)

    def serve(self, name, path, method, headers, body):
        """An answer of git's own server: status, headers and body."""
        root = os.path.join(self.dir.name, name)
        if not os.path.exists(root):
            self.clone(os.path.join(root, "repo.git"))
            subprocess.run(["git", "-C", os.path.join(root, "repo.git"), "config", "http.receivepack", "true"], check=True)
        path, _, query = path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": "/" + path,
            "REQUEST_METHOD": method, "QUERY_STRING": query, "CONTENT_TYPE": headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""), "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1",
        }
        out = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE).stdout
        head, _, body = out.partition(b"\r\n\r\n")
        said = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n"))
        return int(said.get("status", "200 OK").split(" ")[0]), said.get("content-type", "text/plain"), body


class Shelf:
    def __init__(self):
        self.repositories = Repositories()
        self.seen = set()

    def is_first(self, key):
        """Whether this is asked for the first time."""
        first = key not in self.seen
        self.seen.add(key)
        return first

    def answer(self, path, method, headers, body):
        """Fault, status, type and bytes of `/open/FAULT/RUN/…`."""
        _, _, fault, run, rest = path.split("/", 4)
        if fault == "busy" and self.is_first(path):
            return fault, 503, "text/plain", b"busy"
        if fault == "cut-once":
            fault = "cut-short" if self.is_first(path) else "plain"
        if rest.startswith("git/"):
            return fault, *self.repositories.serve(f"{fault}-{run}", rest[4:], method, headers, body)
        host = headers.get("host") or headers.get(":authority")
        found = file_at(rest, f"https://{host}/open/{fault}/{run}")
        return (fault, 200, *found) if found else (fault, 404, "text/plain", b"nothing here")
