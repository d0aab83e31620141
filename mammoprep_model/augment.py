"""One training view of a stored image: rescaled, cropped, mirrored and padded, at random or not at all."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep_model.config import TrainConfig

Grey = NDArray[np.unsignedinteger[Any]]
"""A grey image (H, W) of 8 or 16 bits: 0 is black, the largest value white."""
Floats = NDArray[np.float32]
Indices = NDArray[np.uint16]


@dataclass(frozen=True)
class Sample:
    """One training image as stored: `index` (H, W) is 1 + the position in `labels` of a pixel's segment, 0 is VOID.

    `lesions` (L, 4) are the boxes x, y, width, height of the segments of thing classes, in pixels.
    """

    grey: Grey
    index: Indices
    labels: NDArray[np.int64]
    lesions: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), dtype=np.int64))


@dataclass(frozen=True)
class View:
    """One training window: `image` (S, S) in [0, 1], `masks` (G, S, S) of 0 and 1, none empty, `labels` (G,)."""

    image: Floats
    masks: Floats
    labels: NDArray[np.int64]


def variants(config: TrainConfig) -> int:
    """Say how many views an image has: 1, with mirroring 2; 0 where chance makes ever new ones."""
    if config.view != "whole" or config.augment in ("crop", "lsj"):
        return 0
    return 2 if config.augment == "flip" and config.flip else 1


def augment(sample: Sample, *, config: TrainConfig, generator: np.random.Generator) -> View:
    """Rescale, crop, mirror and pad as `config` says; masks that fall outside are dropped.

    `lsj` is ODISE's large scale jitter. The window is padded right and below with 0, a mammogram's black, where ODISE
    pads photographs with grey 128.
    """
    height, width = _size(sample, config=config, generator=generator)
    top, left = _corner(sample, (height, width), config=config, generator=generator)
    window = (slice(top, top + config.crop), slice(left, left + config.crop))
    grey = sized(sample.grey, height, width, config=config)[window]
    index = cv2.resize(sample.index, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[window]
    if config.augment != "none" and config.flip and generator.random() < 0.5:
        grey, index = grey[:, ::-1], index[:, ::-1]
    index = pad(index, config.crop, config.crop)
    present = np.flatnonzero(np.bincount(index.ravel())[1:]) + 1
    return View(
        image=pad(to_float(grey), config.crop, config.crop),
        masks=(index == present[:, None, None]).astype(np.float32),
        labels=sample.labels[present - 1],
    )


def _size(sample: Sample, *, config: TrainConfig, generator: np.random.Generator) -> tuple[int, int]:
    """Give the (height, width) that the image is brought to before a window is cut out of it."""
    if config.view == "windows" or (config.view == "both" and generator.random() < 0.5):
        return sample.grey.shape[0], sample.grey.shape[1]
    factor = generator.uniform(*config.scale) if config.augment == "lsj" else 1.0
    return fitted(sample.grey.shape, round(config.size * factor), config=config)


def _corner(
    sample: Sample, size: tuple[int, int], *, config: TrainConfig, generator: np.random.Generator
) -> tuple[int, int]:
    """Draw the window's upper left corner (top, left); a share `lesion_crops` of the windows is laid on a lesion.

    Such a window holds the whole box of one of the image's lesions, or lies inside a box that is larger.
    """
    room = [max(0, side - config.crop) for side in size]
    ranges = [(0, most) for most in room]
    if config.lesion_crops and len(sample.lesions) and generator.random() < config.lesion_crops:
        x, y, width, height = generator.choice(sample.lesions).tolist()
        ends = ((y, y + height), (x, x + width))
        for axis, (start, end) in enumerate(ends):
            factor = size[axis] / sample.grey.shape[axis]
            limits = sorted((int(np.ceil(end * factor)) - config.crop, int(start * factor)))
            ranges[axis] = (min(max(limits[0], 0), room[axis]), min(max(limits[1], 0), room[axis]))
    top, left = (int(generator.integers(low, high, endpoint=True)) for low, high in ranges)
    return top, left


def fitted(shape: tuple[int, ...], long_side: int, *, config: TrainConfig) -> tuple[int, int]:
    """Give the (height, width) of an image brought to a long side, or stretched to a square of it."""
    return (long_side, long_side) if config.fit == "stretch" else scaled(shape, long_side)


def sized(grey: Grey, height: int, width: int, *, config: TrainConfig) -> Grey:
    """Bring an image to the size and the contrast in which the network sees it."""
    if config.fit == "stretch" and grey.shape != (height, width):
        grey = np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR))
    grey = resize(grey, height, width)
    return np.asarray(cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(grey)) if config.clahe else grey


def scaled(shape: tuple[int, ...], long_side: int) -> tuple[int, int]:
    """Give the (height, width) of an image brought to a long side."""
    scale = long_side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def resize(grey: Grey, height: int, width: int) -> Grey:
    """Average pixels when shrinking, interpolate when enlarging."""
    if grey.shape == (height, width):
        return grey
    method = cv2.INTER_AREA if height < grey.shape[0] else cv2.INTER_LINEAR
    resized: Grey = np.asarray(cv2.resize(grey, (width, height), interpolation=method))
    return resized


def to_float(grey: Grey) -> Floats:
    """Bring grey values to [0, 1]."""
    return grey.astype(np.float32) / np.float32(np.iinfo(grey.dtype).max)


def pad(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Add zeros right and below."""
    return np.pad(array, ((0, height - array.shape[0]), (0, width - array.shape[1])))
