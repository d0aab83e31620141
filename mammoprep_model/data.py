"""A DATASET as augmented training batches, and as pictures to predict."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Image, Panoptic
from mammoprep_model.config import TrainConfig
from mammoprep_model.segmenter import Batch

Grey = NDArray[np.unsignedinteger[Any]]
"""A grey image (H, W) of 8 or 16 bits: 0 is black, the largest value white."""
Floats = NDArray[np.float32]
Indices = NDArray[np.uint16]

STRIDE = 64
"""Sides of a network's input are multiples of this."""
CACHE_BYTES = 2**30
_ORDER, _AUGMENT = 0, 1  # keep the two kinds of random streams apart


@dataclass(frozen=True)
class Picture:
    """One image to predict: panoptic.json's id and name, and how to read its pixels (H, W).

    `size_of` gives the (height, width) of what is predicted from that of the pixels; None: the same.
    """

    id: int
    name: str
    read: Callable[[], Grey]
    size_of: Callable[[tuple[int, int]], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Sample:
    """One training image as stored: `index` (H, W) is 1 + the position in `labels` of a pixel's segment, 0 is VOID."""

    grey: Grey
    index: Indices
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """One augmented training window: `image` (S, S) in [0, 1], `masks` (G, S, S) of 0 and 1, `labels` (G,)."""

    image: Floats
    masks: Floats
    labels: NDArray[np.int64]


def pictures(dataset: Panoptic, image_ids: Collection[int] | None = None) -> list[Picture]:
    """Give a data set's images (all, or those with the given ids) in the order of their ids."""
    return [
        Picture(image.id, image.name, _reader(dataset.root, image))
        for image in dataset.images
        if image_ids is None or image.id in image_ids
    ]


def _reader(root: Path, image: Image) -> Callable[[], Grey]:
    return lambda: read_grey(root, image)


def read_grey(root: Path, image: Image) -> Grey:
    """Read an image of a DATASET (H, W), 8 or 16 bit."""
    path = root / "images" / f"{image.name}.png"
    grey = panoptic.read_png(path)
    if grey.ndim != 2 or grey.dtype not in (np.uint8, np.uint16):
        raise MammoprepError(f"{path} is no grey PNG of 8 or 16 bits. `mammoprep convert` writes such.")
    if grey.shape != (image.height, image.width):
        raise MammoprepError(
            f"{path} has {grey.shape[0]} x {grey.shape[1]} pixels, panoptic.json says {image.height} x {image.width}."
            " Convert the data set again."
        )
    return grey


def read_sample(dataset: Panoptic, image: Image) -> Sample:
    """Read an image and its segments; crowd segments are no targets and become VOID."""
    grey, ids = read_grey(dataset.root, image), dataset.ids_of(image)
    order = {category.id: place for place, category in enumerate(dataset.categories)}
    unlisted = set(np.unique(ids).tolist()) - {0, *(segment.id for segment in image.segments)}
    if ids.shape != grey.shape or unlisted or any(segment.category_id not in order for segment in image.segments):
        raise MammoprepError(
            f"{image.name}: the panoptic PNG, its image and panoptic.json do not agree. Convert the data set again."
        )
    targets = [segment for segment in image.segments if not segment.iscrowd]
    index = np.zeros(ids.shape, dtype=np.uint16)
    for place, segment in enumerate(targets, start=1):
        index[ids == segment.id] = place
    return Sample(grey, index, np.array([order[segment.category_id] for segment in targets], dtype=np.int64))


class TrainingImages:
    """The training images of one fold, shuffled and augmented without end: a position in that stream gives a view.

    What stands at a position depends on the seed and the position alone, so neither threads nor a stop in between
    change it.
    """

    def __init__(self, dataset: Panoptic, *, image_ids: Collection[int], config: TrainConfig, seed: int) -> None:
        self._dataset = dataset
        self._images = [image for image in dataset.images if image.id in image_ids]
        self._config = config
        self._seed = seed
        self._cache: dict[int, Sample] = {}
        self._room = CACHE_BYTES
        if not self._images:
            raise MammoprepError(f"{dataset.root}: the fold has no training images. Make the folds again.")

    def batch(self, position: int) -> Batch:
        """Give the batch that starts at `position`."""
        positions = range(position, position + self._config.batch_size)
        images = [self._image_at(at) for at in positions]
        views = [
            augment(self._sample(image), config=self._config, generator=self._generator(_AUGMENT, at))
            for image, at in zip(images, positions, strict=True)
        ]
        grey = np.stack([view.image for view in views])
        return Batch(
            images=torch.from_numpy(np.repeat(grey[:, None], 3, axis=1)),
            masks=tuple(torch.from_numpy(view.masks) for view in views),
            labels=tuple(torch.from_numpy(view.labels) for view in views),
            image_ids=tuple(image.id for image in images),
        )

    def _image_at(self, position: int) -> Image:
        epoch, place = divmod(position, len(self._images))
        return self._images[int(self._generator(_ORDER, epoch).permutation(len(self._images))[place])]

    def _generator(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, kind, number))

    def _sample(self, image: Image) -> Sample:
        """Decode an image once, as long as there is room to keep it (a full cache keeps what it has)."""
        sample = self._cache.get(image.id)
        if sample is None:
            sample = read_sample(self._dataset, image)
            size = sample.grey.nbytes + sample.index.nbytes
            if size <= self._room:
                self._room -= size
                self._cache[image.id] = sample
        return sample


def stream(images: TrainingImages, starts: Sequence[int], *, ahead: int = 2) -> Iterator[Batch]:
    """Yield the batches that start at the given positions, prepared by threads up to `ahead` in advance."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting = iter(starts)
        pending = deque(pool.submit(images.batch, start) for start in islice(waiting, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(images.batch, start) for start in islice(waiting, 1))


def augment(sample: Sample, *, config: TrainConfig, generator: np.random.Generator) -> View:
    """Rescale, crop, mirror and pad at random: ODISE's large scale jitter; masks that fall outside are dropped.

    The window is padded right and below with 0, a mammogram's black, where ODISE pads photographs with grey 128.
    """
    height, width = _scaled(sample.grey.shape, round(config.size * generator.uniform(*config.scale)))
    top = int(generator.integers(max(0, height - config.crop), endpoint=True))
    left = int(generator.integers(max(0, width - config.crop), endpoint=True))
    window = (slice(top, top + config.crop), slice(left, left + config.crop))
    grey = _resize(sample.grey, height, width)[window]
    index = cv2.resize(sample.index, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)[window]
    if config.flip and generator.random() < 0.5:
        grey, index = grey[:, ::-1], index[:, ::-1]
    index = _pad(index, config.crop, config.crop)
    present = np.flatnonzero(np.bincount(index.ravel())[1:]) + 1
    return View(
        image=_pad(_to_float(grey), config.crop, config.crop),
        masks=(index == present[:, None, None]).astype(np.float32),
        labels=sample.labels[present - 1],
    )


def fit(grey: Grey, size: int) -> tuple[Floats, tuple[int, int]]:
    """Resize to a long side of `size` and pad right and below with 0 to multiples of 64.

    Give the image (H, W) in [0, 1] and the (height, width) that is not padding.
    """
    height, width = _scaled(grey.shape, size)
    image = _to_float(_resize(grey, height, width))
    return _pad(image, -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE), (height, width)


def _scaled(shape: tuple[int, ...], long_side: int) -> tuple[int, int]:
    scale = long_side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _resize(grey: Grey, height: int, width: int) -> Grey:
    """Average pixels when shrinking, interpolate when enlarging."""
    if grey.shape == (height, width):
        return grey
    method = cv2.INTER_AREA if height < grey.shape[0] else cv2.INTER_LINEAR
    resized: Grey = np.asarray(cv2.resize(grey, (width, height), interpolation=method))
    return resized


def _to_float(grey: Grey) -> Floats:
    return grey.astype(np.float32) / np.float32(np.iinfo(grey.dtype).max)


def _pad(array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    return np.pad(array, ((0, height - array.shape[0]), (0, width - array.shape[1])))
