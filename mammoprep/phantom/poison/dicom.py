"""DICOM headers that lie: sizes, frames, lengths, windows, look-up tables, sequences without end.

Files are explicit VR little endian; elements are changed or put in as bytes, since no writer would write them.
"""

import struct
import zlib
from collections.abc import Mapping
from functools import cache
from random import Random

from mammoprep.phantom.poison.binary import Poison

_UNDEFINED = 0xFFFFFFFF
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")
_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_WORDS = {
    "BitsAllocated": (0x0028, 0x0100),
    "BitsStored": (0x0028, 0x0101),
    "HighBit": (0x0028, 0x0102),
    "PixelRepresentation": (0x0028, 0x0103),
    "SamplesPerPixel": (0x0028, 0x0002),
    "PlanarConfiguration": (0x0028, 0x0006),
    "Rows": (0x0028, 0x0010),
    "Columns": (0x0028, 0x0011),
    "PixelPaddingValue": (0x0028, 0x0120),
    "PixelPaddingRangeLimit": (0x0028, 0x0121),
}
_NUMBERS = ("NaN", "inf", "-inf", "0", "-1", "1e308", "1e-308", "-1e308", "", "x", "1,5", "9" * 400, "0x10")
_SYNTAXES = (
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 100, 102, 201, 202, 203)),
    *("1.2.840.10008.1.2.5", "1.2.3", "x" * 64, ""),
)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_BOMB = 2**29 + 2**20
"""Bytes to which a deflated file grows: more than an image can have."""


def element(group: int, number: int, kind: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """Give an element as explicit VR little endian stores it; `length` is what it claims in place of the truth."""
    value += b" " * (len(value) % 2) if kind not in _LONG else b"\0" * (len(value) % 2)
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", group, number, kind)
    return head + (struct.pack("<2xI", size) if kind in _LONG else struct.pack("<H", size & 0xFFFF)) + value


def put(data: bytes, *elements: bytes) -> bytes:
    """Put elements in: over those of the same tag where their values are as long, else before the pixel data."""
    for new in elements:
        place = data.find(new[:6])
        if place >= 0 and data[place + 6 : place + 8] == new[6:8] and new[4:6] not in _LONG:
            data = data[:place] + new + data[place + len(new) :]
        else:
            end = data.find(_PIXEL_DATA)
            end = len(data) if end < 0 else end
            data = data[:end] + new + data[end:]
    return data


def word(keyword: str, value: int) -> bytes:
    """Give an element of one unsigned 16-bit number."""
    return element(*_WORDS[keyword], b"US", struct.pack("<H", value))


def _lie(data: bytes, rng: Random) -> bytes:
    values = (0, 1, 2, 3, 7, 8, 12, 16, 17, 32, 64, 255, 256, 4096, 32767, 32768, 65535)
    chosen = rng.sample(sorted(_WORDS), rng.choice((1, 1, 2, 3)))
    return put(data, *(word(keyword, rng.choice(values)) for keyword in chosen))


def _frames(data: bytes, rng: Random) -> bytes:
    said = rng.choice((b"1000000", b"2", b"-1", b"0", b"1e6", b"NaN", b"", b"9" * 30))
    return put(data, element(0x0028, 0x0008, b"IS", said))


def _largest(data: bytes, rng: Random) -> bytes:
    return put(data, word("Rows", 65535), word("Columns", 65535))


def _windows(data: bytes, rng: Random) -> bytes:
    count = rng.choice((1, 1, 2, 5000))
    texts = ("\\".join(rng.choice(_NUMBERS) for _ in range(count)).encode()[:65534] for _ in range(2))
    function = rng.choice((b"LINEAR", b"LINEAR_EXACT", b"SIGMOID", b"CUBIC", b""))
    centers, widths = (
        element(0x0028, number, b"DS", text) for number, text in zip((0x1050, 0x1051), texts, strict=True)
    )
    return put(data, centers, widths, element(0x0028, 0x1056, b"CS", function))


def _rescale(data: bytes, rng: Random) -> bytes:
    numbers = (rng.choice(_NUMBERS).encode() for _ in range(2))
    return put(data, *(element(0x0028, 0x1052 + n, b"DS", text) for n, text in enumerate(numbers)))


def _tables(data: bytes, rng: Random) -> bytes:
    """Put in VOI or Modality LUTs: huge, many, or with a descriptor that lies about what follows."""
    descriptor = struct.pack("<3H", rng.choice((0, 1, 256, 65535)), rng.choice((0, 32768, 65535)), rng.randrange(40))
    entries = bytes(rng.choice((0, 1, 2, 512, 131072, 2**23)))
    item = element(0x0028, 0x3002, b"US", descriptor) + element(0x0028, 0x3006, b"OW", entries)
    items = _item(item) * (1 if len(entries) > 2**17 else rng.choice((1, 1, 100)))
    return put(data, element(0x0028, rng.choice((0x3000, 0x3010)), b"SQ", items))


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _nested(data: bytes, rng: Random) -> bytes:
    """Put in a sequence in a sequence …, 1,000 deep, of known or of undefined lengths, whole or never closed."""
    depth, tag = 1000, rng.choice(((0x0028, 0x3010), (0x0054, 0x0220), (0x0040, 0xA730)))
    opened = element(*tag, b"SQ", b"", length=_UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
    closed = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    how = rng.randrange(3)
    if how < 2:
        return put(data, opened * depth + closed * (depth if how else 0))
    content = b""
    for _ in range(depth):
        content = element(*tag, b"SQ", _item(content))
    return put(data, content)


def _length(data: bytes, rng: Random) -> bytes:
    """Let some element claim another length, undefined among others."""
    places = [at for at in range(132, min(len(data) - 8, 2000), 2) if data[at + 4 : at + 6] in _KINDS]
    if not places:
        return data[:200]
    at = rng.choice(places)
    if data[at + 4 : at + 6] in _LONG:
        claimed = struct.pack("<I", rng.choice((_UNDEFINED, _UNDEFINED - 1, 2**31, 0, 1, 3, 10**6)))
        return data[: at + 8] + claimed + data[at + 12 :]
    return data[: at + 6] + struct.pack("<H", rng.choice((0, 1, 3, 500, 65535))) + data[at + 8 :]


_KINDS = (*_LONG, b"US", b"SS", b"DS", b"IS", b"CS", b"UI", b"LO", b"SH", b"PN", b"UL", b"AS")


def _charset(data: bytes, rng: Random) -> bytes:
    said = rng.choice((b"ISO_IR 192", b"ISO 2022 IR 87\\ISO 2022 IR 149", b"GB18030", b"KLINGON", b"\xff\xfe", b""))
    name = rng.choice((b"\x1b$B\x1b(\xff", b"\xc3\x28", "Ж^名".encode("utf-16"), rng.randbytes(300)))
    elements = [element(0x0008, 0x0005, b"CS", said), element(0x0010, 0x0010, b"PN", name)]
    elements += [element(0x0010, 0x0020, b"LO", name), element(0x0008, 0x0070, b"LO", name)]
    return put(data, *elements)


def _syntax(data: bytes, rng: Random) -> bytes:
    """Name another transfer syntax than the pixel data has."""
    place = data.find(b"\x02\x00\x10\x00UI")
    if place < 0:
        return data[132:]
    length = struct.unpack_from("<H", data, place + 6)[0]
    named = element(0x0002, 0x0010, b"UI", rng.choice(_SYNTAXES).encode())
    return data[:place] + named + data[place + 8 + length :]


@cache
def _deflated_zeros() -> bytes:
    deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)  # which needs nothing before it
    return block * (_BOMB // 2**20) + deflate.flush()


def _bomb(data: bytes, rng: Random) -> bytes:
    """Give a deflated file of half a megabyte that grows to half a gigabyte."""
    syntax = element(0x0002, 0x0010, b"UI", _DEFLATED.encode() + b"\0" * (len(_DEFLATED) % 2))
    return (
        bytes(128)
        + b"DICM"
        + element(0x0002, 0x0000, b"UL", struct.pack("<I", len(syntax)))
        + syntax
        + _deflated_zeros()
    )


def _encrypted(data: bytes, rng: Random) -> bytes:
    """Replace the pixel data by an EncryptedAttributesSequence (PS3.15 annex E)."""
    syntax = element(0x0400, 0x0510, b"UI", b"1.2.840.10008.1.2.1") + element(0x0400, 0x0520, b"OB", rng.randbytes(600))
    end = data.find(_PIXEL_DATA)
    return data[: end if end >= 0 else 300] + element(0x0400, 0x0500, b"SQ", _item(syntax))


POISONS: Mapping[str, Poison] = {
    "numbers of the header lie": _lie,
    "frames without number": _frames,
    "65535 rows of 65535": _largest,
    "windows that are none": _windows,
    "rescale that is none": _rescale,
    "look-up tables": _tables,
    "sequences 1,000 deep": _nested,
    "a length lies": _length,
    "wrong character set": _charset,
    "another transfer syntax": _syntax,
    "deflated bomb": _bomb,
    "encrypted pixel data": _encrypted,
    "without preamble": lambda data, rng: data[132:],
}
