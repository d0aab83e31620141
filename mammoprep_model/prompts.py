"""Where promptable networks are told to look: at lesions of the ground truth, at another model's, or on a grid.

Points are the centres of lesions: the pixel farthest from the edge. An image without a lesion in the ground truth is
prompted at its own centre, with the first lesion class, as the Twente thesis did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation.detections import Instance, read_results
from mammoprep.evaluation.marks import TRUTH, knows_truth
from mammoprep.panoptic import Category, Image, Mask, Panoptic
from mammoprep_model import settings
from mammoprep_model.config import Architecture, Preset
from mammoprep_model.data import Picture
from mammoprep_model.segmenter import Prompts

GRID, DETECTIONS = "grid", "detections:"
_CHOICES = f"{TRUTH}, {GRID}, or {DETECTIONS}RUN"


@dataclass(frozen=True)
class Prompted:
    """Pictures with their prompts, and what manifest.json says of these; nothing where a network takes none."""

    pictures: Sequence[Picture]
    facts: Mapping[str, Any]


def asked(preset: Preset, prompts: str | None) -> Architecture:
    """Give a preset's model with other prompts, where they are asked for; a network that takes none is an error."""
    if not prompts:
        return preset.model
    if not preset.model.prompted_by:
        raise MammoprepError(f"{preset.name} takes no prompts. Leave out --prompts.")
    return settings.change(preset, [f"model.prompts={prompts}"]).model


def prompted(
    pictures: Sequence[Picture], model: Architecture, *, categories: Sequence[Category], dataset: Panoptic | None
) -> Prompted:
    """Prompt pictures as the model's `prompted_by` says; `dataset` is what they are of, None for loose files.

    What cannot be had raises here, before anything is computed; points of the ground truth are sought when read. Where
    `dataset` has other lesion classes than the network's `categories`, these lesions count as the first of them.
    """
    by = model.prompted_by
    if not by:
        return Prompted(pictures, {})
    if by == GRID:
        if len(things := [category.name for category in categories if category.isthing]) > 1:
            raise MammoprepError(
                f"A grid of points tells no class, and there are {len(things)}: {', '.join(things)}. Prompt by {TRUTH}"
                f" or {DETECTIONS}RUN, or convert the data set with one lesion class."
            )
        return Prompted(pictures, {"prompts": GRID})
    if by == TRUTH:
        return Prompted(_at_truth(pictures, dataset, categories=categories), {"prompts": TRUTH})
    if not by.removeprefix(DETECTIONS) or not by.startswith(DETECTIONS):
        raise MammoprepError(f"{by!r} prompts nothing. Choose {_CHOICES}.")
    return _at_detections(pictures, Path(by.removeprefix(DETECTIONS)), categories=categories)


def _at_truth(
    pictures: Sequence[Picture], dataset: Panoptic | None, *, categories: Sequence[Category]
) -> list[Picture]:
    if dataset is None:
        raise MammoprepError(
            f"Loose files have no ground truth to prompt at. Say --prompts {GRID} or --prompts {DETECTIONS}RUN."
        )
    images = {image.id: image for image in dataset.images}
    named = {category.name: place for place, category in enumerate(categories) if category.isthing}
    first = min(named.values())
    places = {category.id: named.get(category.name, first) for category in dataset.things}
    return [replace(each, prompts=partial(_truth, dataset.root, images[each.id], places, first)) for each in pictures]


def _truth(root: Path, image: Image, places: Mapping[int, int], first: int) -> Prompts:
    """Give a point for each lesion of the ground truth, or the image's centre; `places` by category id."""
    ids = panoptic.read_ids(root / "panoptic" / f"{image.name}.png")
    lesions = [each for each in image.segments if each.category_id in places and not each.iscrowd]
    points = [centre(ids == each.id) for each in lesions]
    labels = [places[each.category_id] for each in lesions]
    return _prompts(points or [(0.5, 0.5)], labels or [first])


def _at_detections(pictures: Sequence[Picture], source: Path, *, categories: Sequence[Category]) -> Prompted:
    """Prompt at the detections of a RUN, on its validation images, or of PREDICTIONS; images go by their names."""
    folders = sorted(source.glob("fold-*/predictions")) if (source / "run.json").is_file() else [source]
    if not source.is_dir() or not folders:
        raise MissingFileError(
            source, hint=f"{DETECTIONS} needs a RUN with predictions, or PREDICTIONS, whose lesions are the prompts."
        )
    found: dict[str, list[Instance]] = {}
    for folder in folders:
        if knows_truth(folder):
            raise MammoprepError(
                f"{folder} was itself predicted with prompts from the ground truth. Name a model's that found its own."
            )
        found |= _detections(folder, categories=categories)
    if not any(found.values()):
        raise MammoprepError(f"{source} holds no detection at all, so there is nothing to prompt at. Name another RUN.")
    for picture in pictures:
        if picture.name not in found:
            raise MammoprepError(
                f"{source} holds no prediction of {picture.name}. Predict the same images with it first, and name those"
                " PREDICTIONS."
            )
    listed = [replace(each, prompts=partial(_detected, found[each.name])) for each in pictures]
    hashes = [panoptic.file_hash(folder / "instances.json") for folder in folders]
    return Prompted(listed, {"prompts": DETECTIONS.rstrip(":"), "detections": hashes})


def _detections(folder: Path, *, categories: Sequence[Category]) -> dict[str, list[Instance]]:
    """Give the detections by image, with places among the categories; classes go by their names."""
    said = panoptic.load(folder)
    places = {category.name: place for place, category in enumerate(categories) if category.isthing}
    classes = {each.id: places[each.name] for each in said.categories if each.isthing and each.name in places}
    if lacking := sorted({each.name for each in said.things} ^ places.keys()):
        raise MammoprepError(f"{folder} has other lesion classes than the run: {', '.join(lacking)}. Name another RUN.")
    images = {image.id: image for image in said.images}
    found: dict[str, list[Instance]] = {image.name: [] for image in said.images}

    def size_of(number: int) -> tuple[int, int] | None:
        return (images[number].height, images[number].width) if number in images else None

    for number, instance in read_results(folder, size_of=size_of, classes=classes):
        found[images[number].name].append(instance)
    return found


def _detected(instances: Sequence[Instance]) -> Prompts:
    """Give a point for each detection, and its score; what is empty has no point."""
    masks = [(panoptic.decode_rle(each.code), each) for each in instances]
    filled = [(mask, each) for mask, each in masks if mask.any()]
    made = _prompts([centre(mask) for mask, _ in filled], [each.category_id for _, each in filled])
    return replace(made, scores=torch.tensor([min(max(each.score, 0.0), 1.0) for _, each in filled]))


def _prompts(points: Sequence[tuple[float, float]], labels: Sequence[int]) -> Prompts:
    return Prompts(torch.tensor(points, dtype=torch.float32).reshape(-1, 2), torch.tensor(labels, dtype=torch.long))


def centre(mask: Mask) -> tuple[float, float]:
    """Give the pixel (x, y) of a mask (H, W) that is farthest from its edge, as shares of the image.

    It is the maximum of the Euclidean distance transform, the first of equals; the image's border is an edge too.
    """
    x, y, width, height = panoptic.mask_box(mask)
    distances: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask[y : y + height, x : x + width], 1))
    row, column = np.unravel_index(int(distances.argmax()), distances.shape)
    return (x + float(column) - 0.5) / mask.shape[1], (y + float(row) - 0.5) / mask.shape[0]
