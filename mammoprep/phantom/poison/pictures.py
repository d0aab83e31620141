"""Pictures whose headers lie: sizes, kinds, chunks with right sums, scans and folders without end."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from random import Random

from mammoprep.phantom.poison.binary import Poison

_SIZES = (0, 1, 7, 4096, 65535, 2**24, 2**31 - 1, 2**32 - 1)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Give a chunk of a PNG with its length and sum (PNG clause 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _with(data: bytes, *, header: bytes = b"", before: bytes = b"", pixels: bytes | None = None) -> bytes:
    """Give a PNG with another header or other pixel data, or with chunks before them."""
    parts = [(kind, header if kind == b"IHDR" and header else content) for kind, content in _chunks(data)]
    told = b"".join(content for kind, content in parts if kind == b"IDAT")
    others = b"".join(chunk(kind, content) for kind, content in parts if kind not in (b"IDAT", b"IEND"))
    return data[:8] + others + before + chunk(b"IDAT", told if pixels is None else pixels) + chunk(b"IEND", b"")


def _size(data: bytes, rng: Random) -> bytes:
    header = next(content for kind, content in _chunks(data) if kind == b"IHDR")
    width, height = struct.unpack_from(">II", header)
    side = rng.randrange(3)
    width = rng.choice(_SIZES) if side != 1 else width
    height = rng.choice(_SIZES) if side != 0 else height
    return _with(data, header=struct.pack(">II", width, height) + header[8:])


def _kind(data: bytes, rng: Random) -> bytes:
    header = bytearray(next(content for kind, content in _chunks(data) if kind == b"IHDR"))
    header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return _with(data, header=bytes(header))


def _text(data: bytes, rng: Random) -> bytes:
    """Put in a text, or a profile, that grows to 100 MB."""
    bomb = zlib.compress(bytes(10**8), 1)
    return _with(data, before=chunk(*rng.choice(((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb)))))


def _frames(data: bytes, rng: Random) -> bytes:
    return _with(data, before=chunk(b"acTL", struct.pack(">II", rng.choice((0, 2, 10**6, 2**32 - 1)), 0)))


def _more(data: bytes, rng: Random) -> bytes:
    """Let the pixel data grow to 50 MB, most of it for no pixel."""
    return _with(data, pixels=zlib.compress(bytes(5 * 10**7), 1))


def _stream(data: bytes, rng: Random) -> bytes:
    """Damage the pixels inside their compression, sums right."""
    told = bytearray(b"".join(content for kind, content in _chunks(data) if kind == b"IDAT"))
    for _ in range(rng.choice((1, 4, 50))):
        told[rng.randrange(len(told))] = rng.randrange(256)
    return _with(data, pixels=bytes(told))


def _filters(data: bytes, rng: Random) -> bytes:
    """Name row filters that there are not."""
    told = b"".join(content for kind, content in _chunks(data) if kind == b"IDAT")
    plain = bytearray(zlib.decompress(told))
    for place in range(0, len(plain), 97):
        plain[place] = rng.randrange(256)
    return _with(data, pixels=zlib.compress(bytes(plain[: rng.choice((len(plain), len(plain) // 2))])))


def _jpeg_size(data: bytes, rng: Random) -> bytes:
    """Change size, bits or components in the frame's header (ISO 10918-1 B.2.2)."""
    at = 2
    while at + 9 < len(data) and not 0xC0 <= data[at + 1] <= 0xC3:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    damaged = bytearray(data)
    place = rng.choice((at + 1, at + 4, at + 5, at + 7, at + 9, at + 11))
    damaged[place : place + 2] = rng.choice((b"\xff\xff", b"\0\0", b"\xc2\xff", b"\x10\x00", b"\0\x01"))
    return bytes(damaged[: len(data)])


def _scans(data: bytes, rng: Random) -> bytes:
    """Repeat the scan, as a progressive file without end does."""
    start, end = data.find(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:start] + data[start:end] * rng.choice((2, 3000)) + data[end:]


def _tiff_entry(data: bytes, rng: Random) -> bytes:
    """Change a number in the first folder of a little-endian TIFF: tag, type, count or value."""
    folder = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, folder)[0]
    at = folder + 2 + 12 * rng.randrange(count)
    damaged = bytearray(data)
    place, form = rng.choice(((0, "<H"), (2, "<H"), (4, "<I"), (8, "<I")))
    number = rng.choice((0, 1, 5, 8, 32773, 65535)) if form == "<H" else rng.choice(_SIZES)
    struct.pack_into(form, damaged, at + place, number)
    return bytes(damaged)


def _tiff_loop(data: bytes, rng: Random) -> bytes:
    """Let the first folder be followed by itself, or by 100,000 others."""
    folder = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, folder)[0]
    damaged, after = bytearray(data), folder + 2 + 12 * count
    if rng.randrange(2):
        struct.pack_into("<I", damaged, after, folder)
        return bytes(damaged)
    own = bytes(damaged[folder:after])
    struct.pack_into("<I", damaged, after, len(data))
    size = len(own) + 4
    return bytes(damaged) + b"".join(own + struct.pack("<I", len(data) + (n + 1) * size) for n in range(100_000))


def _pgm_header(data: bytes, rng: Random) -> bytes:
    body = data.split(b"\n", 3)[-1]
    sides = (str(rng.choice((*_SIZES, -5, "x", "9" * 500))).encode() for _ in range(3))
    return rng.choice((b"P5", b"P2", b"P7")) + b"\n" + b" ".join(sides) + b"\n" + body


PNG: Mapping[str, Poison] = {
    "size lies": _size,
    "kind lies": _kind,
    "a text of 100 MB": _text,
    "a million frames": _frames,
    "pixels without end": _more,
    "pixels damaged, sums right": _stream,
    "filters that are none": _filters,
}
JPEG: Mapping[str, Poison] = {"size lies": _jpeg_size, "scans without end": _scans}
TIFF: Mapping[str, Poison] = {"an entry lies": _tiff_entry, "folders without end": _tiff_loop}
PGM: Mapping[str, Poison] = {"header lies": _pgm_header}
