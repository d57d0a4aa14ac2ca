"""A git host over https: `git http-backend` behind TLS and a token. Arguments: certificate (`-`: http), key, root, token file, log, port
(0: any that is free), with an address before it where it is not loopback's.

While it answers, it looks for the token in what every process was given; what it finds is in the log as SEEN.

Below a repository's `info/lfs` is a stand-in of an LFS server, lfs_api.py.

Prints its port. Paths under /moved/ redirect to the repository, on this same host by another name.
"""
import base64, glob, http.server, json, os, ssl, subprocess, sys

import lfs_api

CERT, KEY, ROOT, TOKEN, LOG, PORT = sys.argv[1:]


def log_processes_with(token):
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if token.encode() in file.read():
                    with open(LOG, "a") as log:
                        log.write(f"SEEN {path}\n")
        except OSError:
            pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scheme = "http" if CERT == "-" else "https"

    def log_message(self, *_):
        with open(LOG, "a") as log:
            log.write(f"{self.headers.get('Host')} {self.command} {self.path}\n")

    def answer(self, code, headers, body=b""):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def lfs(self, body):
        def note(text):
            with open(LOG, "a") as log:
                log.write(f"lfs {text}\n")

        try:
            with open(os.path.join(os.path.dirname(LOG), "lfs.json")) as file:
                mode = json.load(file)
        except FileNotFoundError:
            mode = {}
        try:
            lfs_api.answer(self, ROOT, mode, note, body)
        except (AssertionError, KeyError, ValueError) as error:
            note(f"WRONG {error!r}")
            self.answer(400, [])

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self):
        body = self.body()
        path, _, query = self.path.partition("?")
        if path.startswith("/moved/"):
            there = f"https://127.0.0.1:{self.server.server_port}/{self.path.removeprefix('/moved/')}"
            return self.answer(302, [("Location", there)])
        with open(TOKEN) as file:
            token = file.read().strip()
        if path.startswith("/lfs-store/") or (lfs_api.serves(path) and self.headers.get("Authorization") == "RemoteAuth by-ssh"):
            return self.lfs(body)
        wanted = "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')])
        log_processes_with(token)
        if lfs_api.serves(path):
            return self.lfs(body)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": ROOT,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "REMOTE_USER": "git",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        made = subprocess.run(["git", "http-backend"], env=env, input=body, stdout=subprocess.PIPE).stdout
        head, _, body = made.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if line]
        status = int(dict(headers).get("Status", "200").split()[0])
        self.answer(status, [header for header in headers if header[0] != "Status"], body)

    do_POST = do_PUT = do_GET


ADDRESS, _, PORT = PORT.rpartition(":")
server = http.server.ThreadingHTTPServer((ADDRESS or "127.0.0.1", int(PORT)), Handler)
if CERT != "-":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
