"""The phantom's breast without lesions: outline, skin, fat, fibroglandular tissue and the pectoral muscle."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""An image (H, W); brightness runs from 0 (black) to 1 (white)."""
Position = Literal["CC", "MLO"]
Density = Literal["A", "B", "C", "D"]

_GLANDULAR = {"A": 0.4, "B": 0.75, "C": 1.15, "D": 1.55}
"""How far fibroglandular tissue reaches, relative to the middle of the gland."""
_OUTLINE = {
    "CC": ((0.56, 0.47, 0.40, 0.40), (0.72, 0.53, 0.46, 0.46)),
    "MLO": ((0.56, 0.55, 0.85, 0.34), (0.72, 0.61, 1.00, 0.38)),
}
"""Least and most of: depth to the nipple, the nipple's height, the half-ellipse's reach above and below it."""


@dataclass(frozen=True, slots=True)
class Breast:
    """A breast (H, W) with the chest wall on the left.

    `skin` is the relative way to the skin: 0 in the middle of the chest wall, 1 on the skin, more outside. `muscle` is
    the share of pectoral muscle in [0, 1].
    """

    brightness: Floats
    skin: Floats
    muscle: Floats


def draw(shape: tuple[int, int], *, position: Position, density: Density, rng: np.random.Generator) -> Breast:
    """Draw a breast of `shape` (H, W). All lengths are shares of H, so it looks alike at every size."""
    height, width = shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, width / height, width, dtype=np.float32)[None, :]
    # So smooth a noise loses nothing at a quarter of the size.
    quarter = _cloud((height // 4 + 1, width // 4 + 1), rng, slope=2.6)
    cloud: Floats = np.asarray(cv2.resize(quarter, (width, height)), np.float32)
    depth, middle, above, below = rng.uniform(*_OUTLINE[position]).tolist()
    skin = np.hypot(x / depth, (y - middle) / np.where(y < middle, np.float32(above), np.float32(below)))
    skin += 0.015 * cloud
    gland = np.hypot((x / depth - 0.56) / 0.55, (y - middle) / 0.30)
    tissue = _tissue(gland, (depth * 1.02 - x, y - middle), reach=_GLANDULAR[density], cloud=cloud, rng=rng)
    muscle = np.zeros(shape, np.float32)
    if position == "MLO":
        wide, high = rng.uniform((0.30, 0.58), (0.40, 0.72)).tolist()
        muscle = _smooth((1 - x / wide - y / high) / 0.12 + 0.5 + 0.1 * cloud)
        tissue += muscle * (0.36 + 0.5 * (tissue - tissue.mean()) - tissue)
    brightness = np.sqrt(np.clip((1 - skin) / 0.10, 0, 1)) * tissue  # thinner towards the skin
    brightness += 0.10 * np.exp(-(((skin - 0.985) / 0.007) ** 2))  # the skin line
    brightness += 0.008 * rng.standard_normal(shape, dtype=np.float32)
    brightness[skin >= 1] = 0
    return Breast(brightness, skin, muscle)


def _tissue(
    gland: Floats, to_nipple: tuple[Floats, Floats], *, reach: float, cloud: Floats, rng: np.random.Generator
) -> Floats:
    """Mix fat, lobes of the gland (0 in its middle, 1 at its border) and fibres that run to the nipple."""
    grain = _cloud(gland.shape, rng, slope=1.6, largest=3)
    fibre = _cloud(gland.shape, rng, slope=2.2, largest=16)
    rows, columns = gland.shape
    distance, angle = np.hypot(*to_nipple), np.arctan2(to_nipple[1], to_nipple[0])
    along = (0.55 * distance + 0.03 * cloud) * (rows - 1) % (columns - 1)
    around = (0.8 * angle / np.pi + 0.5 + 0.02 * cloud) * (rows - 1)
    strands = cv2.remap(
        fibre, along.astype(np.float32), around.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    lobes = _smooth((reach - gland + 0.35 * grain + 0.3 * cloud) / 1.2)
    ridges = np.exp(-((strands / 0.35) ** 2))
    lumps = np.exp(-(((strands - 0.9) / 0.9) ** 2))
    lines = ridges * (0.05 + 0.08 * lobes)
    mixed: Floats = 0.22 + 0.02 * cloud + 0.025 * grain + lobes * (0.13 + 0.04 * grain + 0.07 * lumps) + lines
    return mixed


def _cloud(shape: tuple[int, ...], rng: np.random.Generator, *, slope: float, largest: float = 1.0) -> Floats:
    """Give noise of unit variance whose amplitude falls as frequency^-slope, flat below `largest` cycles a height.

    Mammograms have slopes of about 1.5 (Burgess, Med. Phys. 28 (2001) 419: power spectra near f^-3).
    """
    height, width = (scipy.fft.next_fast_len(side, real=True) for side in shape)
    down = scipy.fft.fftfreq(height, 1 / height).astype(np.float32)[:, None]
    across = scipy.fft.rfftfreq(width, 1 / height).astype(np.float32)[None, :]
    amplitude = (down**2 + across**2 + np.float32(largest**2)) ** np.float32(-slope / 2)
    amplitude[0, 0] = 0
    spectrum = scipy.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32)) * amplitude
    noise: Floats = scipy.fft.irfft2(spectrum, s=(height, width))[: shape[0], : shape[1]]
    noise /= noise.std()
    return noise


def _smooth(ramp: Floats) -> Floats:
    """Turn a ramp from 0 to 1 into an S."""
    clipped = np.clip(ramp, 0, 1)
    smooth: Floats = clipped * clipped * (3 - 2 * clipped)
    return smooth
