"""Pixel data of a DICOM file as stored values."""

import math
import struct
from itertools import pairwise
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder

from mammoprep.pixels.dicom import Frame
from mammoprep.pixels.stored import PixelError, Stored, check_scans, one_channel, quietly

_NATIVE = (
    "",
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
_JPEG = ("JPEG", "jpeg8_decode", "")  # not jpeg_decode, which also asks a decoder that damaged data can crash
_JPEG_LS = ("JPEG-LS", "jpegls_decode", "pyjpegls")
_JPEG_2000 = ("JPEG 2000", "jpeg2k_decode", "pylibjpeg")
CODECS = {
    uid.RLELossless: ("RLE", "", ""),
    uid.JPEGBaseline8Bit: _JPEG,
    uid.JPEGExtended12Bit: _JPEG,
    uid.JPEGLossless: _JPEG,
    uid.JPEGLosslessSV1: _JPEG,
    uid.JPEGLSLossless: _JPEG_LS,
    uid.JPEGLSNearLossless: _JPEG_LS,
    uid.JPEG2000Lossless: _JPEG_2000,
    uid.JPEG2000: _JPEG_2000,
    # OpenJPH is twice as fast as OpenJPEG, but where the data is damaged it gives noise and no error.
    uid.HTJ2KLossless: _JPEG_2000,
    uid.HTJ2KLosslessRPCL: _JPEG_2000,
    uid.HTJ2K: _JPEG_2000,
}
"""Transfer syntax -> what its data is, imagecodecs' decoder, and pydicom's plug-in in case that one fails. The other
plug-ins (gdcm, pylibjpeg's RLE) print to the terminal or give half an image for damaged data: they are not asked."""
_FRAMES = {marker: "JPEG" for marker in range(0xFFC0, 0xFFD0) if marker not in (0xFFC4, 0xFFC8, 0xFFCC)}
_FRAMES[0xFFF7] = "JPEG-LS"
"""Markers that rows and columns follow (ISO 10918-1 table B.1, ISO 14495-1 C.1.1)."""
_SIZ = b"\xff\x4f\xff\x51"  # the start of JPEG 2000, with the marker that its size follows (ISO 15444-1 A.5.1)
_END = b"\xff\xd9"  # of each codestream but RLE's; no compressed data contains it


def decode(frame: Frame) -> Stored:
    """Decode pixel data to stored values (H, W). Raises PixelError where header and data do not agree."""
    if frame.syntax in CODECS:
        values = _decompress(frame)
    elif frame.syntax in _NATIVE:
        values = _unpack(_native(frame), frame, order="<" if frame.little_endian else ">", planar=frame.planar)
    else:
        name = frame.syntax.name  # itself where it is not known, and then it may be anything
        raise PixelError(f"the transfer syntax {'in the header' if name == frame.syntax else name} is not supported")
    _check_shape(values.shape, frame)
    return values if frame.samples == 1 else one_channel(values)


def _check_shape(shape: tuple[int, ...], frame: Frame) -> None:
    if shape != frame.shape:
        said, found = (" × ".join(map(str, each)) for each in (frame.shape, shape))
        raise PixelError(f"the header says {said} pixels, the pixel data has {found}")


def _native(frame: Frame) -> bytes:
    if frame.encapsulated:
        raise PixelError("the transfer syntax says uncompressed, but the pixel data is compressed")
    if frame.words and frame.bits_allocated == 8 and not frame.little_endian:
        # Two 8-bit cells are one word, and words are swapped (PS3.5 8.1.1).
        return np.frombuffer(frame.data, dtype=">u2").astype("<u2").tobytes()
    return frame.data


def _unpack(data: bytes, frame: Frame, *, order: str, planar: bool) -> Stored:
    """Give the cells of uncompressed pixel data."""
    kind = np.dtype(f"{order}u{frame.bits_allocated // 8}")
    count = math.prod(frame.shape)
    needed = count * kind.itemsize
    if len(data) < needed:
        raise PixelError(f"pixel data has {len(data)} of {needed} bytes")
    # Fill at the end is harmless; a row or a column more means that Rows or Columns is wrong.
    if len(data) - needed >= max(2, min(frame.rows, frame.columns)):
        raise PixelError(f"pixel data has {len(data)} bytes where {frame.rows} rows of {frame.columns} take {needed}")
    values = np.frombuffer(data, dtype=kind, count=count).astype(kind.newbyteorder("="), copy=False)
    if planar and frame.samples > 1:
        return np.moveaxis(values.reshape(frame.samples, frame.rows, frame.columns), 0, -1)
    return values.reshape(frame.shape)


def _decompress(frame: Frame) -> Stored:
    family, decoder, plugin = CODECS[frame.syntax]
    if not frame.encapsulated:
        raise PixelError(f"the transfer syntax says {family}, but the pixel data is uncompressed")
    codestream = codestream_of(frame.data)
    if family == "RLE":
        return _unpack(_unpack_bits(codestream, frame), frame, order="<", planar=True)
    _check(codestream, frame)
    try:
        values = getattr(imagecodecs, decoder)(codestream)
    except Exception:  # each of imagecodecs' codecs has errors of its own
        values = decode_by_plugin(codestream, frame, plugin or "none")
    if values.dtype.kind == "i":
        values = values.astype(np.int16).view(np.uint16)
    if values.dtype not in (np.uint8, np.uint16):
        raise PixelError(f"the {family} data has more than 16 bits")
    stored: Stored = values
    return stored


def codestream_of(data: bytes) -> bytes:
    """Join the fragments of the only frame (PS3.5 A.4)."""
    try:
        with quietly():
            frames = list(generate_frames(data, number_of_frames=1))
    except Exception:  # pydicom raises ValueError, struct.error, EOFError … for broken items
        raise PixelError("the compressed pixel data is damaged or cut off") from None
    if len(frames) != 1:
        raise PixelError("the file has more than one frame")
    return frames[0]


def _unpack_bits(codestream: bytes, frame: Frame) -> bytes:
    """Undo run-length coding (PS3.5 annex G) after a look at the segments' offsets: wrong ones crash the decoder."""
    try:
        count, *offsets = struct.unpack_from("<16I", codestream)
        bounds = [*offsets[: frame.samples * frame.bits_allocated // 8], len(codestream)]
        if count != len(bounds) - 1 or bounds[0] != 64 or any(a >= b for a, b in pairwise(bounds)):
            raise ValueError("offsets")
        return bytes(imagecodecs.dicomrle_decode(codestream, f"<u{frame.bits_allocated // 8}"))
    except Exception:  # struct.error, and ImcdError, which is imagecodecs' own
        raise PixelError("the RLE data is damaged or cut off") from None


def _check(codestream: bytes, frame: Frame) -> None:
    """Refuse a codestream that is of another family, of another size or cut off, before memory is taken.

    The decoders of JPEG and HTJ2K fill what is missing at the end with grey, and say nothing.
    """
    family, _, _ = CODECS[frame.syntax]
    found, shape = _identify(codestream)
    if found != family:
        raise PixelError(f"the transfer syntax says {family}, but the pixel data is {found}")
    _check_shape(shape, frame)
    check_scans(codestream)
    if _END not in codestream[-64:]:
        raise PixelError(f"the {family} data is cut off")


def _identify(codestream: bytes) -> tuple[str, tuple[int, ...]]:
    """Give a codestream's family and shape."""
    try:
        size = codestream.find(_SIZ, 0, 1024)  # at the start, or after the boxes of a JP2 file
        if size >= 0:
            right, bottom, left, top, channels = struct.unpack_from(">4I16xH", codestream, size + 8)
            return "JPEG 2000", (bottom - top, right - left, channels)[: 2 if channels == 1 else 3]
        at = 2
        while codestream[:2] == b"\xff\xd8" and codestream[at] == 0xFF:
            marker, length = struct.unpack_from(">HH", codestream, at)
            if marker in _FRAMES:
                rows, columns, channels = struct.unpack_from(">HHB", codestream, at + 5)
                return _FRAMES[marker], (rows, columns, channels)[: 2 if channels == 1 else 3]
            at += 1 if marker == 0xFFFF else length + 2
    except (struct.error, IndexError):
        return "damaged", ()
    return "something else", ()


def decode_by_plugin(codestream: bytes, frame: Frame, plugin: str) -> NDArray[Any]:
    """Decode a codestream with one of pydicom's plug-ins. Raises PixelError where that fails."""
    family = CODECS[frame.syntax][0]
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "number_of_frames": 1,
        "rows": frame.rows,
        "columns": frame.columns,
        "samples_per_pixel": frame.samples,
        "planar_configuration": 0,
        "photometric_interpretation": frame.photometric,
        "bits_allocated": frame.bits_allocated,
        "bits_stored": frame.bits_stored,
        "pixel_representation": int(frame.signed),
        "decoding_plugin": plugin,
    }
    try:
        with quietly():
            values, _ = get_decoder(frame.syntax).as_array(encapsulate([codestream]), raw=True, **options)
    except Exception:  # whatever the plug-in raises
        raise PixelError(f"the {family} data is damaged") from None
    return values
