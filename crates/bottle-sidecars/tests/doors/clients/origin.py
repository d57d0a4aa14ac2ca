"""An origin that misbehaves by the path of a request. Arguments: certificate, key, the same that nobody trusts.

`/open/FAULT` is some words, `/open/FAULT/RUN/…` what tools fetch. Prints its ports as JSON (h1, h2, untrusted, grpc, socket), and serves
until it is killed. Over HTTP/2 a connection ends with a GOAWAY below its third request.
"""
import asyncio, hashlib, json, ssl, sys, threading
from concurrent import futures

import grpc
import h2.config, h2.connection, h2.errors, h2.events, h2.exceptions
import hyperframe.frame
import websockets.sync.server

from shelf import Shelf

CERT, KEY, *UNTRUSTED = sys.argv[1:]
SHELF = Shelf()
BODY = b"a body of some words\n" * 50


def h1_answer(fault, status, kind, body, digest):
    """An answer's bytes, in pieces."""
    length = b"Content-Length: %d\r\n" % len(body)
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(body), body) if body else b"0\r\n"
    head = b"HTTP/1.1 %d Said\r\nContent-Type: %s\r\nX-Sha: %s\r\nETag: \"1\"\r\n" % (status, kind.encode(), digest)
    whole = head + length + b"\r\n" + body
    many = lambda count: head + b"".join(b"X-%d: value\r\n" % n for n in range(count)) + length + b"\r\n" + body
    if fault == "slow":
        return [head + length + b"\r\n", *(body[at : at + 20000] for at in range(0, len(body), 20000))]
    return [{
        "length-and-chunks": head + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"\r\n",
        "90-headers": many(90),
        "150-headers": many(150),
        "trailers": head + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"X-Sum: 42\r\n\r\n",
        "http-1.0": whole.replace(b"HTTP/1.1", b"HTTP/1.0", 1).replace(length, b"", 1),
        "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "not-modified": b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
        "not-modified-with-a-length": b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n" + length + b"\r\n",
        "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + whole,
        "cut-short": head + b"Content-Length: %d\r\n\r\n" % (len(body) + 9) + body,
        "two-lengths": head + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        "coding-none": head + b"Content-Encoding: none\r\n" + length + b"\r\n" + body,
        "coding-utf-8": head + b"Content-Encoding: utf-8\r\n" + length + b"\r\n" + body,
        "closing": head + b"Connection: close\r\n" + length + b"\r\n" + body,
        "long-header": head + b"X-Long: " + b"v" * 30000 + b"\r\n" + length + b"\r\n" + body,
        "parts": head.replace(b"200 Said", b"206 Partial Content").replace(b"text/plain", b"multipart/byteranges; boundary=B")
        + b"Content-Length: 63\r\n\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/9\r\n\r\n\r\n--B--",
        "misdirected": head.replace(b"200 Said", b"421 Misdirected Request") + length + b"\r\n" + body,
        "upgrade-asked": head + b"Upgrade: h2c, h2\r\nConnection: Upgrade\r\n" + length + b"\r\n" + body,
    }.get(fault, whole)]


def said_of(path, method, headers, body, content):
    """Fault, status, type and bytes of an answer."""
    if path.count("/") > 3:
        return SHELF.answer(path, method, headers, body)
    return path.split("/")[2], 200, "text/plain", content


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
            if path.split("/")[2] == "kept" and answered == 1:
                break
            method = head.split(" ", 1)[0]
            # As S3 does; a body would be read as an error.
            content = b"" if method == "PUT" else BODY
            fault, *said = said_of(path, method, headers, body, content)
            pieces = h1_answer(fault, *said, hashlib.sha256(body).hexdigest().encode())
            if method == "HEAD":
                pieces = [pieces[0].split(b"\r\n\r\n")[0] + b"\r\n\r\n"]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02 * (len(pieces) > 1))
            answered += 1
            if fault in ("http-1.0", "cut-short", "closing"):
                break
    except (asyncio.IncompleteReadError, OSError):
        pass
    writer.close()


def h2_answer(conn, stream, headers, body, waiting):
    method, path = headers[":method"], headers[":path"]
    fault, status, kind, content = said_of(path, method, headers, bytes(body), BODY)
    if fault == "refused-stream" and SHELF.is_first((id(conn), path)):
        return conn.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
    status, content = {"no-content": (204, b""), "not-modified": (304, b""), "misdirected": (421, content)}.get(fault, (status, content))
    head = [(":status", str(status)), ("content-type", kind), ("x-sha", hashlib.sha256(body).hexdigest())]
    head += [(f"x-{n}", "value") for n in range(150)] if fault == "150-headers" else []
    head += [("x-long", "v" * 30000)] if fault == "long-header" else []
    head += [("content-encoding", fault[7:])] if fault.startswith("coding-") else []
    head += [("content-length", str(len(content) + 9))] if fault == "cut-short" else []
    if fault == "early-hints":
        conn.send_headers(stream, [(":status", "103"), ("link", "</x>")])
    conn.send_headers(stream, head, end_stream=method == "HEAD")
    if method != "HEAD":
        waiting[stream] = (fault, content)


def h2_go_on(conn, waiting):
    """Sends as much of the bodies as their clients take now."""
    for stream, (fault, content) in list(waiting.items()):
        while content and (most := min(conn.local_flow_control_window(stream), conn.max_outbound_frame_size)):
            conn.send_data(stream, content[:most])
            content = content[most:]
            if fault == "reset":
                break
        waiting[stream] = (fault, content)
        if content and fault != "reset":
            continue
        del waiting[stream]
        if fault in ("reset", "cut-short"):
            conn.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif fault == "trailers":
            conn.send_headers(stream, [("x-sum", "42")], end_stream=True)
        else:
            conn.end_stream(stream)


def goes_away(path):
    """Whether a request counts towards the end of its connection: many tools fail at that, so theirs do by their own fault alone."""
    return path.count("/") == 2 or path.startswith("/open/goaway/")


async def http2(reader, writer):
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    conn.initiate_connection()
    writer.write(conn.data_to_send())
    seen, last, going, bodies, waiting = 0, 0, False, {}, {}
    try:
        while data := await reader.read(65536):
            for event in conn.receive_data(data):
                if isinstance(event, h2.events.RequestReceived) and not going:
                    seen += goes_away(dict(event.headers)[":path"])
                    if seen == 3:
                        going = True
                        # Not by `conn`, for which nothing could follow: what was begun goes on.
                        away = hyperframe.frame.GoAwayFrame(0, last_stream_id=last)
                        writer.write(conn.data_to_send() + away.serialize())
                        continue
                    last = event.stream_id
                    headers = dict(event.headers)
                    bodies[last] = (headers, bytearray())
                if isinstance(event, h2.events.DataReceived):
                    if event.stream_id in bodies:
                        bodies[event.stream_id][1].extend(event.data)
                    conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if isinstance(event, h2.events.StreamEnded) and event.stream_id in bodies:
                    h2_answer(conn, event.stream_id, *bodies.pop(event.stream_id), waiting)
                if isinstance(event, h2.events.StreamReset):
                    bodies.pop(event.stream_id, None)
                    waiting.pop(event.stream_id, None)
            h2_go_on(conn, waiting)
            writer.write(conn.data_to_send())
            await writer.drain()
            if going and not waiting and not bodies:
                break
    except (OSError, h2.exceptions.ProtocolError):
        pass
    writer.close()


def context(protocol, *certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate or (CERT, KEY))
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
    untrusted = await asyncio.start_server(h1, "127.0.0.1", 0, ssl=context("http/1.1", *UNTRUSTED))
    rpc, rpc_port = grpc_server()
    echo = lambda line: [line.send(message) for message in line]
    socket = websockets.sync.server.serve(echo, "127.0.0.1", 0, ssl=context("http/1.1"), compression=None)
    threading.Thread(target=socket.serve_forever, daemon=True).start()
    port = lambda server: server.sockets[0].getsockname()[1]
    ports = {"h1": port(plain), "h2": port(multiplexed), "untrusted": port(untrusted), "grpc": rpc_port}
    ports["socket"] = socket.socket.getsockname()[1]
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
