"""Pixels as a file holds them, and what every file is checked for."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError

Stored = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixel cells (H, W) as decoded: in this machine's byte order, sign, overlay bits and padding not yet told apart."""

MAX_PIXELS = 2**26
"""Pixels an image may have, checked before memory is taken. Film digitised at 43 µm has 40 million."""

MOST_BYTES = 8 * MAX_PIXELS
"""Bytes that a file of one image may have: 16 bits in three channels, and a third of that for the header."""

MOST_SCANS = 100
"""Scans of a JPEG file: progressive ones have about ten, and a thousand empty ones of a few bytes each take minutes."""
_SCAN = b"\xff\xda"  # the marker at a scan's start, which no compressed data contains (ISO 10918-1 B.1.1.2)

_quiet = threading.Lock()


class PixelError(MammoprepError):
    """A file whose pixels cannot be used. Its text is the reason alone: no path, nothing of the patient."""


def check_size(rows: int, columns: int) -> None:
    """Refuse an image without pixels or with more than MAX_PIXELS."""
    if not 0 < rows * columns <= MAX_PIXELS:
        raise PixelError(f"the header says {rows} rows and {columns} columns; 1 to {MAX_PIXELS} pixels are possible")


def check_scans(data: bytes) -> None:
    """Refuse a JPEG codestream of more than MOST_SCANS scans."""
    if (scans := data.count(_SCAN)) > MOST_SCANS:
        raise PixelError(f"the JPEG data has {scans} scans; {MOST_SCANS} are possible")


def one_channel(values: NDArray[Any]) -> Stored:
    """Give the grey (H, W) of a colour array (H, W, 3) whose channels are equal."""
    first: Stored = np.ascontiguousarray(values[..., 0])
    if not (np.array_equal(first, values[..., 1]) and np.array_equal(first, values[..., 2])):
        raise PixelError("the image is in colour")
    return first


@contextmanager
def quietly() -> Iterator[None]:
    """Silence pydicom and Pillow, whose warnings and messages may quote the header.

    Warning filters belong to the whole process, so only one thread at a time changes them.
    """
    logger, pillow = logging.getLogger("pydicom"), logging.getLogger("PIL")
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, logger.disabled = logger.disabled, True
        level = pillow.level
        pillow.setLevel(logging.CRITICAL)  # it has a logger a module, which all take their level from this one
        try:
            yield
        finally:
            logger.disabled = disabled
            pillow.setLevel(level)
