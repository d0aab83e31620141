"""Lesions at native resolution: parts of the raw images, each with its place in the stored one."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic, pixels
from mammoprep.errors import MammoprepError
from mammoprep.gallery.material import Item, Material

MARGIN = 0.4
"""What is shown around a lesion on each side, as a share of its longer side."""
LEAST_MARGIN = 12
"""The same in stored pixels, at least."""
LARGEST = 1600
"""Longer side of a crop in pixels; a larger one is reduced to it, which the page says."""
Box = tuple[int, int, int, int]


def around(box: Sequence[int], *, width: int, height: int) -> Box:
    """Give the part [x, y, w, h] of a stored image that is shown of a lesion's box."""
    margin = max(round(MARGIN * max(box[2:])), LEAST_MARGIN)
    x, y = max(box[0] - margin, 0), max(box[1] - margin, 0)
    right, bottom = min(box[0] + box[2] + margin, width), min(box[1] + box[3] + margin, height)
    return (x, y, right - x, bottom - y)


def cut(item: Item, lesions: Mapping[int, Sequence[int]], *, material: Material, out: Path) -> dict[str, Any]:
    """Write a PNG of each lesion (segment id: box) from the raw image; {} without a raw folder.

    Gives {"crops": {segment id: {file, box, size, share}}}: `box` is its place in the stored image, `size` [w, h] in
    native pixels, `share` what it was reduced to. Where the raw image cannot be used, {"raw": why}.
    """
    if material.raw is None or not lesions:
        return {}
    try:
        scale_x, scale_y, crop_x, crop_y = (float(item.row[n]) for n in ("scale_x", "scale_y", "crop_x0", "crop_y0"))
        if not (isfinite(scale_x + scale_y + crop_x + crop_y) and scale_x and scale_y):
            raise ValueError("no scale")
        shown = item.row["source"]
        source = pixels.locate(material.raw, material.links.get(shown, shown))
        native = (int(item.row["native_height"]), int(item.row["native_width"]))
        grey = pixels.read(source, window=material.window).pixels
    except (KeyError, TypeError, ValueError):
        return {"raw": "cases.csv does not say where its pixels lie in the raw image"}
    except MammoprepError as error:
        return {"raw": str(error)}
    if grey.shape != native:
        return {"raw": "the raw image has another size than cases.csv says"}
    found = {}
    for number, box in lesions.items():
        stored = around(box, width=item.image.width, height=item.image.height)
        columns = sorted(round(x / scale_x + crop_x) for x in (stored[0], stored[0] + stored[2]))
        rows = [round(y / scale_y + crop_y) for y in (stored[1], stored[1] + stored[3])]
        part = grey[max(rows[0], 0) : max(rows[1], 0), max(columns[0], 0) : max(columns[1], 0)]
        if 0 in part.shape:
            return {"raw": "cases.csv places a lesion outside the raw image"}
        name = f"crops/{item.image.id}-{number}.png"
        share = _write(out / name, part[:, ::-1] if scale_x < 0 else part)
        found[number] = {"file": name, "box": stored, "size": part.shape[::-1], "share": share}
    return {"crops": found}


def _write(path: Path, part: NDArray[np.uint16]) -> float:
    """Write 8 bits of a part (h, w), reduced where it is large; give the share of its sides that is left."""
    share = min(1.0, LARGEST / max(part.shape))
    size = (max(round(part.shape[1] * share), 1), max(round(part.shape[0] * share), 1))
    eight = np.ascontiguousarray((part >> 8).astype(np.uint8))
    panoptic.write_png(path, cv2.resize(eight, size, interpolation=cv2.INTER_AREA) if share < 1 else eight)
    return float(share)
