"""Masks as COCO's run-length codes, byte for byte those of pycocotools."""

import warnings
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""
_MOST_BITS = 35
"""Bits that a run of any image may have, in digits of 5."""


class Rle(TypedDict):
    """COCO's compressed run-length code: `size` is [height, width], `counts` ASCII text."""

    size: list[int]
    counts: str


def encode_rle(mask: Mask) -> Rle:
    """Give COCO's compressed run-length code of a mask (H, W)."""
    height, width = mask.shape
    x, y, box_width, box_height = mask_box(mask)
    return encode_crop(mask[y : y + box_height, x : x + box_width], x=x, y=y, size=(height, width))


def encode_crop(crop: Mask, *, x: int, y: int, size: tuple[int, int]) -> Rle:
    """Give the run-length code of a mask of `size` (H, W) that is empty but for `crop`, whose corner lies at (x, y).

    The bytes are those of `pycocotools.mask.encode`, which looks at each of the H·W pixels; this looks at the crop.
    """
    height, width = size
    rows = crop.shape[0]
    # COCO runs down the columns. Where the crop has not the full height, a row of zeros ends each column's last run.
    pitch = rows if rows == height else rows + 1
    columns = np.zeros((crop.shape[1], pitch), dtype=np.int8)
    columns[:, :rows] = crop.T
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=0, append=0))
    column, row = np.divmod(changes, max(pitch, 1))
    edges = (x + column) * height + y + row
    counts = np.diff(edges[edges < height * width], prepend=0, append=height * width)
    code = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": code["counts"].decode("ascii")}


def decode_rle(code: Rle) -> Mask:
    """Give the mask (H, W) of a compressed run-length code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)  # pycocotools' own, under NumPy 2
        mask: Mask = coco_mask.decode({"size": code["size"], "counts": code["counts"].encode("ascii")}).astype(bool)
    return mask


def run_lengths(code: Rle) -> list[int]:
    """Give the lengths of a code's runs, down the columns, that of zeros first.

    pycocotools reads whatever it is given, beyond the end of its memory too. Raises ValueError for text that is no code
    and for runs that do not add up to the image.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in code["counts"]:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > _MOST_BITS:
            raise ValueError("its counts are no run-length code")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit & 16) and 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift or min(lengths, default=0) < 0 or sum(lengths) != code["size"][0] * code["size"][1]:
        raise ValueError("its runs do not add up to the image")
    return lengths


def mask_box(mask: Mask) -> tuple[int, int, int, int]:
    """Give a mask's bounding box [x, y, w, h] in pixels; all 0 where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return (0, 0, 0, 0)
    y, x = int(rows[0]), int(columns[0])
    return (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)
