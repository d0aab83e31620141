"""The lesions of a label map: one for each connected part of each value, at the image's size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import pixels
from mammoprep.pixels import PixelError, mask_file
from mammoprep.records import Finding, LabelMap, Skipped

MOST_UNKNOWN = 16
"""Values without a class that a label map may have, each of which is listed; what has more is an image."""
_Crop = tuple[int, int, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Part:
    """A lesion: its mask is empty but for `crop` (h, w), whose corner lies at (x, y).

    The finding has its class, None where the label scheme has none. `facts` say how the file fits the image
    (`mask_file.read`).
    """

    finding: Finding
    x: int
    y: int
    crop: NDArray[np.bool_]
    facts: Mapping[str, Any]


def read(
    finding: Finding, shape: LabelMap, *, root: Path, size: tuple[int, int] | None = None
) -> Iterator[Part | Skipped]:
    """Yield the lesions of a finding that is a label map, by value, and a Skipped for each value without a class.

    They are brought to `size` (H, W) where it is given. A file that cannot be used is a Skipped too. A map that yields
    nothing has no lesion.
    """
    try:
        values = pixels.read_labels(pixels.locate(root, shape.source), in_colour=shape.in_colour)
        facts = {"source": shape.shown or shape.source, **mask_file.fit(values.shape, size or values.shape)}
        present = [int(value) for value in np.unique(values[values != 0])]
        if (unknown := sum(value not in shape.classes for value in present)) > MOST_UNKNOWN:
            raise PixelError(f"{unknown} of its values have no class; an image, or with blurred edges")
    except PixelError as error:
        yield Skipped(finding.source, "finding", f"label map: {error}")
        return
    for value in present:
        label = shape.classes.get(value, "")
        name = f"{value:06x}" if shape.in_colour else str(value)
        if value not in shape.classes:
            yield Skipped(f"{finding.source} value {name}", "finding", f"the label map's value {name} has no class")
        elif label != "":
            found = replace(finding, label=label, source=f"{finding.source} value {name}")
            for x, y, crop in _parts(values == value, size or values.shape):
                yield Part(found, x, y, crop, facts)


def _parts(mask: NDArray[np.bool_], size: tuple[int, ...]) -> Iterator[_Crop]:
    """Yield the connected parts of a mask from top to bottom, each brought to a size (H, W)."""
    x, y, region = _cut(mask)
    count, numbers, statistics, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
    boxes = statistics[:, :4].tolist()
    for number in sorted(range(1, count), key=lambda number: boxes[number][1::-1]):
        left, top, width, height = boxes[number]
        crop = numbers[top : top + height, left : left + width] == number
        if mask.shape == size:
            yield x + left, y + top, crop
        else:
            alone = np.zeros_like(mask)
            alone[y + top : y + top + height, x + left : x + left + width] = crop
            yield _cut(mask_file.resize(alone, size))


def _cut(mask: NDArray[np.bool_]) -> _Crop:
    """Cut a mask that is not empty to what it covers."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return x, y, np.ascontiguousarray(mask[y : y + height, x : x + width])
