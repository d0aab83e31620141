"""What a mammogram's row of cases.csv says, as the sentence by which a diffusion model learns it."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

DENSITIES = {"A": "very low", "B": "low", "C": "high", "D": "very high"}
SIZES = ("small", "medium", "big")


def describe(rows: Sequence[Mapping[str, str]], areas: Sequence[float | None]) -> list[str]:
    """Give each image's prompt, in MAM-E's words; what is not known is left out.

    "a siemens mammogram in MLO view with high density and small area": the first word of the manufacturer's name, the
    view, the density (A to D), and in which third of these images the breast's area lies, where all areas are known.
    """
    known = [area for area in areas if area is not None]
    limits = np.quantile(known, (1 / 3, 2 / 3)) if known and len(known) == len(areas) else None
    sizes = [None if limits is None or area is None else SIZES[int((area > limits).sum())] for area in areas]
    return [_sentence(row, size) for row, size in zip(rows, sizes, strict=True)]


def _sentence(row: Mapping[str, str], size: str | None) -> str:
    maker = re.search(r"[a-z]+", row.get("manufacturer", "").lower())
    view, density = row.get("view", ""), DENSITIES.get(row.get("density", ""))
    facts = [f"{density} density"] * bool(density) + [f"{size} area"] * bool(size)
    words = ["a", maker[0] if maker else "", "mammogram", f"in {view} view" if view else ""]
    return " ".join(word for word in (*words, f"with {' and '.join(facts)}" if facts else "") if word)


def breast_areas(rows: Sequence[Mapping[str, str]], pixels: Sequence[int | None]) -> list[float | None]:
    """Give the area of each breast of so many stored `pixels`, in mm² where all have a spacing, else in native pixels.

    It is None where there is no segment of the breast.
    """
    spacings = [_number(row.get("pixel_spacing_mm")) for row in rows]
    metric = all(spacings)
    found = []
    for row, count, spacing in zip(rows, pixels, spacings, strict=True):
        shrunk = abs(_number(row.get("scale_x")) * _number(row.get("scale_y"))) or 1.0
        found.append(None if not count else count / shrunk * (spacing**2 if metric else 1.0))
    return found


def _number(text: str | None) -> float:
    """Read a cell; 0 where it is empty or no number."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
