"""One pass over the PNGs: what every score is made of, image by image; tallies add."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import inputs
from mammoprep.evaluation.detections import Ranking, rank
from mammoprep.evaluation.inputs import Case, Inputs
from mammoprep.evaluation.matching import VOID, Scene, overlaps, scenes
from mammoprep.panoptic import Category, Image

Labels = NDArray[Any]
"""A map (H, W) of segment ids or of category ids."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageTally:
    """What one image adds to the scores, by category id; None where the piece is not given.

    `confusion` (C + 1, C + 1) counts the pixels of each true and predicted class, in the order of the categories from
    1 on, 0 being none; true void and crowds are left out. `missing`: scored as if nothing had been predicted.
    """

    image_id: int
    patient_id: str
    missing: bool
    scenes: Mapping[int, Scene] | None
    rankings: Mapping[int, Ranking] | None
    confusion: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The images tallied, in the order of their ids; `not_given` says why a piece cannot be scored."""

    categories: tuple[Category, ...]
    not_given: Mapping[str, str]
    images: tuple[ImageTally, ...]

    def __add__(self, other: "Tally") -> "Tally":
        """Put the images of two tallies together, in either order the same."""
        if self.categories != other.categories or self.not_given != other.not_given:
            raise MammoprepError("Tallies of other categories, or of other kinds of predictions, do not add up.")
        images = sorted((*self.images, *other.images), key=lambda image: image.image_id)
        if len({image.image_id for image in images}) < len(images):
            raise MammoprepError("Two tallies hold the same image. Add up each image once.")
        return Tally(self.categories, self.not_given, tuple(images))


def tally(
    dataset: Path,
    predictions: Path,
    *,
    image_ids: Collection[int] | None = None,
    missing_as_empty: bool = False,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tally:
    """Compare PREDICTIONS with a DATASET, or with those of its images that `image_ids` names.

    An image without a prediction, or with a PNG that cannot be read, raises MammoprepError; with `missing_as_empty`
    it is scored as if nothing had been predicted.
    """
    content = inputs.load(dataset, predictions, image_ids=image_ids, missing_as_empty=missing_as_empty)
    run = Parallel(n_jobs=workers, prefer="threads", return_as="generator")
    images: list[ImageTally] = []
    for image in run(delayed(_tally_case)(content, case, missing_as_empty) for case in content.cases):
        images.append(image)
        if on_progress:
            on_progress(len(images), len(content.cases))
    return Tally(content.dataset.categories, content.not_given, tuple(images))


def _tally_case(content: Inputs, case: Case, missing_as_empty: bool) -> ImageTally:
    compared, confusion, missing = None, None, False
    if content.given & {"panoptic", "semantic"}:
        truth = _read_ids(content.dataset.root, case.truth)
    if "panoptic" in content.given:
        ids = _attempt(_read_ids, content.predictions, case.predicted, missing_as_empty)
        compared, missing = _compare(content, case, truth, ids), ids is None
    if "semantic" in content.given:
        labels = _attempt(_read_classes, content.predictions, case.truth, missing_as_empty)
        confusion, missing = _confuse(content, case, truth, labels), missing or labels is None
    return ImageTally(
        image_id=case.truth.id,
        patient_id=case.patient_id,
        missing=missing,
        scenes=compared,
        rankings=rank(case.lesions, case.detections) if "instances" in content.given else None,
        confusion=confusion,
    )


def _attempt(
    read: Callable[[Path, Image], Labels], root: Path, image: Image | None, missing_as_empty: bool
) -> Labels | None:
    """Read a predicted map; None where it is missing or broken and that is to count as empty."""
    if image is None:
        return None
    try:
        return read(root, image)
    except MammoprepError:
        if missing_as_empty:
            return None
        raise


def _read_ids(root: Path, image: Image) -> Labels:
    return panoptic.read_ids(root / "panoptic" / f"{image.name}.png")


def _read_classes(root: Path, image: Image) -> Labels:
    path = root / "semantic" / f"{image.name}.png"
    labels = panoptic.read_png(path)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise MammoprepError(f"{path} is no grey PNG of 8 bits. It holds one category id a pixel.")
    return labels


def _compare(content: Inputs, case: Case, truth: Labels, ids: Labels | None) -> dict[int, Scene]:
    """Compare true and predicted segments, after checking both sides' segments_info against the PNGs."""
    shared = _overlaps(content, case.truth, truth, ids)
    predicted = None if ids is None else case.predicted
    _check_segments(content.dataset.root, case.truth, _areas(shared, side=0))
    if predicted:
        _check_segments(content.predictions, predicted, _areas(shared, side=1))
    return scenes(case.truth.segments, predicted.segments if predicted else (), shared)


def _confuse(content: Inputs, case: Case, truth: Labels, labels: Labels | None) -> NDArray[np.int64]:
    """Count the pixels of each true and predicted class."""
    shared = _overlaps(content, case.truth, truth, labels)
    _check_segments(content.dataset.root, case.truth, _areas(shared, side=0))
    index = {category.id: i for i, category in enumerate(content.dataset.categories, start=1)}
    rows = {segment.id: index[segment.category_id] for segment in case.truth.segments if not segment.iscrowd}
    columns = {VOID: 0, **{theirs: index[ours] for theirs, ours in content.renumber.items()}}
    counts = np.zeros((len(index) + 1, len(index) + 1), dtype=np.int64)
    for (segment_id, label), pixels in shared.items():
        if label not in columns:
            path = content.predictions / "semantic" / f"{case.truth.name}.png"
            raise MammoprepError(f"{path} has the category id {label}, which is not listed. Write its class ids again.")
        if segment_id in rows:
            counts[rows[segment_id], columns[label]] += pixels
    return counts


def _overlaps(content: Inputs, image: Image, truth: Labels, predicted: Labels | None) -> dict[tuple[int, int], int]:
    """Count the pixels that true and predicted labels share; both maps must have the size that panoptic.json says."""
    size = (image.height, image.width)
    predicted = np.zeros(size, dtype=np.uint8) if predicted is None else predicted
    for root, labels in ((content.dataset.root, truth), (content.predictions, predicted)):
        if labels.shape != size:
            shape = " x ".join(map(str, labels.shape))
            raise MammoprepError(
                f"{root}: the PNG of image {image.name} is {shape} pixels, the data set says {size[0]} x {size[1]}. "
                "Predict at the stored size."
            )
    return overlaps(truth, predicted)


def _areas(shared: Mapping[tuple[int, int], int], *, side: int) -> dict[int, int]:
    areas: dict[int, int] = {}
    for pair, pixels in shared.items():
        areas[pair[side]] = areas.get(pair[side], 0) + pixels
    return areas


def _check_segments(root: Path, image: Image, areas: Mapping[int, int]) -> None:
    """Refuse segments_info that list other segments, or other areas, than the PNG shows."""
    listed = {segment.id: segment.area for segment in image.segments}
    shown = {segment_id: area for segment_id, area in areas.items() if segment_id != VOID}
    if listed != shown:
        wrong = min(key for key in listed.keys() | shown.keys() if listed.get(key) != shown.get(key))
        raise MammoprepError(
            f"{root}: segment {wrong} of image {image.name} has {listed.get(wrong, 0)} pixels in panoptic.json and "
            f"{shown.get(wrong, 0)} in the PNG. Write both again from the same map."
        )
