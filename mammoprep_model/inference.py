"""From images to PREDICTIONS: batches of views through a network, and the four things written for each image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Image
from mammoprep_model.checkpoint import RunConfig, module_of
from mammoprep_model.config import TrainConfig
from mammoprep_model.data import STRIDE, Floats, Picture, fit
from mammoprep_model.segmenter import Prediction, Segmenter
from mammoprep_model.segments import Answer, Instance, find_instances, heatmap, merge, semantic
from mammoprep_model.views import Seen, View, join, see, views


@dataclass(frozen=True)
class Options:
    """How to predict: views at a time (default: as in training), and whether a PREDICTIONS folder may be replaced.

    With `tiles` above 1 the network sees an image that many times as large, in windows of the size that it sees else;
    with `flip` it sees each view mirrored too. `on_estimate` is told after the first batch how many seconds all will
    take; `also` may add to the folder before it gets its name.
    """

    batch_size: int | None = None
    overwrite: bool = False
    tiles: int = 1
    flip: bool = False
    on_progress: Callable[[int, int], None] | None = None
    on_estimate: Callable[[float], None] | None = None
    also: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class _Prepared:
    """A picture at the network's size: `image` (H, W) is padded, `content` (h, w) of it is not; `size` is written."""

    picture: Picture
    image: Floats
    content: tuple[int, int]
    size: tuple[int, int]
    views: tuple[View, ...]

    @property
    def padded(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]


def predict(
    network: Segmenter,
    pictures: Sequence[Picture],
    *,
    out: Path,
    config: RunConfig,
    options: Options = Options(),
) -> None:
    """Write the PREDICTIONS of all pictures to `out`, whole or not at all.

    Raises torch.OutOfMemoryError where not even one view at a time has room.
    """
    module_of(network).eval()
    images: list[Image] = []
    instances: dict[int, list[dict[str, object]]] = {}
    with panoptic.staged(out, overwrite=options.overwrite) as partial:
        for folder in ("panoptic", "semantic", "heatmaps"):
            (partial / folder).mkdir()
        for item, answer in _answers(network, pictures, config=config, options=options):
            images.append(_write_maps(partial, item, answer, config=config))
            found = find_instances(answer, categories=config.categories)
            instances[item.picture.id] = _results(item.picture.id, found, categories=config.categories)
            if options.on_progress:
                options.on_progress(len(images), len(pictures))
        images.sort(key=lambda image: image.id)
        panoptic.write_panoptic(partial, categories=config.categories, images=images)
        panoptic.write_json(partial / "instances.json", [entry for image in images for entry in instances[image.id]])
        if options.also:
            options.also(partial)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn what the GPU has no room for, one view at a time, into the line that the user of `predict` reads."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        numbers = ". ".join(str(error).split(". ")[1:3])
        raise MammoprepError(
            f"The GPU's memory is too small for one view at a time ({numbers}). Leave out --tiles and --native, free"
            " what other programs hold there, or say --device cpu."
        ) from error


def _answers(
    network: Segmenter, pictures: Sequence[Picture], *, config: RunConfig, options: Options
) -> Iterator[tuple[_Prepared, Answer]]:
    """Yield what the network says of each picture, as soon as it has seen all of its views."""
    runner = _Runner(network, config=config)
    seen: dict[int, list[Seen]] = {}
    begun, share = perf_counter(), 0.0
    for batch in _batches(pictures, config=config, options=options):
        for (item, view), prediction in zip(batch, runner(batch), strict=True):
            if len(item.views) > 1:
                parts = seen.setdefault(item.picture.id, [])
                parts.append(see(prediction, view))
                if len(parts) < len(item.views):
                    continue
                things = [category.isthing for category in config.categories]
                prediction = join(seen.pop(item.picture.id), shape=item.padded, is_thing=things)
            yield item, Answer(prediction, item.padded, item.content, item.size)
        if options.on_estimate and not share:
            share = sum(1 / len(item.views) for item, _ in batch) / len(pictures)
            if share < 1:
                options.on_estimate((perf_counter() - begun) / share)


def _batches(
    pictures: Sequence[Picture], *, config: RunConfig, options: Options
) -> Iterator[list[tuple[_Prepared, View]]]:
    """Gather views of one shape, so that what an image is padded with never depends on its neighbours."""
    batch_size = options.batch_size or config.preset.train.batch_size
    waiting: dict[tuple[int, int], list[tuple[_Prepared, View]]] = {}
    for picture in pictures:
        item = _prepare(picture, train=config.preset.train, options=options)
        for view in item.views:
            shape = (view.height, view.width)
            group = waiting.setdefault(shape, [])
            group.append((item, view))
            if len(group) == batch_size:
                yield waiting.pop(shape)
    yield from waiting.values()


def _prepare(picture: Picture, *, train: TrainConfig, options: Options) -> _Prepared:
    """Bring a picture to the size that the network was trained at: whole, or in windows at stored resolution."""
    grey = picture.read()
    shape = (grey.shape[0], grey.shape[1])
    size, side = train.size, -(-train.size // STRIDE) * STRIDE
    if train.view == "windows":
        size, side = max(picture.stored_of(shape) if picture.stored_of else shape), train.crop
    image, content = fit(grey, size * options.tiles)
    seen = views((image.shape[0], image.shape[1]), side=side, flip=options.flip)
    return _Prepared(picture, image, content, picture.size_of(shape) if picture.size_of else shape, seen)


class _Runner:
    """Runs a network on batches of views; a batch that is too large for the GPU is run view by view from then on."""

    def __init__(self, network: Segmenter, *, config: RunConfig) -> None:
        self._network = network
        self._config = config
        self._singly = False

    def __call__(self, batch: Sequence[tuple[_Prepared, View]]) -> Iterator[Prediction]:
        """Yield the prediction of each view."""
        if not self._singly:
            try:
                yield from self._run(batch)
                return
            except torch.OutOfMemoryError:
                self._singly = True
            torch.cuda.empty_cache()
        for each in batch:
            yield from self._run([each])

    def _run(self, batch: Sequence[tuple[_Prepared, View]]) -> list[Prediction]:
        images = torch.from_numpy(np.stack([_look(item.image, view) for item, view in batch])).to(self._config.device)
        images = images[:, None].expand(-1, 3, -1, -1)
        mixed = self._config.preset.train.mixed_precision and images.is_cuda
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
            return self._network.predict(images)


def _look(image: Floats, view: View) -> Floats:
    window = image[view.pixels]
    return window[:, ::-1] if view.mirrored else window


def _results(image_id: int, found: Sequence[Instance], *, categories: Sequence[Category]) -> list[dict[str, object]]:
    """Give COCO's result list of one image."""
    return [
        {
            "image_id": image_id,
            "category_id": categories[instance.label].id,
            "segmentation": instance.code,
            "score": round(instance.score, 6),
        }
        for instance in found
    ]


def _write_maps(root: Path, item: _Prepared, answer: Answer, *, config: RunConfig) -> Image:
    """Write one image's panoptic, semantic and heat map; give its entry for panoptic.json."""
    ids, segments = merge(answer, categories=config.categories, train=config.preset.train)
    name = f"{item.picture.name}.png"
    panoptic.write_ids(root / "panoptic" / name, ids)
    panoptic.write_classes(root / "semantic" / name, semantic(answer, categories=config.categories))
    panoptic.write_png(root / "heatmaps" / name, heatmap(answer, categories=config.categories))
    return Image(item.picture.id, item.picture.name, *item.size, segments)
