"""From images to PREDICTIONS: batches of views through a network, and what is written for each image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from mammoprep import panoptic, parallel
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Existing, Image
from mammoprep_model.checkpoint import RunConfig, module_of
from mammoprep_model.config import TrainConfig
from mammoprep_model.data import Floats, Picture, fit
from mammoprep_model.predictions import Predicted, Predictions, header
from mammoprep_model.segmenter import Prediction, Promptable, Prompts, Segmenter
from mammoprep_model.segments import Answer, Instance, find_instances, heatmap, levels, merge, semantic
from mammoprep_model.views import Seen, View, join, see, views

PART = 8
"""Batches whose pictures are a part. A view shares its batch with views of its part alone: so whoever predicts a part
gives the same bytes, though a network's last digits hang on what else is in a batch."""
Shapes = Mapping[str, Sequence[tuple[int, int]]]
"""The (height, width) of each view of the pictures that are done, by their names."""


@dataclass(frozen=True)
class Part:
    """Pictures that follow one another; of those that are `done` only the place in a batch is needed."""

    pictures: Sequence[Picture]
    done: Shapes


@dataclass(frozen=True)
class Options:
    """How to predict: views at a time (default: as in training), and what becomes of PREDICTIONS that are there.

    With `tiles` above 1 the network sees an image that many times as large, in windows of the size that it sees else;
    with `flip` it sees each view mirrored too. `facts` is what else the result follows from, for manifest.json;
    `verify` reads again what was written. `on_estimate` is told after the first batch how many seconds all will take;
    `also` may add to the folder before it gets its name.
    """

    batch_size: int | None = None
    existing: Existing = "refuse"
    tiles: int = 1
    flip: bool = False
    verify: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    on_progress: Callable[[int, int], None] | None = None
    on_estimate: Callable[[float], None] | None = None
    also: Callable[[Path], None] | None = None

    def header(self, config: RunConfig) -> dict[str, Any]:
        """Give what the predictions of a run follow from, the pictures apart."""
        batch_size = self.batch_size or config.preset.train.batch_size
        return header(config, {"tiles": self.tiles, "flip": self.flip, "batch_size": batch_size, **self.facts})


@dataclass(frozen=True)
class _Prepared:
    """A picture at the network's size: `image` (H, W) is padded, `content` (h, w) of it is not; `size` is written."""

    picture: Picture
    image: Floats
    content: tuple[int, int]
    size: tuple[int, int]
    views: tuple[View, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return [(view.height, view.width) for view in self.views]

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

    A run that is stopped or killed leaves what `existing="resume"` continues, to the same bytes: images that are done
    are not predicted again. Raises torch.OutOfMemoryError where not even one view at a time has room.
    """
    module_of(network).eval()
    runner = Runner(network, config=config)

    def run(root: Path, parts: Iterator[Part], left: int) -> Iterator[Predicted]:
        told = options
        for part in parts:
            yield from predict_part(runner, part, root=root, options=told, left=left)
            told = replace(options, on_estimate=None)

    write(run, pictures, out=out, config=config, options=options)


Run = Callable[[Path, Iterator[Part], int], Iterator[Predicted]]
"""Writes the maps of parts to a folder, so many pictures in all, and gives the rest of each."""


def write(run: Run, pictures: Sequence[Picture], *, out: Path, config: RunConfig, options: Options) -> None:
    """Write PREDICTIONS as `predict` does; `run` predicts."""
    made_with = options.header(config)
    with panoptic.journaled(out, header=made_with, existing=options.existing) as (partial, journal):
        written = Predictions(partial, journal, pictures, verify=options.verify)
        report = options.on_progress or (lambda done, total: None)
        if written.done:
            report(len(written.done), len(pictures))
        shapes = dict(written.done)
        parts = _parts(pictures, shapes, size=PART * (options.batch_size or config.preset.train.batch_size))
        for found in run(partial, parts, len(pictures) - len(shapes)):
            written.add(found)
            report(len(written.done), len(pictures))
        written.close(categories=config.categories, header=made_with, also=options.also)


def _parts(pictures: Sequence[Picture], done: Shapes, *, size: int) -> Iterator[Part]:
    """Yield the parts in which something is left to do."""
    for some in parallel.batched(pictures, size):
        part = Part(some, {picture.name: done[picture.name] for picture in some if picture.name in done})
        if len(part.done) < len(some):
            yield part


def predict_part(
    runner: "Runner", part: Part, *, root: Path, options: Options, left: int | None = None
) -> Iterator[Predicted]:
    """Write the maps of a part's pictures, and yield the rest of each; `left` counts those of all parts."""
    for item, answer in _answers(runner, part, options=options, left=left or len(part.pictures)):
        yield _write(root, item, answer, config=runner.config)


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


def _answers(runner: "Runner", part: Part, *, options: Options, left: int) -> Iterator[tuple[_Prepared, Answer]]:
    """Yield what the network says of each picture that is not done, as soon as it has seen all of its views."""
    config, done = runner.config, part.done
    seen: dict[int, list[Seen]] = {}
    begun, share = perf_counter(), 0.0
    for batch in _batches(part.pictures, done=done, config=config, options=options):
        for (item, view), prediction in zip(batch, runner(batch), strict=True):
            if item.picture.name in done:
                continue
            if len(item.views) > 1:
                parts = seen.setdefault(item.picture.id, [])
                parts.append(see(prediction, view))
                if len(parts) < len(item.views):
                    continue
                things = [category.isthing for category in config.categories]
                prediction = join(seen.pop(item.picture.id), shape=item.padded, is_thing=things)
            yield item, Answer(prediction, item.padded, item.content, item.size)
        if options.on_estimate and not share:
            share = sum(1 / len(item.views) for item, _ in batch if item.picture.name not in done) / left
            if share < 1:
                options.on_estimate((perf_counter() - begun) / share)


def _batches(
    pictures: Sequence[Picture], *, done: Shapes, config: RunConfig, options: Options
) -> Iterator[list[tuple[_Prepared, View]]]:
    """Gather views of one shape, so that what an image is padded with never depends on its neighbours.

    What a network says of a view may depend on the size of the batch in its last digits. So batches are those of a run
    that was not interrupted: a picture that is done keeps its place, and is read where its batch has others.
    """
    batch_size = options.batch_size or config.preset.train.batch_size
    train = config.preset.train
    waiting: dict[tuple[int, int], list[tuple[Picture, _Prepared | None, int]]] = {}
    for picture in pictures:
        item = None if picture.name in done else _prepare(picture, train=train, options=options)
        for place, shape in enumerate(item.shapes if item else done[picture.name]):
            group = waiting.setdefault(shape, [])
            group.append((picture, item, place))
            if len(group) == batch_size:
                yield from _filled(waiting.pop(shape), train=train, options=options)
    for group in waiting.values():
        yield from _filled(group, train=train, options=options)


def _filled(
    group: Sequence[tuple[Picture, _Prepared | None, int]], *, train: TrainConfig, options: Options
) -> Iterator[list[tuple[_Prepared, View]]]:
    """Yield a batch, unless all of it is done."""
    if any(item for _, item, _ in group):
        ready = [(item or _prepare(picture, train=train, options=options), place) for picture, item, place in group]
        yield [(item, item.views[place]) for item, place in ready]


def _prepare(picture: Picture, *, train: TrainConfig, options: Options) -> _Prepared:
    """Bring a picture to the size that the network was trained at: whole, or in windows at stored resolution."""
    grey = picture.read()
    shape = (grey.shape[0], grey.shape[1])
    size, side = train.size, -(-train.size // train.stride) * train.stride
    if train.view == "windows":
        size, side = max(picture.stored_of(shape) if picture.stored_of else shape), train.crop
    image, content = fit(grey, size * options.tiles, config=train)
    seen = views((image.shape[0], image.shape[1]), side=side, flip=options.flip)
    return _Prepared(picture, image, content, picture.size_of(shape) if picture.size_of else shape, seen)


class Runner:
    """Runs a network on batches of views; a batch that is too large for the GPU is run view by view from then on."""

    def __init__(self, network: Segmenter, *, config: RunConfig) -> None:
        self._network = network
        self.config = config
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
        images = torch.from_numpy(np.stack([_look(item.image, view) for item, view in batch])).to(self.config.device)
        images = images[:, None].expand(-1, 3, -1, -1)
        mixed = self.config.preset.train.mixed_precision and images.is_cuda
        prompts = [_prompts_of(item) for item, _ in batch if item.picture.prompts]
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
            if prompts and isinstance(self._network, Promptable):
                return self._network.predict_at(images, prompts)
            return self._network.predict(images)


def _prompts_of(item: _Prepared) -> Prompts:
    """Give a picture's prompts with their points as shares of its padded image."""
    if item.picture.prompts is None:
        raise TypeError(f"{item.picture.name} has no prompts, and others of its batch have")
    if len(item.views) > 1:
        raise MammoprepError(
            "Prompts point into a whole image, which the network must see at once and upright. Leave out --tiles and"
            " --flip, or say --prompts grid."
        )
    prompts = item.picture.prompts()
    (height, width), (padded_height, padded_width) = item.content, item.padded
    return replace(prompts, points=prompts.points * torch.tensor([width / padded_width, height / padded_height]))


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


def _write(root: Path, item: _Prepared, answer: Answer, *, config: RunConfig) -> Predicted:
    """Write one image's panoptic, semantic and heat map, and how unsure they are; give its entries for the JSON files.

    The uncertainty, 0 … 255 for 0 … 1, is written where the network gives one.
    """
    ids, segments = merge(answer, categories=config.categories, train=config.preset.train)
    name, picture = f"{item.picture.name}.png", item.picture
    files = [
        panoptic.write_ids(root / "panoptic" / name, ids),
        panoptic.write_classes(root / "semantic" / name, semantic(answer, categories=config.categories)),
        panoptic.write_png(root / "heatmaps" / name, heatmap(answer, categories=config.categories)),
    ]
    if answer.uncertainty is not None:
        (root / "uncertainty").mkdir(exist_ok=True)
        files.append(panoptic.write_png(root / "uncertainty" / name, levels(answer.uncertainty)))
    found = find_instances(answer, categories=config.categories)
    return Predicted(
        image=Image(picture.id, picture.name, *item.size, segments),
        instances=_results(picture.id, found, categories=config.categories),
        files=files,
        mark=picture.mark,
        views=item.shapes,
    )
