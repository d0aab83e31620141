"""PNG, JPEG, PGM and TIFF files as stored values."""

from io import BytesIO

import numpy as np
from PIL import Image

from mammoprep.pixels.stored import MAX_PIXELS, PixelError, Stored, check_size, one_channel, quietly
from mammoprep.pixels.tones import Tones, Window

_KINDS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"P5": "PPM", b"P2": "PPM"}
_CONVERTED = {"1": "L", "P": "RGB", "LA": "L"}
_PHOTOMETRIC = 262  # TIFF's PhotometricInterpretation: 0 is white


def read(data: bytes) -> tuple[Stored, Tones]:
    """Read a picture's grey values (H, W), 8 or 16 bit, and the tones that show them as they are."""
    kind = next((kind for magic, kind in _KINDS.items() if data.startswith(magic)), "")
    if not kind:
        raise PixelError("the file is no image: neither DICOM nor PNG, JPEG, PGM or TIFF")
    try:
        with quietly(), Image.open(BytesIO(data), formats=[kind]) as image:
            check_size(image.height, image.width)
            stored = _values(image)
            inverted = stored.itemsize == 2 and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    except PixelError:
        raise
    except Image.DecompressionBombError:
        raise PixelError(f"the image has more than {MAX_PIXELS} pixels") from None
    except Exception:  # Pillow lets any error of its decoders through: OSError, ValueError, SyntaxError, struct.error …
        raise PixelError(f"the {kind} data is damaged or cut off") from None
    highest = int(np.iinfo(stored.dtype).max)
    as_it_is = Window(center=highest / 2, width=highest, function="LINEAR_EXACT")
    return stored, Tones(bits=8 * stored.itemsize, default=as_it_is, inverted=inverted)


def _values(image: Image.Image) -> Stored:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise PixelError(f"the file has {frames} images; one is expected")
    shown = image.convert(_CONVERTED[image.mode]) if image.mode in _CONVERTED else image
    values = np.asarray(shown)
    if shown.mode in ("RGB", "RGBA"):
        return one_channel(values)
    if shown.mode == "I" and image.format == "PPM":  # more than 8 bits, which Pillow scales to 0 … 65535
        return values.astype(np.uint16)
    if shown.mode == "L" or shown.mode.startswith("I;16"):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    raise PixelError(f"the {image.format} data is of kind {image.mode}; grey of 8 or 16 bits is expected")
