"""One image file, DICOM or picture, as grey values for display, with the header facts that matter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.pixels import dicom, picture, pixel_data
from mammoprep.pixels.attributes import BURNED_IN, FOR_PROCESSING, TEXT, WORDS
from mammoprep.pixels.dicom import read_facts
from mammoprep.pixels.facts import MAKERS, VIEWS, Facts
from mammoprep.pixels.identity import Identity, identify
from mammoprep.pixels.lettering import shows_text
from mammoprep.pixels.segmentation import Segmented, read_frames, read_segments
from mammoprep.pixels.stored import MAX_PIXELS, MOST_BYTES, PixelError
from mammoprep.pixels.tones import check_window, render
from mammoprep.records import stays_inside

__all__ = [
    "BURNED_IN",
    "FOR_PROCESSING",
    "MAKERS",
    "MAX_PIXELS",
    "TEXT",
    "VIEWS",
    "WORDS",
    "Facts",
    "Grey",
    "Identity",
    "PixelError",
    "Segmented",
    "check_window",
    "identify",
    "locate",
    "read",
    "read_facts",
    "read_frames",
    "read_labels",
    "read_segments",
    "read_values",
    "shows_text",
]

_ENVELOPED = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"  # CMS enveloped data (RFC 5652): an encrypted file


@dataclass(frozen=True)
class Grey:
    """Pixels (H, W) rendered for display, 0 = black … 65535 = white, with the header's facts."""

    pixels: NDArray[np.uint16]
    facts: Facts


def locate(root: Path, source: str) -> Path:
    """Give the path of a raw folder's file; PixelError where it is not there, or leaves the folder, be it by a link."""
    if not stays_inside(source):
        raise PixelError("the path leaves the raw folder")
    path = root / source
    try:
        is_there = path.is_file()
    except OSError as error:  # a name longer than any can be, a share that went
        raise PixelError(f"the file cannot be looked for ({error.strerror})") from None
    if not is_there:
        raise PixelError("the file is not there")
    if not path.resolve().is_relative_to(root.resolve()):
        raise PixelError("a link that leaves the raw folder")
    return path


def read(path: Path, *, window: str = "auto") -> Grey:
    """Read a DICOM, PNG, JPEG, PGM or TIFF file, told apart by content, and render it for display.

    `window` is `auto` (the file's first VOI LUT, else its first window, else `full`), `full` (from the lowest to the
    highest pixel that is no padding), `N` or `lut:N` (the file's Nth window or VOI LUT, from 1), `CENTER/WIDTH` in
    modality units, or a window's explanation. Padding is black. A picture has no windows of its own: its `auto` keeps
    the values as they are (8 bits times 257). Raises PixelError for a file that cannot be used and MammoprepError for
    an ill-formed `window`.
    """
    check_window(window)
    data = _load(path)
    if dicom.recognise(data):
        header = dicom.parse(data)
        stored = pixel_data.decode(header.frame)
        return Grey(render(stored, tones=header.tones, window=window), header.facts)
    stored, tones = picture.read(data)
    return Grey(render(stored, tones=tones, window=window), Facts())


def read_values(path: Path) -> NDArray[Any]:
    """Read a file's stored values (H, W), not rendered: a mask's 0, 1 and 255. Raises PixelError as `read` does."""
    data = _load(path)
    return _cells(data) if dicom.recognise(data) else picture.read(data)[0]


def read_labels(path: Path, *, in_colour: bool = False) -> NDArray[Any]:
    """Read a label map's values (H, W): a DICOM file's stored ones, a picture's as `picture.read_labels` gives them.

    Raises PixelError as `read` does, and where it is in colour and its numbers are asked for, or the reverse.
    """
    data = _load(path)
    return _cells(data) if dicom.recognise(data) else picture.read_labels(data, in_colour=in_colour)


def _cells(data: bytes) -> NDArray[Any]:
    header = dicom.parse(data)
    values: NDArray[Any] = pixel_data.decode(header.frame) >> header.tones.shift & (1 << header.tones.bits) - 1
    return values


def _load(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise PixelError(f"the file has {size} bytes, more than one image can have")
        data = path.read_bytes()
    except OSError as error:
        raise PixelError(f"the file cannot be read ({error.strerror})") from error
    if not data:
        raise PixelError("the file is empty")
    if _ENVELOPED in data[:64]:
        raise PixelError("the file is encrypted")
    return data
