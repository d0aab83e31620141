"""The mammograms without lesions of a DATASET, square and facing one way, each with its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Image, Panoptic
from mammoprep_model import augment
from mammoprep_model.augment import Grey
from mammoprep_model.data import read_grey
from mammoprep_model.pretrain.prompts import breast_areas, describe
from mammoprep_model.pretrain.recipe import PretrainConfig

_ORDER, _EMPTY = 0, 1  # keep the two kinds of random streams apart


@dataclass(frozen=True)
class Chosen:
    """The images to learn from, their prompts, of how many patients they are.

    `held_out` are the lesion-free images of the patients that were left out for a fold, `held_out_patients` counts all
    of these.
    """

    images: tuple[Image, ...]
    prompts: tuple[str, ...]
    patients: int
    held_out: tuple[Image, ...]
    held_out_patients: int


def choose(dataset: Panoptic, *, fold: int | None) -> Chosen:
    """Give the images that cases.csv calls lesion-free, without those of patients in a fold's validation set."""
    rows = {row.get("image_id", ""): row for row in panoptic.load_cases(dataset.root)}
    images = {image.id: image for image in dataset.images}
    if missing := [image.name for image in images.values() if image.name not in rows]:
        raise MammoprepError(
            f"{dataset.root / 'cases.csv'} has no row for {len(missing)} of {len(images)} images, the first of them"
            f" {missing[0]}. Convert the data set again."
        )
    held = () if fold is None else panoptic.load_fold(dataset.root, fold)[1]
    patients = {rows[images[number].name].get("patient_id", "") for number in held if number in images}
    free = [image for image in images.values() if rows[image.name].get("lesion_free") == "1"]
    kept, left = list[Image](), list[Image]()
    for image in free:
        (left if rows[image.name].get("patient_id", "") in patients else kept).append(image)
    chosen = [rows[image.name] for image in kept]
    areas = breast_areas(chosen, [_breast(dataset, image) for image in kept])
    return Chosen(
        images=tuple(kept),
        prompts=tuple(describe(chosen, areas)),
        patients=len({row.get("patient_id", "") for row in chosen}),
        held_out=tuple(left),
        held_out_patients=len(patients),
    )


def _breast(dataset: Panoptic, image: Image) -> int | None:
    """Count the stored pixels of the breast; None without such a segment."""
    names = {category.id for category in dataset.categories if category.name == "breast"}
    return sum(segment.area for segment in image.segments if segment.category_id in names) or None


class Shown(NamedTuple):
    """Images (B, 3, S, S) in [0, 1], what is said of each, and the place of the first in the stream."""

    images: Tensor
    prompts: tuple[str, ...]
    position: int


class Mammograms:
    """The chosen images, shuffled without end: what stands at a position depends on the seed and the position alone."""

    def __init__(self, root: Path, chosen: Chosen, *, config: PretrainConfig, micro_batch: int, seed: int) -> None:
        self._root = root
        self._chosen = chosen
        self._config = config
        self._size = micro_batch
        self._seed = seed

    def batch(self, position: int) -> Shown:
        """Give the images from `position` on that are computed at a time."""
        positions = range(position, position + self._size)
        places = [self._place(at) for at in positions]
        told = (self._chosen.prompts[place] for place in places)
        prompts = tuple("" if self._is_empty(at) else text for at, text in zip(positions, told, strict=True))
        shown = [self._chosen.images[place] for place in places]
        return Shown(read(self._root, shown, config=self._config), prompts, position)

    def _place(self, position: int) -> int:
        count = len(self._chosen.images)
        epoch, place = divmod(position, count)
        return int(_order(count, seed=self._seed, epoch=epoch)[place])

    def _is_empty(self, position: int) -> bool:
        return np.random.default_rng((self._seed, _EMPTY, position)).random() < self._config.empty_prompts


def read(root: Path, images: Sequence[Image], *, config: PretrainConfig) -> Tensor:
    """Read images as the networks see them: (B, 3, S, S) in [0, 1]."""
    greys = (facing_right(read_grey(root, image)) for image in images)
    squares = np.stack([augment.to_float(square(grey, config.size, fit=config.fit)) for grey in greys])
    return torch.from_numpy(np.repeat(squares[:, None], 3, axis=1))


@lru_cache(maxsize=4)
def _order(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Give the order in which an epoch shows so many images."""
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(count)


def facing_right(grey: Grey) -> Grey:
    """Mirror an image with the chest wall on the right, its brighter half: `convert --flip-right` stores it so."""
    half = grey.shape[1] // 2
    sums = grey.sum(axis=0, dtype=np.int64)
    return grey[:, ::-1] if sums[-half:].sum() > sums[:half].sum() else grey


def square(grey: Grey, side: int, *, fit: Literal["crop", "pad"]) -> Grey:
    """Bring the short side to `side` and cut the middle out of the long one, or the long side and add black."""
    scale = side / (min(grey.shape) if fit == "crop" else max(grey.shape))
    height, width = (max(1, round(length * scale)) for length in grey.shape)
    resized = augment.resize(np.ascontiguousarray(grey), height, width)
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    whole: Grey = augment.pad(resized[top : top + side, left : left + side], side, side)
    return whole
