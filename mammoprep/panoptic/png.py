"""A map of segment ids as an RGB PNG: id = R + 256·G + 65536·B."""

import hashlib
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic.folder import Written

Ids = NDArray[np.int32]
"""A map of segment ids (H, W); 0 is VOID."""

MAX_ID = 256**3 - 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""Chunks that the pixels follow from."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a channel that each kind of colours can have (PNG clause 11.2.1)."""
_LARGEST = 2**26
"""Pixels an image may have, as in `pixels`: a damaged header may claim any size."""
_kept = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A map (H, W) as runs of equal pixels, row after row.

    `labels` (K,) are its different values, rising; `index` (N,) says which of them each run has; `starts` (N,) in
    [0, H·W), rising, is where it begins.
    """

    shape: tuple[int, int]
    labels: NDArray[np.int64]
    index: NDArray[np.intp]
    starts: NDArray[np.intp]

    @property
    def first_pixels(self) -> dict[int, int]:
        """Give the place in [0, H·W) of the first pixel of each value."""
        first = np.zeros(self.labels.size, dtype=np.intp)
        first[self.index[::-1]] = self.starts[::-1]  # of several runs the last one written is the first in the map
        return dict(zip(self.labels.tolist(), first.tolist(), strict=True))


def runs_of(pixels: NDArray[Any]) -> Runs:
    """Give the runs of a map (H, W) of values in 0 … 2^24 - 1; what lies above is cut off, as an alpha channel."""
    flat = pixels.ravel()
    changes = np.not_equal(flat[1:], flat[:-1], out=_buffer("changes", (max(flat.size - 1, 0),)).view(np.bool_))
    starts = np.concatenate((np.zeros(min(flat.size, 1), dtype=np.intp), np.flatnonzero(changes) + 1))
    values = flat[starts].astype(np.int64) & MAX_ID
    labels = np.unique(values)
    return Runs((pixels.shape[0], pixels.shape[1]), labels, np.searchsorted(labels, values), starts)


def blank_runs(shape: tuple[int, int]) -> Runs:
    """Give the runs of a map that is 0 everywhere."""
    return Runs(shape, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp))


def write_ids(path: Path, ids: Ids) -> Written:
    """Write a map of segment ids (H, W), 0 … 2^24 - 1, as an RGB PNG: id = R + 256·G + 65536·B."""
    if ids.min(initial=0) < 0 or ids.max(initial=0) > MAX_ID:
        raise MammoprepError(f"{path}: segment ids must lie in 0 … {MAX_ID}.")
    bytes_of_ids = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    return _write(path, cv2.cvtColor(bytes_of_ids, cv2.COLOR_RGBA2RGB))


def read_ids(path: Path) -> Ids:
    """Read the map of segment ids (H, W) that `write_ids` wrote."""
    ids: Ids = cv2.cvtColor(_decode_ids(path, keep=True), cv2.COLOR_RGB2RGBA).view("<i4")[..., 0]
    ids &= MAX_ID  # without the alpha channel, in place
    return ids


def read_id_runs(path: Path) -> Runs:
    """Read the map of segment ids that `write_ids` wrote, as runs."""
    red_green_blue = _decode_ids(path, keep=True)
    height, width, _ = red_green_blue.shape
    with_alpha = _buffer("ids", (height, width, 4))
    return runs_of(cv2.cvtColor(red_green_blue, cv2.COLOR_RGB2RGBA, dst=with_alpha).view("<i4")[..., 0])


def read_class_runs(path: Path) -> Runs:
    """Read a map of class ids, a grey PNG of 8 bits, as runs."""
    classes = _decode(path, keep=True)
    if classes.ndim != 2 or classes.dtype != np.uint8:
        raise MammoprepError(f"{path} is no grey PNG of 8 bits. It holds one category id a pixel.")
    return runs_of(classes)


def _decode_ids(path: Path, *, keep: bool = False) -> NDArray[np.uint8]:
    red_green_blue: NDArray[np.uint8] = _decode(path, keep=keep)
    if red_green_blue.ndim != 3 or red_green_blue.shape[2] != 3 or red_green_blue.dtype != np.uint8:
        raise MammoprepError(f"{path} is no RGB PNG with 8 bits a channel. A panoptic PNG holds R + 256·G + 65536·B.")
    return red_green_blue


def write_classes(path: Path, classes: NDArray[np.uint8]) -> Written:
    """Write a map of class ids (H, W), 0 … 255, as a grey PNG of 8 bits."""
    return _write(path, classes)


def write_png(path: Path, pixels: NDArray[Any]) -> Written:
    """Write a grey (H, W) or BGR (H, W, 3) array of 8 or 16 bits as PNG.

    Rows of grey are filtered by the row above, which suits pictures; those of colours are not.
    """
    if pixels.ndim == 2:
        return _write(path, pixels, is_picture=True)
    return _write(path, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _write(path: Path, pixels: NDArray[Any], *, is_picture: bool = False) -> Written:
    """Write grey (H, W) or RGB (H, W, 3) of 8 or 16 bits; zlib-ng takes a tenth of libpng's time for a map of ids.

    PNG (third edition), clauses 5.3 (chunks), 7.2 (rows), 9.2 (filters) and 11.2.1 (IHDR).
    """
    height, width, *channels = pixels.shape
    data = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    rows = np.empty((height, 1 + data.shape[1]), dtype=np.uint8)
    rows[:, 0] = 2 if is_picture else 0  # Up, None
    if is_picture:
        rows[:1, 1:] = data[:1]
        np.subtract(data[1:], data[:-1], out=rows[1:, 1:])
    else:
        rows[:, 1:] = data
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 2 if channels else 0, 0, 0, 0)
    encode: Any = imagecodecs.zlibng_encode  # whose stub knows no arrays
    chunks = ((b"IHDR", header), (b"IDAT", encode(rows, level=2)), (b"IEND", b""))
    file = _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)
    path.write_bytes(file)
    return Written(len(file), hashlib.sha256(file).hexdigest())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def read_png(path: Path) -> NDArray[Any]:
    """Read a PNG as it is stored: grey (H, W) or BGR (H, W, 3)."""
    pixels = _decode(path)
    return pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels


def _decode(path: Path, *, keep: bool = False) -> NDArray[Any]:
    """Decode a PNG, colours as RGB; OpenCV would print lines of its own for a damaged one.

    With `keep` the pixels may lie in memory that this thread's next call fills again: new memory costs more time.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise MissingFileError(path, hint="panoptic.json names it; was the folder copied whole?") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise MammoprepError(f"{path} cannot be read. Check its name and its access rights.") from error
    try:
        chunks = _chunks(data)
        _check_header(chunks)
        pixels: NDArray[Any] | None = _inflate(chunks) if keep else None
        return imagecodecs.png_decode(_bare(data, chunks)) if pixels is None else pixels
    except (RuntimeError, ValueError) as error:  # imagecodecs' own error is a RuntimeError
        raise MammoprepError(f"{path} is not a readable PNG. Write it again.") from error


def _check_header(chunks: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a header that no image of ours can have, before memory is taken and libpng prints what it thinks of it."""
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":
        raise ValueError("torn")
    width, height, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise ValueError("of an unknown kind")
    if not 0 < width * height <= _LARGEST:
        raise ValueError("too large")


def _bare(data: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Leave out the chunks that are no pixels: texts and profiles, of which libpng warns, and which may be huge."""
    kinds = {kind for kind, _ in chunks}
    if kinds <= _PIXELS:
        return data
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks if kind in _PIXELS)


def _inflate(chunks: Sequence[tuple[bytes, bytes]]) -> NDArray[np.uint8] | None:
    """Decode an 8-bit grey or RGB PNG without row filters, as `write_ids` and `write_classes` write; None for others.

    libdeflate takes a small part of libpng's time for it, which is most of what an evaluation waits for.
    PNG (third edition), clauses 5.3 (chunks), 9.2 (filters) and 11.2.1 (IHDR).
    """
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", chunks[0][1])
    if (
        {kind for kind, _ in chunks} != {b"IHDR", b"IDAT", b"IEND"}
        or depth != 8
        or colour not in (0, 2)
        or any(methods)
    ):
        return None
    channels = 3 if colour else 1
    rows = _buffer(f"rows of {channels}", (height, width * channels + 1))
    decode: Any = imagecodecs.deflate_decode  # whose stub knows no arrays
    filled = decode(b"".join(content for kind, content in chunks if kind == b"IDAT"), out=rows.ravel()).size
    if filled < rows.size or rows[:, 0].any():
        return None
    pixels = rows[:, 1:]
    return pixels.reshape(height, width, channels) if colour else pixels


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Give the type and content of each chunk up to the end's; none at all where one is torn or its checksum wrong."""
    chunks, place = [], len(_SIGNATURE)
    while data.startswith(_SIGNATURE):
        length = int.from_bytes(data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        check = data[place + 8 + length : place + 12 + length]
        if len(check) < 4 or zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(check):
            break
        chunks.append((kind, content))
        if kind == b"IEND":
            return chunks
        place += 12 + length
    return []


def _buffer(name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Give this thread's bytes of that name, anew only where their shape changes."""
    kept: NDArray[np.uint8] | None = getattr(_kept, name, None)
    if kept is None or kept.shape != shape:
        kept = np.empty(shape, dtype=np.uint8)
        setattr(_kept, name, kept)
    return kept
