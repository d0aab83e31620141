"""The header of a DICOM file, read from its path or its bytes without trusting it."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoprep.pixels.stored import MOST_BYTES, PixelError, quietly

_DEFLATED = DeflatedExplicitVRLittleEndian.encode("ascii")
_HEAD = 1024
"""Bytes within which the transfer syntax stands."""


def read_header(path: Path, *, pixels: bool = False, tags: tuple[str, ...] = (), force: bool = True) -> Dataset:
    """Read a DICOM file's header, or all of it; `tags` reads these elements alone, `force` a file without preamble too.

    Raises PixelError for what cannot be read, and for a deflated file that grows beyond what one image can have.
    """
    with quietly():
        try:
            with path.open("rb") as file:
                deflated = is_deflated(file.read(_HEAD))
            if deflated:
                check_inflated(data := path.read_bytes())
            source = BytesIO(data) if deflated else path
            return dcmread(source, force=force, stop_before_pixels=not pixels, specific_tags=list(tags) or None)
        except PixelError:
            raise
        except OSError as error:
            raise PixelError(f"the file cannot be read ({error.strerror})") from None
        except Exception:  # pydicom lets through whatever a broken file makes it trip over, with the value in the text
            otherwise = "" if force else ", or the file is not DICOM"
            raise PixelError(f"the DICOM header is damaged or cut off{otherwise}") from None


def is_deflated(data: bytes) -> bool:
    """Tell from a file's first kilobyte whether all that follows the file meta information is deflated (PS3.5 A.5)."""
    return data[128:132] == b"DICM" and _DEFLATED in data[:_HEAD]


def check_inflated(data: bytes) -> None:
    """Refuse a deflated file that grows beyond what one image can have, before it has grown."""
    at = 132
    while data[at : at + 2] == b"\x02\0":  # the file meta information, explicit little endian (PS3.10 7.1)
        is_long = data[at + 4 : at + 6] in (b"OB", b"UN")
        at += (
            12 + struct.unpack_from("<I", data, at + 8)[0] if is_long else 8 + struct.unpack_from("<H", data, at + 6)[0]
        )
    inflate, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[at:], 0
    while rest and size <= MOST_BYTES:
        size += len(inflate.decompress(rest, 2**20))
        rest = inflate.unconsumed_tail
    if size > MOST_BYTES:
        raise PixelError(f"the deflated file grows to more than {MOST_BYTES} bytes")
