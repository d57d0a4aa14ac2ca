"""Shows the BuildKit in a Docker engine as a builder of buildx's driver `remote`: builder.py ENGINE-SOCKET SOCKET."""

import socket
import sys
import threading


def copy(source, sink):
    try:
        while block := source.recv(1 << 16):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client, engine):
    server = socket.socket(socket.AF_UNIX)
    server.connect(engine)
    server.sendall(b"POST /grpc HTTP/1.1\r\nHost: engine\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = server.recv(1)
        if not byte:
            break
        head += byte
    if not head.startswith(b"HTTP/1.1 101 "):
        sys.exit(f"error: the engine has no BuildKit to show: {head[:200]!r}")
    threading.Thread(target=copy, args=(client, server), daemon=True).start()
    copy(server, client)


listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
listener.listen()
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0], sys.argv[1]), daemon=True).start()
