import os, queue, sys, grpc

with open(os.environ["SSL_CERT_FILE"], "rb") as file:
    trust = grpc.ssl_channel_credentials(file.read())
channel = grpc.secure_channel(sys.argv[1], trust)


# Of an answer that is nothing but its head, a proxy may say the length and the time.
OF_A_PROXY = ("content-length", "date")


def told(call):
    metadata = sorted((key, value) for key, value in call.trailing_metadata() if key not in OF_A_PROXY)
    print(call.code(), call.details(), metadata)


message = b"a message"
answer, call = channel.unary_unary("/open.Echo/Unary").with_call(message, timeout=20)
print("unary", answer)
told(call)
call = channel.unary_stream("/open.Echo/ServerStream")(message, timeout=20)
print("server stream", list(call))
told(call)
answer, call = channel.stream_unary("/open.Echo/ClientStream").with_call(iter([b"a", b"", b"b" * 100000]), timeout=20)
print("client stream", len(answer))
told(call)
# Each message waits for its answer.
sends = queue.Queue()
call = channel.stream_stream("/open.Echo/Both")(iter(sends.get, None), timeout=20)
for message in [b"first", b"second", b"x" * 100000, b""]:
    sends.put(message)
    print("both", len(next(call)))
sends.put(None)
print("both", list(call))
told(call)
try:
    channel.unary_unary("/open.Echo/Fail")(b"", timeout=20)
except grpc.RpcError as error:
    told(error)
