"""Damage to any file: bytes flipped, cut off, doubled, swapped, gone."""

from collections.abc import Callable, Mapping
from random import Random

Poison = Callable[[bytes, Random], bytes]

_HEAD = 1024
"""Bytes at the start of a file, which hold its header, that are flipped more often than others."""
ENVELOPE = b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x80"
"""How CMS enveloped data begins (RFC 5652): what an encrypted file looks like."""


def _flip(data: bytes, rng: Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = rng.randrange(min(len(data), rng.choice((_HEAD, len(data)))))
        damaged[place] = rng.choice((damaged[place] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255))
    return bytes(damaged)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(min(len(data), rng.choice((_HEAD, len(data)))))]


def _lose_middle(data: bytes, rng: Random) -> bytes:
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:start] + data[stop:]


def _repeat(data: bytes, rng: Random) -> bytes:
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:stop] + data[start:stop] * rng.choice((1, 2, 30)) + data[stop:]


def _fill(data: bytes, rng: Random) -> bytes:
    """Overwrite a block with one byte, as a disk's lost sector reads."""
    start = rng.randrange(len(data))
    length = min(512, len(data) - start)
    return data[:start] + bytes([rng.choice((0, 255))]) * length + data[start + length :]


def _swap(data: bytes, rng: Random) -> bytes:
    """Write the start of a block where another begins."""
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    block = data[source : source + rng.choice((2, 4, 16, 256))]
    return data[:target] + block + data[target + len(block) :]


POISONS: Mapping[str, Poison] = {
    "bytes flipped": _flip,
    "cut off": _cut,
    "middle lost": _lose_middle,
    "a part repeated": _repeat,
    "a block overwritten": _fill,
    "a block copied": _swap,
    "empty": lambda data, rng: b"",
    "noise": lambda data, rng: rng.randbytes(rng.choice((1, 4, 200, 5000))),
    "encrypted": lambda data, rng: ENVELOPE + rng.randbytes(len(data)),
}
