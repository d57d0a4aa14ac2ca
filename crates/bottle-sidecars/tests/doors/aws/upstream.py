"""AWS as the doors see it: botocore signs what has come once more, and moto is the S3 behind it.

upstream.py CERTIFICATE KEY: says its port, and then, a line a request, what it saw. A path that begins with /verify/ is answered here.
"""

import base64, hashlib, http.server, io, json, re, ssl, sys, threading, zlib
from urllib.parse import unquote_to_bytes

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, create_backend_app

EMPTY = hashlib.sha256(b"").hexdigest()
KEYS = json.loads(sys.argv[3])  # access key id -> [secret, token]
MOTO, LOCK = DomainDispatcherApplication(create_backend_app), threading.Lock()


class Wrong(Exception):
    pass


def need(condition, *why):
    if not condition:
        raise Wrong(" ".join(map(str, why)))


def text(value):
    """A header's bytes, which http.server reads as Latin-1."""
    return value.encode("latin-1").decode()


def frames(auth, request, scope, seed, body, has_trailers):
    """Takes a body in signed chunks apart, and checks each signature."""
    def sign(algorithm, digest):
        return auth.signature("\n".join([algorithm, request.context["timestamp"], scope, seed, digest]), request)

    payload = b""
    while True:
        head, body = body.split(b"\r\n", 1)
        size, signature = re.fullmatch(rb"([0-9a-f]+);chunk-signature=([0-9a-f]{64})", head).groups()
        data, body = body[: int(size, 16)], body[int(size, 16) :]
        wanted = sign("AWS4-HMAC-SHA256-PAYLOAD", EMPTY + "\n" + hashlib.sha256(data).hexdigest())
        need(wanted == signature.decode(), "a chunk's signature")
        seed = wanted
        if not data:
            break
        need(body[:2] == b"\r\n", "a chunk's end")
        payload, body = payload + data, body[2:]
    *lines, last, rest = body.split(b"\r\n")
    need((last, rest) == (b"", b""), "the end", body)
    trailers = {}
    if has_trailers:
        name, signature = lines.pop().decode().split(":")
        plain = "".join(line.decode() + "\n" for line in lines)
        need(name == "x-amz-trailer-signature", name)
        need(sign("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(plain.encode()).hexdigest()) == signature, "the trailers' signature")
        trailers = dict(line.decode().split(":", 1) for line in lines)
    else:
        need(lines == [], "lines", lines)
    return payload, trailers


def verify(method, target, headers, body):
    """What botocore makes of the request must be what has come."""
    said = headers["authorization"]
    need(len(headers.get_all("authorization")) == 1, "two signatures")
    match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=\w{64}", said)
    need(match, "not a signature:", said)
    key, date, region, service, signed = match.groups()
    need(key in KEYS, "somebody else's key", key)
    secret, token = KEYS[key]
    need(headers.get_all("x-amz-security-token", []) == ([token] if token else []), "the session token")
    for name in headers.keys():
        need(not name.lower().startswith("x-amz-") or name.lower() in signed.split(";"), "unsigned", name)
    request = AWSRequest(method=method, url=f"https://{headers['host']}{target}", data=body)
    for name in signed.split(";"):
        for value in headers.get_all(name, []):
            request.headers.add_header(name, text(value))
    request.context["timestamp"] = headers["x-amz-date"]
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(key, secret, token), service, region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    wanted = f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={auth.signed_headers(auth.headers_to_sign(request))}, Signature={signature}"
    need(wanted == said, "botocore says", wanted, "and not", said, "of", auth.canonical_request(request))
    kind, trailers = headers.get("x-amz-content-sha256", ""), {}
    if kind.startswith("STREAMING-"):
        scope = auth.credential_scope(request)
        need(headers["content-encoding"].split(",")[0] == "aws-chunked", headers["content-encoding"])
        payload, trailers = frames(auth, request, scope, signature, body, kind.endswith("-TRAILER"))
        need(len(payload) == int(headers["x-amz-decoded-content-length"]), "the decoded length")
        need(sorted(trailers) == sorted(filter(None, headers.get("x-amz-trailer", "").split(","))), "the trailers", trailers)
        if "x-amz-checksum-crc32" in trailers:
            crc = base64.b64encode(zlib.crc32(payload).to_bytes(4, "big")).decode()
            need(trailers["x-amz-checksum-crc32"] == crc, "the checksum")
    else:
        payload = body
        need(service != "s3" or kind in ("UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()), "the body's hash", kind)
    return {"service": service, "region": region, "kind": kind, "trailers": sorted(trailers), "sha256": hashlib.sha256(payload).hexdigest()}


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            need(len(body) == int(self.headers.get("content-length", 0)), "cut off")
            return body
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        need(self.rfile.readline() == b"\r\n", "trailers of HTTP's own")
        return body

    def moto(self, body):
        path, _, query = self.path.partition("?")
        environ = {
            "REQUEST_METHOD": self.command, "SCRIPT_NAME": "", "PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": query,
            "RAW_URI": self.path, "REQUEST_URI": self.path, "SERVER_NAME": "localhost", "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
            "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False, "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": self.headers.get("content-type", ""),
        }
        for name, value in self.headers.items():
            if name.lower() not in ("content-length", "content-type", "transfer-encoding"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        told = []
        with LOCK:
            answer = b"".join(MOTO(environ, lambda status, headers, *_: told.append((status, headers))))
        return int(told[0][0].split()[0]), told[0][1], answer

    def answer(self):
        self.close_connection = True
        try:
            body = self.read()
            seen = {"method": self.command, "target": self.path, "headers": sorted(set(name.lower() for name in self.headers.keys()))}
            status, headers, out = 200, [], b""
            try:
                seen.update(verify(self.command, self.path, self.headers, body))
                out = json.dumps(seen).encode()
                if not self.path.startswith("/verify/"):
                    status, headers, out = self.moto(body)
            except Wrong as wrong:
                seen["wrong"] = str(wrong)
                status, out = 403, json.dumps(seen).encode()
        except (Wrong, ValueError, OSError) as error:
            # Cut off: nobody waits for an answer.
            print(json.dumps({"cut": str(error)}), flush=True)
            return
        print(json.dumps(seen), flush=True)
        if "/shown" in self.path:
            out += json.dumps(dict(self.headers.items())).encode()
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(out)))
        self.send_header("connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
