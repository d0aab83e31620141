"""DICOM SEG files: which frames are which segment over which image, and their masks (PS3.3 A.51 and C.8.20)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array

from mammoprep.pixels.elements import element_of, items_of, number_of, text_of
from mammoprep.pixels.header import read_header
from mammoprep.pixels.stored import PixelError, check_size, quietly

_UNDEFINED = 0xFFFFFFFF  # the length of encapsulated pixel data


@dataclass(frozen=True, slots=True)
class Segmented:
    """A segment over one image: its number and label, the image's SOP Instance UID, its frames from 0."""

    number: int
    label: str
    sop_uid: str
    frames: tuple[int, ...]


def read_segments(path: Path) -> tuple[Segmented, ...]:
    """Read from a SEG's header what its frames show. Raises PixelError for one that does not say it."""
    header = _read(path, pixels=False)
    labels = {number_of(item, "SegmentNumber"): text_of(item, "SegmentLabel") for item in _items(header, "Segment")}
    shared, frames = _items(header, "SharedFunctionalGroups")[:1], _items(header, "PerFrameFunctionalGroups")
    if not frames:
        raise PixelError("the DICOM SEG does not say what its frames show")
    places: dict[tuple[int, str], list[int]] = {}
    for place, frame in enumerate(frames):
        places.setdefault((_segment(frame, *shared), _image(frame, *shared, header)), []).append(place)
    return tuple(Segmented(number, labels.get(number, ""), uid, tuple(at)) for (number, uid), at in places.items())


def read_frames(path: Path, frames: Sequence[int]) -> NDArray[np.bool_]:
    """Read frames of a SEG and unite them (H, W); of a fractional one, where it reaches half of the largest value."""
    content = _read(path, pixels=True)
    check_size(number_of(content, "Rows"), number_of(content, "Columns"))
    try:
        with quietly():
            drawn = [_frame(content, place) for place in frames]
    except Exception:  # any error of pydicom's decoders, with the header in its text
        raise PixelError("the DICOM SEG's pixel data is damaged or cut off") from None
    united: NDArray[np.bool_] = np.logical_or.reduce(drawn)
    return united


def _frame(content: Dataset, place: int) -> NDArray[np.bool_]:
    element = element_of(content, "PixelData")
    if number_of(content, "BitsAllocated") != 1 or element is None or not element.value or element.length == _UNDEFINED:
        half = number_of(content, "MaximumFractionalValue", default=1) / 2
        values: NDArray[np.bool_] = np.asarray(pixel_array(content, index=place)) >= half
        return values
    # Frames of bits follow one another without a gap: one may begin inside a byte (PS3.5 8.1.1).
    rows, columns = number_of(content, "Rows"), number_of(content, "Columns")
    first, last = place * rows * columns, (place + 1) * rows * columns
    packed = np.frombuffer(element.value[first // 8 : (last + 7) // 8], dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: last - first]
    return bits.reshape(rows, columns).astype(np.bool_)


def _read(path: Path, *, pixels: bool) -> Dataset:
    content = read_header(path, pixels=pixels)
    kind = text_of(content, "SegmentationType").upper()
    if kind not in ("BINARY", "FRACTIONAL"):
        raise PixelError("the DICOM SEG is neither binary nor fractional")
    return content


def _items(dataset: Dataset, name: str) -> tuple[Dataset, ...]:
    try:
        return items_of(dataset, f"{name}Sequence")
    except Exception:  # pydicom parses a sequence when it is looked at
        raise PixelError("the DICOM header is damaged or cut off") from None


def _segment(*groups: Dataset) -> int:
    """Give the segment's number, which stands in the frame's group or in that which all frames share."""
    for group in groups:
        for item in _items(group, "SegmentIdentification"):
            return number_of(item, "ReferencedSegmentNumber")
    raise PixelError("a frame of the DICOM SEG does not say which segment it shows")


def _image(*groups: Dataset) -> str:
    """Give the image that a frame is derived from; at the end stands the header, which may name the only one."""
    for group in groups:
        for derivation in _items(group, "DerivationImage"):
            for source in _items(derivation, "SourceImage"):
                return text_of(source, "ReferencedSOPInstanceUID")
    header = groups[-1]
    listed = [item for series in _items(header, "ReferencedSeries") for item in _items(series, "ReferencedInstance")]
    only = {text_of(item, "ReferencedSOPInstanceUID") for item in (*listed, *_items(header, "SourceImage"))}
    return only.pop() if len(only) == 1 else ""
