"""A DICOM header: how the pixel data is packed, what its grey values mean, and the facts that go on."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from mammoprep.pixels.elements import decimals_of, element_of, items_of, number_of, text_of, texts_of, words_of
from mammoprep.pixels.facts import Facts, facts_of
from mammoprep.pixels.header import check_inflated, is_deflated, read_header
from mammoprep.pixels.stored import PixelError, check_size, quietly
from mammoprep.pixels.tones import Lut, Tones, Window

_PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # its tag in either byte order
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """The pixel data of one image and how it is packed.

    `samples` is 1, or 3 for colour, which comes plane by plane where it is `planar`; `words` says that bytes are
    stored in pairs (OW).
    """

    rows: int
    columns: int
    samples: int
    planar: bool
    photometric: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    syntax: UID
    data: bytes
    encapsulated: bool
    little_endian: bool
    words: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the shape of the decoded array."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)


@dataclass(frozen=True)
class Header:
    """What is read from a DICOM file."""

    frame: Frame
    tones: Tones
    facts: Facts


def recognise(data: bytes) -> bool:
    """Tell whether a file is DICOM, be it without preamble and file meta information."""
    headless = data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"
    return data[128:132] == b"DICM" or headless or data[:3] == b"\0\x08\0"


def parse(data: bytes) -> Header:
    """Parse a DICOM file; UIDs, dates and identifiers are not needed. Raises PixelError for what cannot be an image."""
    with quietly():
        try:
            if is_deflated(data):
                check_inflated(data)
            dataset = dcmread(BytesIO(data), force=True)
            frame = _frame(dataset, data)
            return Header(frame, _tones(dataset, frame), facts_of(dataset))
        except PixelError:
            raise
        except Exception:  # pydicom lets through whatever a broken file makes it trip over, with the value in the text
            raise PixelError("the DICOM header is damaged or cut off") from None


def read_facts(path: Path) -> Facts:
    """Read what a DICOM file's header says of the image, without its pixels. Raises PixelError for what is none."""
    dataset = read_header(path, force=False)
    with quietly():
        try:
            return facts_of(dataset)
        except Exception:  # as in parse
            raise PixelError("the DICOM header is damaged or cut off") from None


def _frame(dataset: Dataset, data: bytes) -> Frame:
    element = element_of(dataset, "PixelData")
    if element is None or element.value is None:
        raise PixelError(_why_no_pixels(dataset, data))
    rows, columns = number_of(dataset, "Rows"), number_of(dataset, "Columns")
    check_size(rows, columns)
    frames = texts_of(dataset, "NumberOfFrames") or ["1"]
    if frames[0] not in ("", "0", "1"):
        raise PixelError("the file has more than one frame")
    samples = number_of(dataset, "SamplesPerPixel", default=1)
    if samples not in (1, 3):
        raise PixelError(f"{samples} samples a pixel; 1 is expected")
    bits_allocated = number_of(dataset, "BitsAllocated")
    bits_stored = number_of(dataset, "BitsStored", default=bits_allocated)
    if bits_allocated not in (8, 16) or not 1 <= bits_stored <= bits_allocated:
        raise PixelError(
            f"{bits_stored} bits stored in {bits_allocated} allocated; 8 or 16 allocated bits are expected"
        )
    return Frame(
        rows=rows,
        columns=columns,
        samples=samples,
        planar=number_of(dataset, "PlanarConfiguration", default=0) == 1,
        photometric=text_of(dataset, "PhotometricInterpretation").upper(),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        signed=number_of(dataset, "PixelRepresentation", default=0) == 1,
        syntax=UID(str(dataset.file_meta.get("TransferSyntaxUID", ""))),
        data=element.value,
        encapsulated=element.length == _UNDEFINED,
        little_endian=element.is_little_endian,
        words=element.VR == "OW",
    )


def _why_no_pixels(dataset: Dataset, data: bytes) -> str:
    if "EncryptedAttributesSequence" in dataset:
        return "the pixel data is encrypted"
    if any(tag in data for tag in _PIXEL_DATA):
        return "the pixel data is cut off"
    return "the file has no pixel data"


def _tones(dataset: Dataset, frame: Frame) -> Tones:
    high_bit = number_of(dataset, "HighBit", default=frame.bits_stored - 1)
    if not frame.bits_stored <= high_bit + 1 <= frame.bits_allocated:
        raise PixelError(f"high bit {high_bit} of {frame.bits_stored} bits stored in {frame.bits_allocated} allocated")
    if frame.samples == 1 and frame.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise PixelError("the photometric interpretation is neither MONOCHROME1 nor MONOCHROME2")
    function = text_of(dataset, "VOILUTFunction").upper() or "LINEAR"
    return Tones(
        bits=frame.bits_stored,
        shift=high_bit + 1 - frame.bits_stored,
        signed=frame.signed,
        padding=_padding(dataset, signed=frame.signed),
        slope=next(iter(decimals_of(dataset, "RescaleSlope")), 1.0),
        intercept=next(iter(decimals_of(dataset, "RescaleIntercept")), 0.0),
        modality=next(iter(_luts(dataset, "ModalityLUTSequence")), None),
        luts=_luts(dataset, "VOILUTSequence"),
        windows=_windows(dataset, function),
        function=function,
        inverted=frame.photometric == "MONOCHROME1",
    )


def _padding(dataset: Dataset, *, signed: bool) -> tuple[int, int] | None:
    """Give the range of stored values that are padding; its ends may stand in either order (PS3.3 C.7.5.1.1.2)."""
    value, limit = words_of(dataset, "PixelPaddingValue")[:1], words_of(dataset, "PixelPaddingRangeLimit")[:1]
    ends = [end - 2**16 if signed and end >= 2**15 else end for end in value + limit]
    return (min(ends), max(ends)) if value else None


def _windows(dataset: Dataset, function: str) -> tuple[Window, ...]:
    centers, widths = decimals_of(dataset, "WindowCenter"), decimals_of(dataset, "WindowWidth")
    widths = widths * len(centers) if len(widths) == 1 else widths
    names = texts_of(dataset, "WindowCenterWidthExplanation") + [""] * len(centers)
    return tuple(
        Window(center, width, function, name) for center, width, name in zip(centers, widths, names, strict=False)
    )


def _luts(dataset: Dataset, keyword: str) -> tuple[Lut, ...]:
    return tuple(_lut(item) for item in items_of(dataset, keyword))


def _lut(item: Dataset) -> Lut:
    descriptor, entries = element_of(item, "LUTDescriptor"), element_of(item, "LUTData")
    words = words_of(item, "LUTDescriptor")
    if descriptor is None or len(words) != 3:
        raise PixelError("a look-up table has no descriptor of three numbers")
    first = words[1] - 2**16 if descriptor.VR == "SS" and words[1] >= 2**15 else words[1]
    data = entries.value if entries and entries.value else b""
    return Lut(words[0] or 2**16, first, words[2], data, descriptor.is_little_endian)
