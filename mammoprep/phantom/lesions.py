"""The phantom's lesions, known to the pixel: round, irregular and spiculated masses, calcifications, lymph nodes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep.phantom.breast import Breast, Floats


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of lesion: its names in the tables and its looks.

    `diameter` is a range in millimetres, `contrast` the brightness above the surroundings, `lobes` the height of the
    outline's waves and `blur` the sigma of its margin, both as shares of the radius.
    """

    categories: tuple[str, ...]
    birads: int | None
    diameter: tuple[float, float]
    contrast: float
    lobes: float
    blur: float
    spicules: int = 0
    calcifications: int = 0


ROUND = Kind(("Mass",), 3, (16, 26), 0.28, 0.10, 0.12)
IRREGULAR = Kind(("Mass",), 4, (24, 38), 0.40, 0.36, 0.14)
CLUSTER = Kind(("Suspicious Calcification",), 4, (24, 36), 0.12, 0.30, 0.25, calcifications=40)
SPICULATED = Kind(("Mass",), 5, (30, 46), 0.48, 0.12, 0.07, spicules=22)
CALCIFIED = Kind(("Suspicious Calcification", "Mass"), 5, (30, 46), 0.44, 0.12, 0.07, spicules=22, calcifications=16)
NODE = Kind(("Suspicious Lymph Node",), None, (12, 18), 0.25, 0.10, 0.14)

BY_BIRADS = {3: (ROUND,), 4: (IRREGULAR, IRREGULAR, CLUSTER), 5: (SPICULATED, SPICULATED, CALCIFIED)}
"""What a breast of this BI-RADS category shows, each as often as it stands here."""


def add(
    breast: Breast, kinds: tuple[Kind, ...], *, pixel_mm: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Give the brightness (H, W) with lesions and their true map (H, W): 0, or the lesion's place in `kinds` from 1."""
    brightness, truth = breast.brightness.copy(), np.zeros(breast.skin.shape, np.uint8)
    placed: list[tuple[int, int, float]] = []
    for number, kind in enumerate(kinds, start=1):
        radius = rng.uniform(*kind.diameter) / 2 / pixel_mm
        row, column = _place(breast, kind, radius=radius, placed=placed, rng=rng)
        placed.append((row, column, radius))
        light, mask = _lesion(kind, radius=radius, pixel_mm=pixel_mm, rng=rng)
        image_part, patch_part = _overlap(breast.skin.shape, mask.shape, (row, column))
        inside = breast.skin[image_part] < 1
        brightness[image_part] += light[patch_part] * inside
        truth[image_part][mask[patch_part] & inside] = number
    return brightness, truth


def _place(
    breast: Breast, kind: Kind, *, radius: float, placed: list[tuple[int, int, float]], rng: np.random.Generator
) -> tuple[int, int]:
    """Choose a centre (row, column) in the gland, or in the muscle for a node, away from the lesions already there."""
    free = breast.muscle > 0.9 if kind is NODE else (breast.skin < 0.72) & (breast.muscle < 0.1)
    for row, column, other in placed:
        reach = int(1.2 * (radius + other)) + 2
        free[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach] = False
    rows, columns = np.nonzero(free)
    chosen = rng.integers(rows.size)
    return int(rows[chosen]), int(columns[chosen])


def _lesion(
    kind: Kind, *, radius: float, pixel_mm: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw one lesion in a square patch: its light (N, N) and its mask (N, N)."""
    half = int(np.ceil(1.7 * radius)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) / radius
    mask = _outline(kind, angle=np.arctan2(y, x), distance=np.hypot(x, y), rng=rng)
    dots = np.zeros(mask.shape, np.float32)
    if kind.calcifications:
        rows, columns = np.nonzero(mask)
        chosen = rng.choice(rows.size, size=min(kind.calcifications, rows.size), replace=False)
        dots[rows[chosen], columns[chosen]] = rng.uniform(0.5, 1.0, size=chosen.size)
        if not kind.spicules:
            mask = _hull(rows[chosen], columns[chosen], shape=mask.shape, border=1.0 / pixel_mm)
        sigma = 0.45 / pixel_mm
        # A single pixel of 1 blurs to a peak of 1 / (2 pi sigma^2).
        dots = cv2.GaussianBlur(dots, (0, 0), sigma) * np.float32(0.5 * max(2 * np.pi * sigma**2, 1.0))
    body = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), kind.blur * radius)
    fading = np.exp(-0.5 * np.hypot(x, y) ** 2)
    light: Floats = kind.contrast * body * (0.5 + 0.5 * fading) + dots
    return light, mask


def _outline(kind: Kind, *, angle: Floats, distance: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the shape over polar coordinates (distance in radii): a disc moved by slow waves and by curved spicules."""
    edge = np.ones_like(angle)
    for wave in range(2, 7):
        edge += kind.lobes * rng.uniform(0.3, 1) / wave**0.5 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    if kind.spicules:
        edge *= 0.55
        angle = angle + rng.uniform(-0.5, 0.5) * distance
    for spicule in range(kind.spicules):
        middle = 2 * np.pi * (spicule + rng.uniform(-0.4, 0.4)) / kind.spicules
        apart = np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi)
        edge += rng.uniform(0.1, 0.9) * np.clip(1 - apart / rng.uniform(0.06, 0.16), 0, 1)
    mask: NDArray[np.bool_] = distance < edge
    return mask


def _hull(
    rows: NDArray[np.intp], columns: NDArray[np.intp], *, shape: tuple[int, ...], border: float
) -> NDArray[np.bool_]:
    """Fill the convex hull of points, `border` pixels wider."""
    hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
    filled = cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 1)
    width = 2 * round(border) + 1
    return cv2.dilate(filled, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))) > 0


def _overlap(
    image: tuple[int, ...], patch: tuple[int, ...], centre: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Give where a patch around `centre` lies in the image, and which part of the patch that is."""
    starts = [middle - side // 2 for middle, side in zip(centre, patch, strict=True)]
    cuts = [(max(start, 0), min(start + side, limit)) for start, side, limit in zip(starts, patch, image, strict=True)]
    in_image = [slice(low, high) for low, high in cuts]
    in_patch = [slice(low - start, high - start) for (low, high), start in zip(cuts, starts, strict=True)]
    return (in_image[0], in_image[1]), (in_patch[0], in_patch[1])
