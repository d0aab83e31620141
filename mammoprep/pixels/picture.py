"""PNG, JPEG, PGM and TIFF files as stored values."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoprep.pixels.stored import MAX_PIXELS, PixelError, Stored, check_scans, check_size, one_channel, quietly
from mammoprep.pixels.tones import Tones, Window

_KINDS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"P5": "PPM", b"P2": "PPM"}
_CONVERTED = {"1": "L", "P": "RGB", "LA": "L"}
_Taken = TypeVar("_Taken")
_PHOTOMETRIC = 262  # TIFF's PhotometricInterpretation: 0 is white


def read(data: bytes) -> tuple[Stored, Tones]:
    """Read a picture's grey values (H, W), 8 or 16 bit, and the tones that show them as they are."""
    stored, inverted = _opened(data, _values)
    highest = int(np.iinfo(stored.dtype).max)
    as_it_is = Window(center=highest / 2, width=highest, function="LINEAR_EXACT")
    return stored, Tones(bits=8 * stored.itemsize, default=as_it_is, inverted=inverted)


def read_labels(data: bytes, *, in_colour: bool) -> NDArray[Any]:
    """Read a label map's values (H, W): grey levels, or the indices of a coloured palette; 0 where it is transparent.

    With `in_colour` the values are colours, 65536·R + 256·G + B.
    """
    return _opened(data, partial(_labels, in_colour=in_colour))


def _opened(data: bytes, take: Callable[[Image.Image], _Taken]) -> _Taken:
    """Give what `take` makes of a picture."""
    kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), "")
    if not kind:
        raise PixelError("the file is no image: neither DICOM nor PNG, JPEG, PGM or TIFF")
    if kind == "JPEG":
        check_scans(data)
    try:
        with quietly(), Image.open(BytesIO(data), formats=[kind]) as image:
            check_size(image.height, image.width)
            if getattr(image, "is_animated", False):  # to count them takes time that grows with their square
                raise PixelError("the file has more than one image")
            return take(image)
    except PixelError:
        raise
    except Image.DecompressionBombError:
        raise PixelError(f"the image has more than {MAX_PIXELS} pixels") from None
    except Exception:  # Pillow lets any error of its decoders through: OSError, ValueError, SyntaxError, struct.error …
        raise PixelError(f"the {kind} data is damaged or cut off") from None


def _values(image: Image.Image) -> tuple[Stored, bool]:
    """Give the grey values, and whether 0 is white."""
    stored = _grey(image)
    return stored, stored.itemsize == 2 and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _grey(image: Image.Image) -> Stored:
    shown = image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image
    values = np.asarray(shown)
    if shown.mode in ("RGB", "RGBA"):
        return one_channel(values)
    if shown.mode == "I" and image.format == "PPM":  # more than 8 bits, which Pillow scales to 0 … 65535
        return values.astype(np.uint16)
    if shown.mode == "L" or shown.mode.startswith("I;16"):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    raise PixelError(f"the {image.format} data is of kind {image.mode}; grey of 8 or 16 bits is expected")


def _labels(image: Image.Image, *, in_colour: bool) -> NDArray[Any]:
    if image.format == "JPEG":
        raise PixelError("JPEG changes values; a label map is kept as PNG or TIFF")
    values = _colours(image) if in_colour else _classes(image)
    if "A" in image.getbands():
        values[np.asarray(image.getchannel("A")) == 0] = 0
    return values


def _classes(image: Image.Image) -> NDArray[Any]:
    """Give grey levels, or indices where the palette's colours that occur are not all grey."""
    if image.mode == "P":
        indices, palette = np.array(image), np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        used = palette[np.flatnonzero(np.bincount(indices.ravel()))]
        return palette[:, 0][indices] if (used == used[:, :1]).all() else indices
    if image.mode in ("RGB", "RGBA") and not (np.ptp(np.asarray(image)[..., :3], axis=-1) == 0).all():
        raise PixelError("the label map is in colour; say the classes of its colours, as ff0000=malignant")
    return np.array(image, dtype=np.uint8) if image.mode == "1" else _grey(image).copy()


def _colours(image: Image.Image) -> NDArray[Any]:
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise PixelError(f"the label map is of kind {image.mode}, which has no colours; say the classes of its numbers")
    channels = np.asarray(image.convert("RGB"))
    colours: NDArray[np.uint32] = channels[..., 0].astype(np.uint32)
    for channel in (1, 2):
        colours <<= 8
        colours |= channels[..., channel]
    return colours
