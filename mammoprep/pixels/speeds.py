"""How fast and how exact the decoders of this machine are, on a built-in image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from time import perf_counter
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import UID

from mammoprep.pixels import pixel_data
from mammoprep.pixels.dicom import Frame
from mammoprep.pixels.stored import PixelError

SIDE = 1024
"""Rows and columns of the built-in image, which has 12 bits: a smooth breast with a detector's noise."""
ROUNDS = 3
_PACKAGES = {
    ("pylibjpeg", "RLE"): "pylibjpeg-rle",
    ("pylibjpeg", "JPEG 2000"): "pylibjpeg-openjpeg",
    ("pylibjpeg", "JPEG"): "pylibjpeg-libjpeg",
    ("pylibjpeg", "JPEG-LS"): "pylibjpeg-libjpeg",
    ("gdcm", ""): "python-gdcm",
}
"""The package behind a plug-in of pydicom for a family of codecs, where it has another name."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder that is present: milliseconds a million pixels (None: it fails), and whether each pixel is right.

    `used` is what convert and predict decode with; the others are there to compare, and to help where it fails.
    """

    syntax: str
    name: str
    version: str
    milliseconds: float | None
    exact: bool
    used: bool


def measure() -> Iterator[Decoder]:
    """Time each decoder of each lossless family; it takes a few seconds."""
    image = _image()
    for title, (syntax, encode) in _ENCODERS.items():
        frame = _frame(syntax, encode(image))
        family, codec, _ = pixel_data.CODECS[syntax]
        name = codec.removesuffix("_decode") or "dicomrle"
        yield Decoder(title, f"imagecodecs {name}", _codec_version(name), *_time(frame, image), used=True)
        for plugin in sorted(get_decoder(syntax).available_plugins):
            package = _PACKAGES.get((plugin, family)) or _PACKAGES.get((plugin, ""), plugin)
            yield Decoder(title, package, version(package), *_time(frame, image, plugin=plugin), used=False)


def _image() -> NDArray[np.uint16]:
    """Draw the built-in image (SIDE, SIDE)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    breast = (rows - 0.5) ** 2 / 0.2 + columns**2 / 0.5 < 1
    grey = 1400 + 900 * np.cos(5 * rows) * np.sin(4 * columns) + np.random.default_rng(0).normal(0, 12, rows.shape)
    return np.where(breast, grey.clip(0, 4095), 0).astype(np.uint16)


def _jpeg_lossless(image: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg_encode(image, lossless=True, bitspersample=12, predictor=1))


def _rle(image: NDArray[np.uint16]) -> bytes:
    return RLELosslessEncoder.encode(
        image,
        encoding_plugin="pydicom",
        rows=SIDE,
        columns=SIDE,
        bits_allocated=16,
        bits_stored=12,
        samples_per_pixel=1,
        pixel_representation=0,
        number_of_frames=1,
        photometric_interpretation="MONOCHROME2",
    )


def _jpeg_2000(image: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(image, codecformat="j2k", level=0, reversible=True, bitspersample=12))


def _htj2k(image: NDArray[np.uint16]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(image, reversible=True))


_ENCODERS: dict[str, tuple[UID, Callable[[NDArray[np.uint16]], bytes]]] = {
    "RLE": (uid.RLELossless, _rle),
    "JPEG lossless": (uid.JPEGLosslessSV1, _jpeg_lossless),
    "JPEG-LS": (uid.JPEGLSLossless, lambda image: bytes(imagecodecs.jpegls_encode(image))),
    "JPEG 2000": (uid.JPEG2000Lossless, _jpeg_2000),
    "HTJ2K": (uid.HTJ2KLossless, _htj2k),
}


def _frame(syntax: UID, codestream: bytes) -> Frame:
    return Frame(
        rows=SIDE,
        columns=SIDE,
        samples=1,
        planar=False,
        photometric="MONOCHROME2",
        bits_allocated=16,
        bits_stored=12,
        signed=False,
        syntax=syntax,
        data=encapsulate([codestream]),
        encapsulated=True,
        little_endian=True,
        words=False,
    )


def _time(frame: Frame, image: NDArray[np.uint16], *, plugin: str = "") -> tuple[float | None, bool]:
    """Give the milliseconds a million pixels, None where decoding fails, and whether the image came back."""
    times, exact = [], True
    for _ in range(ROUNDS):
        start = perf_counter()
        try:
            values = _by_plugin(frame, plugin) if plugin else pixel_data.decode(frame)
        except PixelError:
            return None, False
        times.append(perf_counter() - start)
        exact = exact and np.array_equal(values, image)
    return round(median(times) * 1e9 / SIDE**2, 2), exact


def _by_plugin(frame: Frame, plugin: str) -> NDArray[Any]:
    return pixel_data.decode_by_plugin(pixel_data.codestream_of(frame.data), frame, plugin)


def _codec_version(name: str) -> str:
    """Give the version of the library that imagecodecs has built in, or imagecodecs' own."""
    said = getattr(imagecodecs, f"{name}_version", None)
    return str(said()).split(" ", 1)[-1] if said else f"imagecodecs {imagecodecs.__version__}"
