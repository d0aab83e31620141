"""A DATASET as augmented training batches, and as pictures to predict."""

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Image, Panoptic
from mammoprep_model import balance
from mammoprep_model.augment import Floats as Floats
from mammoprep_model.augment import Grey, Sample, augment, fitted, pad, sized, to_float
from mammoprep_model.config import TrainConfig
from mammoprep_model.segmenter import Batch, Prompts

Made = TypeVar("Made", covariant=True)

CACHE_BYTES = 2**30
_ORDER, _AUGMENT = 0, 1  # keep the two kinds of random streams apart


@dataclass(frozen=True)
class Picture:
    """One image to predict: panoptic.json's id and name, and how to read its pixels (H, W).

    `size_of` gives the (height, width) of what is predicted from that of the pixels, `stored_of` that at which a
    DATASET would store them; None: the same. `mark` tells a loose file from a later one of its name. `prompts` tells a
    promptable network where to look; None: nothing does.
    """

    id: int
    name: str
    read: Callable[[], Grey]
    size_of: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    stored_of: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    mark: str = ""
    prompts: Callable[[], Prompts] | None = None


def pictures(dataset: Panoptic, image_ids: Collection[int] | None = None) -> list[Picture]:
    """Give a data set's images (all, or those with the given ids) in the order of their ids."""
    return [
        Picture(image.id, image.name, partial(read_grey, dataset.root, replace(image, segments=())))
        for image in dataset.images
        if image_ids is None or image.id in image_ids
    ]


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
    things = {category.id for category in dataset.categories if category.isthing}
    boxes = [segment.bbox for segment in targets if segment.category_id in things]
    return Sample(
        grey,
        index,
        labels=np.array([order[segment.category_id] for segment in targets], dtype=np.int64),
        lesions=np.array(boxes, dtype=np.int64).reshape(-1, 4),
    )


class TrainingImages:
    """The training images of one fold, shuffled and augmented without end: a position in that stream gives a view.

    What stands at a position depends on the seed and the position alone, so neither threads nor a stop in between
    change it. With `once` the stream ends after every image, with a batch that may be smaller.
    """

    def __init__(
        self, dataset: Panoptic, *, image_ids: Collection[int], config: TrainConfig, seed: int, once: bool = False
    ) -> None:
        self._dataset = dataset
        self._images = [image for image in dataset.images if image.id in image_ids]
        self._config = config
        self._seed = seed
        self._cache: dict[int, Sample] = {}
        self._room = CACHE_BYTES
        if not self._images:
            raise MammoprepError(f"{dataset.root}: the fold has no training images. Make the folds again.")
        self._end = len(self._images) if once else sys.maxsize
        self._odds = balance.odds(self._images, dataset.categories) if config.balance else None
        self._weights = balance.class_weights(config.class_weights, images=self._images, categories=dataset.categories)

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, position: int) -> Batch:
        """Give the batch that starts at `position`."""
        positions = range(position, min(position + self._config.batch_size, self._end))
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
            class_weights=None if self._weights is None else torch.from_numpy(self._weights).float(),
        )

    def _image_at(self, position: int) -> Image:
        count = len(self._images)
        epoch, place = divmod(position, count)
        generator = self._generator(_ORDER, epoch)
        order = generator.permutation(count) if self._odds is None else generator.choice(count, count, p=self._odds)
        return self._images[int(order[place])]

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


class Stream(Protocol[Made]):
    """Images in an order without end, as batches that a position gives."""

    def batch(self, position: int) -> Made:
        """Give the batch that starts at `position`."""
        ...


def stream(
    images: Stream[Made], starts: Iterable[int], *, ahead: int = 2, then: Callable[[Made], Made] | None = None
) -> Iterator[Made]:
    """Yield the batches that start at the given positions, prepared by threads up to `ahead` in advance.

    The threads also do `then`, where it is given.
    """

    def prepare(start: int) -> Made:
        batch = images.batch(start)
        return then(batch) if then else batch

    with ThreadPoolExecutor(ahead) as pool:
        waiting = iter(starts)
        pending = deque(pool.submit(prepare, start) for start in islice(waiting, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(prepare, start) for start in islice(waiting, 1))


def fit(grey: Grey, size: int, *, config: TrainConfig) -> tuple[Floats, tuple[int, int]]:
    """Resize to a long side of `size`, or stretch, and pad right and below with 0 to multiples of the stride.

    Give the image (H, W) in [0, 1] and the (height, width) that is not padding.
    """
    height, width = fitted(grey.shape, size, config=config)
    image, stride = to_float(sized(grey, height, width, config=config)), config.stride
    return pad(image, -(-height // stride) * stride, -(-width // stride) * stride), (height, width)
