"""How a box becomes a mask: the recipes by name, and what each scores on real outlines."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError, UnknownNameError

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""
Window = tuple[int, int, int, int]
"""Pixels (x0, y0, x1, y1) of an image, half-open."""
Threshold = Literal["otsu", "multi-otsu"]
Method = Literal["otsu", "multi-otsu", "ellipse", "learned", "sam"]
Hull = Literal["concave", "alpha", "convex", "none"]
Unit = Literal["pixel", "box"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How blur, threshold and hull make a mask of a box; the defaults are the paper's.

    `sigma` is that of the blur, 0 for none. `threshold` is the method tried first. `hull_ratio` in [0, 1] is
    shapely's, from the tightest concave hull to the convex one; the paper gives none, and 0.2 is as near as any to what
    `alphashape` makes. Components under `min_area` are left out unless there is no larger one; the default is a disc of
    the blur's sigma: nothing smaller survives the blur. Both are in native pixels, or, where `unit` is "box", in
    hundredths of the box's mean side √(w·h) and their squares. `centre` darkens the box before the threshold, by r²
    times so many standard deviations of its grey; r is 1 on the inscribed ellipse.
    """

    sigma: float = 7.0
    threshold: Threshold = "otsu"
    hull: Hull = "concave"
    hull_ratio: float = 0.2
    min_area: int = 150
    unit: Unit = "pixel"
    centre: float = 0.0

    def __post_init__(self) -> None:
        """Refuse unknown names and numbers out of range."""
        named = (("threshold", self.threshold, Threshold), ("hull", self.hull, Hull), ("unit", self.unit, Unit))
        for kind, name, known in named:
            if name not in get_args(known):
                raise UnknownNameError(name, kind=kind, known=get_args(known))
        numbers = (("sigma", self.sigma, 1000), ("hull-ratio", self.hull_ratio, 1), ("centre", self.centre, 1000))
        for option, value, most in numbers:
            if not 0 <= value <= most:
                raise MammoprepError(f"--{option} is {value}. Give a number from 0 to {most}.")
        if self.min_area < 0:
            raise MammoprepError(f"--min-area is {self.min_area}. Give a number of pixels, 0 or more.")

    def unit_in_pixels(self, height: int, width: int) -> float:
        """Give the length of a unit in a box of `height` x `width` pixels."""
        return sqrt(height * width) / 100 if self.unit == "box" else 1.0


@dataclass(frozen=True, slots=True)
class Learned:
    """A mask drawn by the network in the package; `network` names its training, for the manifest."""

    network: str = "cdd-cesm-2"

    def __post_init__(self) -> None:
        """Refuse a network that the package does not hold."""
        if self.network != "cdd-cesm-2":
            raise UnknownNameError(self.network, kind="network", known=("cdd-cesm-2",))


@dataclass(frozen=True, slots=True)
class Prompted:
    """A mask that a network outlines which is shown the box: Segment Anything. It is not of this package.

    `maker` names what makes it, `module:function`, which is imported where the work is done and called with `place`,
    the folder or file of its weights, `device` and `libraries`; it gives a function from an image (H, W) of 16 bits and
    a window to the window's mask (h, w). `weights` has a line of `sha256sum` a file; these, the `libraries` that run
    the network and `device` decide the bytes. `memory` is what a process needs for it, in bytes.
    """

    weights: tuple[str, ...]
    libraries: str
    device: str
    maker: str
    place: str
    memory: int

    def to_json(self) -> dict[str, Any]:
        """Give what decides the bytes, and not where it lies."""
        return {
            "network": "sam",
            "weights": list(self.weights),
            "libraries": self.libraries,
            "device": self.device,
        }


AnyRecipe = Recipe | Learned | Prompted
PAPER = Recipe()
ADAPTIVE = Recipe(sigma=1.0, hull="convex", min_area=10, unit="box", centre=3.0)
LEARNED = Learned()
DICE: Mapping[AnyRecipe, float] = {PAPER: 0.685, ADAPTIVE: 0.753, LEARNED: 0.813}
"""Mean Dice with 380 free-hand outlines of 42 CDD-CESM patients, exact boxes; the network's with patients it never saw.

The images are of 512 pixels, and sigma and area of the paper's recipe were scaled with them:
`examples/benchmarks/pseudo_masks.py`.
"""
