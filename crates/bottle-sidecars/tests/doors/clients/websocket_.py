import ssl, os, sys
from websockets.sync.client import connect

trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
with connect(sys.argv[1] + "/open/socket", ssl=trust, compression=None) as line:
    for message in ["a word", b"\x00\x01", "", "x" * 70000]:
        line.send(message)
        print(repr(line.recv(timeout=20))[:40])
