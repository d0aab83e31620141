"""A map of segment ids as an RGB PNG: id = R + 256·G + 65536·B."""

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


def write_ids(path: Path, ids: Ids) -> None:
    """Write a map of segment ids (H, W), 0 … 2^24 - 1, as an RGB PNG: id = R + 256·G + 65536·B."""
    if ids.min(initial=0) < 0 or ids.max(initial=0) > MAX_ID:
        raise MammoprepError(f"{path}: segment ids must lie in 0 … {MAX_ID}.")
    bytes_of_ids = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8).reshape(*ids.shape, 4)
    write_png(path, cv2.cvtColor(bytes_of_ids, cv2.COLOR_RGBA2BGR))


def read_ids(path: Path) -> Ids:
    """Read the map of segment ids (H, W) that `write_ids` wrote."""
    red_green_blue = _decode(path)
    if red_green_blue.ndim != 3 or red_green_blue.shape[2] != 3 or red_green_blue.dtype != np.uint8:
        raise MammoprepError(f"{path} is no RGB PNG with 8 bits a channel. A panoptic PNG holds R + 256·G + 65536·B.")
    ids: Ids = cv2.cvtColor(red_green_blue, cv2.COLOR_RGB2RGBA).view("<i4")[..., 0]
    ids &= MAX_ID  # without the alpha channel, in place
    return ids


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


def _decode(path: Path) -> NDArray[Any]:
    """Decode a PNG, colours as RGB; OpenCV would print lines of its own for a damaged one."""
    if not path.is_file():
        raise MissingFileError(path, hint="panoptic.json names it; was the folder copied whole?")
    data = path.read_bytes()
    try:
        if _END not in data[-1024:]:
            raise ValueError("torn")
        pixels: NDArray[Any] = imagecodecs.png_decode(data)
    except (RuntimeError, ValueError) as error:  # imagecodecs' own error is a RuntimeError
        raise MammoprepError(f"{path} is not a readable PNG. Write it again.") from error
    return pixels
