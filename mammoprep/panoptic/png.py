"""A map of segment ids as an RGB PNG: id = R + 256·G + 65536·B."""

import struct
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError, MissingFileError

Ids = NDArray[np.int32]
"""A map of segment ids (H, W); 0 is VOID."""

MAX_ID = 256**3 - 1
_END = b"IEND\xaeB`\x82"
"""The last bytes of every whole PNG, which decoders do not ask for."""
_LARGEST = 2**28
"""Pixels up to which a buffer is kept; a damaged header may claim any size."""
_kept = threading.local()


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A map (H, W) as runs of equal pixels, row after row: `values` (N,), and `starts` (N,) in [0, H·W), rising."""

    shape: tuple[int, int]
    values: NDArray[np.int64]
    starts: NDArray[np.intp]

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Give the pixels of each run (N,)."""
        return np.diff(self.starts, append=self.shape[0] * self.shape[1])


def runs_of(pixels: NDArray[Any]) -> Runs:
    """Give the runs of a map (H, W)."""
    flat = pixels.ravel()
    changes = np.not_equal(flat[1:], flat[:-1], out=_buffer("changes", (max(flat.size - 1, 0),), np.bool_))
    starts = np.concatenate((np.zeros(min(flat.size, 1), dtype=np.intp), np.flatnonzero(changes) + 1))
    return Runs((pixels.shape[0], pixels.shape[1]), flat[starts].astype(np.int64), starts)


def write_ids(path: Path, ids: Ids) -> None:
    """Write a map of segment ids (H, W), 0 … 2^24 - 1, as an RGB PNG: id = R + 256·G + 65536·B."""
    if ids.min(initial=0) < 0 or ids.max(initial=0) > MAX_ID:
        raise MammoprepError(f"{path}: segment ids must lie in 0 … {MAX_ID}.")
    bytes_of_ids = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    write_png(path, cv2.cvtColor(bytes_of_ids, cv2.COLOR_RGBA2BGR))


def read_ids(path: Path) -> Ids:
    """Read the map of segment ids (H, W) that `write_ids` wrote."""
    ids: Ids = cv2.cvtColor(_decode_ids(path), cv2.COLOR_RGB2RGBA).view("<i4")[..., 0]
    ids &= MAX_ID  # without the alpha channel, in place
    return ids


def read_id_runs(path: Path) -> Runs:
    """Read the map of segment ids that `write_ids` wrote, as runs."""
    red_green_blue = _decode_ids(path, keep=True)
    height, width, _ = red_green_blue.shape
    with_alpha = _buffer("ids", (height, width, 4), np.uint8)
    runs = runs_of(cv2.cvtColor(red_green_blue, cv2.COLOR_RGB2RGBA, dst=with_alpha).view("<i4")[..., 0])
    return replace(runs, values=runs.values & MAX_ID)


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


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a grey (H, W) or BGR (H, W, 3) array of 8 or 16 bits as PNG."""
    filtered = cv2.IMWRITE_PNG_FILTER_UP if pixels.ndim == 2 else cv2.IMWRITE_PNG_FILTER_NONE
    how = (cv2.IMWRITE_PNG_FILTER, filtered, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    done, data = cv2.imencode(".png", pixels, how)
    if not done:
        raise MammoprepError(f"{path} could not be encoded as PNG.")
    path.write_bytes(data.tobytes())


def read_png(path: Path) -> NDArray[Any]:
    """Read a PNG as it is stored: grey (H, W) or BGR (H, W, 3)."""
    pixels = _decode(path)
    return pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels


def _decode(path: Path, *, keep: bool = False) -> NDArray[Any]:
    """Decode a PNG, colours as RGB; OpenCV would print lines of its own for a damaged one.

    With `keep` the pixels lie in memory that this thread's next call fills again.
    """
    if not path.is_file():
        raise MissingFileError(path, hint="panoptic.json names it; was the folder copied whole?")
    data = path.read_bytes()
    try:
        if _END not in data[-1024:] or len(data) < 26:
            raise ValueError("torn")
        pixels: NDArray[Any] = imagecodecs.png_decode(data, out=_room_for(data) if keep else None)
    except (RuntimeError, ValueError) as error:  # imagecodecs' own error is a RuntimeError
        raise MammoprepError(f"{path} is not a readable PNG. Write it again.") from error
    return pixels


def _room_for(data: bytes) -> NDArray[np.uint8] | None:
    """Give memory for an 8-bit grey or RGB PNG of this size, None for other kinds (PNG, IHDR chunk)."""
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or colour not in (0, 2) or width * height > _LARGEST:
        return None
    return _buffer("rgb", (height, width, 3), np.uint8) if colour else _buffer("grey", (height, width), np.uint8)


def _buffer(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Give this thread's array of that name, anew only where its shape changes: new memory costs more than decoding."""
    kept: NDArray[Any] | None = getattr(_kept, name, None)
    if kept is None or kept.shape != shape:
        kept = np.empty(shape, dtype=dtype)
        setattr(_kept, name, kept)
    return kept
