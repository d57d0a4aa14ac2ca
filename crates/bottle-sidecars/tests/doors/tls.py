"""A TLS server for each kind of certificate or cipher that a client may not take. Argument: a directory.

Writes `bundle.pem` there, prints the kinds with their ports as JSON, and serves until it is killed.
"""
import datetime, json, ssl, sys, threading, socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DIR = sys.argv[1]
NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def make(name, key, issuer=None, ca=False, begins=NOW - 2 * DAY, ends=NOW + DAY, host=None):
    issuer_name, issuer_key = issuer or (named(name), key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name)).issuer_name(issuer_name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def p256():
    return ec.generate_private_key(ec.SECP256R1())


trusted_key = p256()
trusted = make("A trusted authority", trusted_key, ca=True)
by_trusted = (trusted.subject, trusted_key)
odd_key = ec.generate_private_key(ec.SECP521R1())
odd = make("A P-521 authority", odd_key, ca=True)
by_odd = (odd.subject, odd_key)
bundle = [trusted, odd]


def self_signed(host):
    key = p256()
    certificate = make(host, key, ca=True, host=host)
    bundle.append(certificate)
    return certificate, key


def by(issuer, key, **more):
    return make("localhost", key, issuer, host=more.pop("host", "localhost"), **more), key


kinds = {
    "good": by(by_trusted, p256()),
    "authority": self_signed("localhost"),
    "authority-of-another-name": self_signed("other.example"),
    "p521": by(by_trusted, ec.generate_private_key(ec.SECP521R1())),
    "signed-by-p521": by(by_odd, p256()),
    "cbc": by(by_trusted, rsa.generate_private_key(65537, 2048)),
    "expired": by(by_trusted, p256(), begins=NOW - 3 * DAY, ends=NOW - DAY),
    "other-name": by(by_trusted, p256(), host="other.example"),
    "unknown": (lambda key: (make("Nobody known", key, host="localhost"), key))(p256()),
}
with open(f"{DIR}/bundle.pem", "wb") as file:
    file.write(b"".join(pem(certificate) for certificate in bundle))


def serve(listener, context):
    while True:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as stream:
                stream.recv(65536)
                stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")
        except OSError:
            pass


served = []
for kind, (certificate, key) in kinds.items():
    with open(f"{DIR}/{kind}.pem", "wb") as file:
        file.write(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ) + pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if kind == "cbc":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
    context.load_cert_chain(f"{DIR}/{kind}.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    served.append({"kind": kind, "port": listener.getsockname()[1]})
    threading.Thread(target=serve, args=(listener, context), daemon=True).start()
print(json.dumps(served), flush=True)
threading.Event().wait()
