"""Packs that no git makes. Arguments: kind, size in MiB. The pack goes to stdout.

blob: one blob of zeros.  delta: a small blob, and a delta on it that makes one of that size.  chain: the same size by deltas
on deltas, each twice as large as the one before.  count: says that four billion objects follow.
"""
import hashlib, struct, sys, zlib

KIND, SIZE = sys.argv[1], int(sys.argv[2]) << 20


def size_bytes(kind, size):
    first, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 127, size >> 7
    out.append(first)
    return bytes(out)


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def zeros(size):
    packer = zlib.compressobj()
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join(parts) + packer.compress(bytes(size % (1 << 20))) + packer.flush()


def id_of(size):
    name = hashlib.sha1(b"blob %d\0" % size)
    for _ in range(size >> 20):
        name.update(bytes(1 << 20))
    name.update(bytes(size % (1 << 20)))
    return name.digest()


def delta(base, result):
    # Each copies the whole base, 0xffffff bytes at most.
    step = min(base, 0xFFFFFF)
    copy = b"\xf0" + struct.pack("<I", step)[:3]
    text = number(base) + number(result) + copy * (result // step)
    rest = result % step
    if rest:
        text += b"\xf0" + struct.pack("<I", rest)[:3]
    return size_bytes(7, len(text)) + id_of(base) + zlib.compress(text)


objects = []
if KIND == "blob":
    objects = [size_bytes(3, SIZE) + zeros(SIZE)]
elif KIND == "delta":
    base = 1 << 20
    objects = [size_bytes(3, base) + zeros(base), delta(base, SIZE)]
elif KIND == "chain":
    base = 1 << 16
    objects = [size_bytes(3, base) + zeros(base)]
    while base < SIZE:
        objects.append(delta(base, 2 * base))
        base *= 2
pack = b"PACK" + struct.pack(">II", 2, 0xFFFFFFFF if KIND == "count" else len(objects)) + b"".join(objects)
sys.stdout.buffer.write(pack + hashlib.sha1(pack).digest())
