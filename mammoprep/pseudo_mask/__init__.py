"""A radiologist's box turned into a mask, by one of four recipes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError
from mammoprep.pseudo_mask import learned, otsu
from mammoprep.pseudo_mask.hull import inscribed_ellipse
from mammoprep.pseudo_mask.recipe import (
    ADAPTIVE,
    DICE,
    LEARNED,
    PAPER,
    AnyRecipe,
    Learned,
    Mask,
    Method,
    Prompted,
    Recipe,
    Window,
)
from mammoprep.records import Box

__all__ = [
    "ADAPTIVE",
    "DICE",
    "LEARNED",
    "PAPER",
    "AnyRecipe",
    "Learned",
    "Prompted",
    "PseudoMask",
    "Recipe",
    "clip",
    "prepare",
    "segment",
]

LEAST_TISSUE = 0.25
"""Share of the box that must be breast; below it the tissue is a rim, and the threshold is taken from all pixels."""


@dataclass(frozen=True)
class PseudoMask:
    """A mask (H, W) of the whole image and how it came about.

    `threshold` is in pixel values, 0 … 65535 (at the box's centre where the recipe darkens the box outwards), None for
    the ellipse and the networks. `fallback` says that `method` is not the one that the recipe tries first.
    """

    mask: Mask
    method: Method
    threshold: float | None
    fallback: bool


def segment(
    pixels: NDArray[np.uint16], box: Box, *, tissue: Mask | None = None, recipe: AnyRecipe = ADAPTIVE
) -> PseudoMask:
    """Find the lesion in a box of an image (H, W): its bright side, enclosed by one hull, never empty, all in the box.

    Where `tissue` (H, W) is given, only the box's pixels inside it are separated; networks look at all. Raises
    MammoprepError where the box holds no pixel of the image (see `clip`).
    """
    height, width = pixels.shape
    window = clip(box, height=height, width=width)
    if window is None:
        raise MammoprepError(f"{box} holds no pixel of the {width} x {height} image. Correct it or leave it out.")
    x0, y0, x1, y1 = window
    mask = np.zeros(pixels.shape, dtype=np.bool_)
    if not isinstance(recipe, Recipe):
        mask[y0:y1, x0:x1], method = _draw(pixels, window, recipe=recipe)
        return PseudoMask(mask, method, None, fallback=method == "ellipse")
    within = np.ones((y1 - y0, x1 - x0), dtype=np.bool_)
    if tissue is not None and tissue[y0:y1, x0:x1].mean() >= LEAST_TISSUE:
        within = np.ascontiguousarray(tissue[y0:y1, x0:x1])
    mask[y0:y1, x0:x1], method, threshold = otsu.separate(pixels, window, within, recipe=recipe)
    return PseudoMask(mask, method, threshold, fallback=method != recipe.threshold)


def prepare(recipe: AnyRecipe) -> None:
    """Load what a recipe needs, once in a process; raises MammoprepError where that cannot be loaded."""
    if isinstance(recipe, Prompted):
        _outliner(recipe)


@cache
def _outliner(recipe: Prompted) -> Callable[[NDArray[np.uint16], Window], Mask]:
    module, _, name = recipe.maker.partition(":")
    try:
        make = getattr(import_module(module), name)
    except ImportError as error:
        raise MammoprepError(f'A worker lacks {error.name}. Type there: pip install "mammoprep[model]"') from error
    made: Callable[[NDArray[np.uint16], Window], Mask] = make(
        recipe.place, device=recipe.device, libraries=recipe.libraries
    )
    return made


def _draw(pixels: NDArray[np.uint16], window: Window, *, recipe: Learned | Prompted) -> tuple[Mask, Method]:
    """Draw with a network; where it draws nothing, give the inscribed ellipse."""
    method: Method
    if isinstance(recipe, Learned):
        drawn, method = learned.draw(pixels, window, weights=learned.load()), "learned"
    else:
        drawn, method = _largest(_outliner(recipe)(pixels, window)), "sam"
    if drawn.any():
        return drawn, method
    return inscribed_ellipse(*drawn.shape), "ellipse"


def _largest(mask: Mask) -> Mask:
    """Give the largest 8-connected component of a mask, the first of equals; holes stay."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count == 1:
        return mask
    largest: Mask = labels == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return largest


def clip(box: Box, *, height: int, width: int) -> Window | None:
    """Give the pixels (x0, y0, x1, y1), half-open, whose centre lies in the box and the image; None where none does."""
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        return None
    x0, x1 = (math.ceil(min(max(x, 0), width) - 0.5) for x in (box.x0, box.x1))
    y0, y1 = (math.ceil(min(max(y, 0), height) - 0.5) for y in (box.y0, box.y1))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
