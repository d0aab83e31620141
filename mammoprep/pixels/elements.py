"""Elements of a DICOM data set, read from the bytes that are stored.

pydicom's own conversions refuse or warn about values that real files hold (identifiers that are no UIDs, lists written
as text), and what they say quotes the header.
"""

import math
import struct

from pydicom import Dataset, Sequence
from pydicom.dataelem import RawDataElement

from mammoprep.pixels.stored import PixelError


def element_of(dataset: Dataset, keyword: str) -> RawDataElement | None:
    """Give an element as it is stored, None where there is none."""
    element = dataset.get_item(keyword)
    return element if isinstance(element, RawDataElement) else None


def items_of(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Give the items of a sequence."""
    value = dataset[keyword].value if keyword in dataset else None
    return tuple(value) if isinstance(value, Sequence) else ()


def words_of(dataset: Dataset, keyword: str) -> tuple[int, ...]:
    """Give an element's 16-bit numbers, unsigned."""
    element = element_of(dataset, keyword)
    if element is None or element.value is None:
        return ()
    order, count = "<" if element.is_little_endian else ">", len(element.value) // 2
    return struct.unpack(f"{order}{count}H", element.value[: 2 * count])


def number_of(dataset: Dataset, keyword: str, *, default: int | None = None) -> int:
    """Give an element's first 16-bit number; one that has no default must be there."""
    words = words_of(dataset, keyword)
    if words:
        return words[0]
    if default is None:
        raise PixelError(f"the header has no {keyword}")
    return default


def texts_of(dataset: Dataset, keyword: str) -> list[str]:
    """Give an element's texts; a list that a script stored as one text, "['A', 'B']", is taken apart."""
    element = element_of(dataset, keyword)
    text = (element.value or b"").decode("utf-8", "replace").strip(" \0") if element else ""
    if text.startswith("["):
        text = text.strip("[]").replace("'", "").replace(",", "\\")
    return [part.strip() for part in text.split("\\")] if text else []


def text_of(dataset: Dataset, keyword: str) -> str:
    """Give an element's first text, "" where there is none."""
    return next(iter(texts_of(dataset, keyword)), "")


def decimals_of(dataset: Dataset, keyword: str) -> list[float]:
    """Give an element's decimal numbers, NaN for what is none."""
    return [_decimal(text) for text in texts_of(dataset, keyword)]


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
