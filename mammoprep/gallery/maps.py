"""Whose segment each pixel is: a map of an image as it is stored, with areas that are the map's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.gallery.material import Guess
from mammoprep.panoptic import Ids, Image, Mask, Rle, Runs, Segment


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Segments and the map (H, W) of their ids, also as runs; areas and boxes are the map's."""

    segments: tuple[Segment, ...]
    ids: Ids
    runs: Runs

    def mask_of(self, segment: Segment) -> Mask:
        """Give a segment's mask (H, W)."""
        mask: Mask = self.ids == segment.id
        return mask


def read(root: Path, image: Image, segments: Sequence[Segment]) -> Map:
    """Read an image's map of segment ids from a DATASET or PREDICTIONS."""
    runs = panoptic.read_id_runs(root / "panoptic" / f"{image.name}.png")
    check_size(root, image, runs.shape)
    return _measured(root, image, segments, runs)


def read_predicted(guess: Guess, image: Image) -> tuple[Map | None, bool]:
    """Read what is predicted from the panoptic map, else from `semantic`; tell whether it was the panoptic map.

    A class of a semantic map is taken for one segment. None where there is neither.
    """
    if guess.segments is not None:
        return read(guess.root, image, guess.segments), True
    path = guess.root / "semantic" / f"{image.name}.png"
    if not path.is_file():
        return None, False
    runs = panoptic.read_class_runs(path)
    check_size(guess.root, image, runs.shape)
    segments = [Segment(label, label, 0, (0, 0, 0, 0)) for label in runs.labels.tolist() if label]
    return _measured(guess.root, image, segments, runs), False


def _measured(root: Path, image: Image, segments: Sequence[Segment], runs: Runs) -> Map:
    lengths = np.diff(runs.starts, append=runs.shape[0] * runs.shape[1])
    ids = np.repeat(runs.labels[runs.index], lengths).reshape(runs.shape).astype(np.int32)
    areas = np.bincount(runs.index, weights=lengths).astype(int).tolist()
    found = dict(zip(runs.labels.tolist(), areas, strict=True))
    absent = next((segment.id for segment in segments if segment.id not in found), None)
    if absent is not None:
        raise MammoprepError(
            f"{root}: segment {absent} of image {image.name} has no pixel in its PNG. Write both again from one map."
        )
    boxes = dict(_boxes(runs, lengths))
    return Map(tuple(replace(s, area=found[s.id], bbox=boxes[s.id]) for s in segments), ids, runs)


def _boxes(runs: Runs, lengths: np.ndarray) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Yield the box [x, y, w, h] of each value."""
    width = runs.shape[1]
    top, left = np.divmod(runs.starts, width)
    bottom, right = np.divmod(runs.starts + lengths - 1, width)
    wraps = bottom > top
    left, right = np.where(wraps, 0, left), np.where(wraps, width - 1, right)
    for place, label in enumerate(runs.labels.tolist()):
        own = runs.index == place
        x, y = int(left[own].min()), int(top[own].min())
        yield label, (x, y, int(right[own].max()) - x + 1, int(bottom[own].max()) - y + 1)


def read_detection(guess: Guess, result: Mapping[str, Any], image: Image) -> Mask:
    """Give the mask (H, W) of an entry of a COCO result list."""
    path, code = guess.root / "instances.json", result.get("segmentation")
    try:
        if not isinstance(code, dict):
            raise TypeError("no run-length code")
        panoptic.run_lengths(cast(Rle, code))
    except (KeyError, TypeError, ValueError) as error:
        raise MammoprepError(
            f"{path}: a detection of image {image.name} has no readable mask ({error}). It holds COCO's compressed RLE."
        ) from error
    mask = panoptic.decode_rle(cast(Rle, code))
    check_size(guess.root, image, mask.shape)
    return mask


def check_size(root: Path, image: Image, shape: tuple[int, ...]) -> None:
    """Refuse pixels of another size than panoptic.json says."""
    if shape != (image.height, image.width):
        shown = " x ".join(map(str, shape))
        raise MammoprepError(
            f"{root}: the pixels of image {image.name} are {shown}, the data set says {image.height} x {image.width}. "
            "Write it at that size."
        )
