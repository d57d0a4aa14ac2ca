"""An origin that misbehaves by the path of a request. Arguments: certificate, key.

Prints its ports as JSON (h1, h2, grpc, socket), and serves until it is killed. Over HTTP/2 each connection ends with a GOAWAY below
its third request.
"""
import asyncio, hashlib, json, ssl, sys, threading
from concurrent import futures

import grpc
import h2.config, h2.connection, h2.events
import websockets.sync.server

CERT, KEY = sys.argv[1:]
BODY = b"a body of some words\n" * 50


def h1_answer(path, digest):
    length = b"Content-Length: %d\r\n" % len(BODY)
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Sha: %s\r\nETag: \"1\"\r\n" % digest
    return {
        "/open/length-and-chunks": head + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"\r\n",
        "/open/90-headers": head + b"".join(b"X-%d: value\r\n" % n for n in range(90)) + length + b"\r\n" + BODY,
        "/open/150-headers": head + b"".join(b"X-%d: value\r\n" % n for n in range(150)) + length + b"\r\n" + BODY,
        "/open/trailers": head + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"X-Sum: 42\r\n\r\n",
        "/open/http-1.0": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nX-Sha: %s\r\n\r\n" % digest + BODY,
        "/open/no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/open/not-modified": b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
        "/open/early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + head + length + b"\r\n" + BODY,
        "/open/cut-short": head + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 9) + BODY,
        "/open/two-lengths": head + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    }.get(path, head + length + b"\r\n" + BODY)


async def h1(reader, writer):
    answered = 0
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if headers.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = b""
            if "chunked" in headers.get("transfer-encoding", ""):
                while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    body += (await reader.readexactly(size + 2))[:-2]
                while await reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            else:
                body = await reader.readexactly(int(headers.get("content-length", 0)))
            # A connection that was kept, and is not.
            if path == "/open/kept" and answered == 1:
                break
            answer = h1_answer(path, hashlib.sha256(body).hexdigest().encode())
            if head.startswith("PUT "):
                # As S3 does; a body would be read as an error.
                answer = answer[: -len(BODY)].replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 0")
            if head.startswith("HEAD "):
                answer = answer.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
            writer.write(answer)
            await writer.drain()
            answered += 1
            if path in ("/open/http-1.0", "/open/cut-short"):
                break
    except (asyncio.IncompleteReadError, OSError):
        pass
    writer.close()


async def http2(reader, writer):
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    conn.initiate_connection()
    writer.write(conn.data_to_send())
    seen, last, going, bodies = 0, 0, False, {}
    try:
        while data := await reader.read(65536):
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.RequestReceived) and not going:
                    seen += 1
                    if seen == 3:
                        going = True
                        conn.close_connection(last_stream_id=last)
                        break
                    last = event.stream_id
                    headers = dict(event.headers)
                    bodies[last] = (headers[":method"], headers[":path"], hashlib.sha256())
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id][2].update(event.data)
                    conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded) and event.stream_id in bodies:
                    method, path, digest = bodies.pop(event.stream_id)
                    many = [(f"x-{n}", "value") for n in range(150)] if path == "/open/150-headers" else []
                    head = [(":status", "200"), ("content-type", "text/plain"), ("x-sha", digest.hexdigest())]
                    conn.send_headers(event.stream_id, head + many, end_stream=method == "HEAD")
                    if method == "HEAD":
                        continue
                    conn.send_data(event.stream_id, BODY, end_stream=path != "/open/trailers")
                    if path == "/open/trailers":
                        conn.send_headers(event.stream_id, [("x-sum", "42")], end_stream=True)
            writer.write(conn.data_to_send())
            await writer.drain()
            if going:
                break
    except OSError:
        pass
    writer.close()


def context(protocol):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERT, KEY)
    context.set_alpn_protocols([protocol])
    return context


def grpc_server():
    one, many = (lambda message: message), (lambda messages: messages)
    end = lambda call: call.set_trailing_metadata((("x-sum", "42"), ("x-bin-bin", b"\x00\x01")))

    def unary(message, call):
        end(call)
        return message[::-1]

    def server_stream(message, call):
        end(call)
        yield from (message + b"%d" % n for n in range(3))

    def client_stream(messages, call):
        end(call)
        return b"+".join(messages)

    def both(messages, call):
        end(call)
        yield from (message[::-1] for message in messages)

    def fail(message, call):
        end(call)
        call.abort(grpc.StatusCode.NOT_FOUND, "not to be found: ü")

    handlers = grpc.method_handlers_generic_handler("open.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    })
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((handlers,))
    with open(CERT, "rb") as cert, open(KEY, "rb") as key:
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key.read(), cert.read())]))
    server.start()
    return server, port


async def main():
    plain = await asyncio.start_server(h1, "127.0.0.1", 0, ssl=context("http/1.1"), limit=1 << 20)
    multiplexed = await asyncio.start_server(http2, "127.0.0.1", 0, ssl=context("h2"))
    rpc, rpc_port = grpc_server()
    echo = lambda line: [line.send(message) for message in line]
    socket = websockets.sync.server.serve(echo, "127.0.0.1", 0, ssl=context("http/1.1"), compression=None)
    threading.Thread(target=socket.serve_forever, daemon=True).start()
    port = lambda server: server.sockets[0].getsockname()[1]
    ports = {"h1": port(plain), "h2": port(multiplexed), "grpc": rpc_port, "socket": socket.socket.getsockname()[1]}
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
