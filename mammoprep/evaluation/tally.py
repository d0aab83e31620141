"""One pass over the PNGs: what every score is made of, image by image; tallies add."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic, parallel
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import inputs
from mammoprep.evaluation.cases import Case, Facts
from mammoprep.evaluation.detections import Ranking, rank
from mammoprep.evaluation.inputs import Inputs
from mammoprep.evaluation.matching import VOID, Scene, overlaps, scenes
from mammoprep.panoptic import LEFT_OUT, Category, Image, Runs

CHUNK = 16
"""Images that one call takes: enough that setting up COCOeval does not count, few enough to share among workers."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageTally:
    """What one image adds to the scores, by category id; None where the piece is not given.

    `annotated` counts the true segments, crowds left out. `scenes` and `rankings` have all thing classes as one under
    LESION. `confusion` (C + 1, C + 1) counts the pixels of each true and predicted class, in the order of the
    categories from 1 on, 0 being none; true void and crowds are left out. `missing`: scored as if nothing had been
    predicted. `lesion_free`: no thing is annotated, and by cases.csv none was left out.
    """

    image_id: int
    name: str
    facts: Facts
    annotated: Mapping[int, int]
    lesion_free: bool
    missing: bool
    scenes: Mapping[int, Scene] | None
    rankings: Mapping[int, Ranking] | None
    confusion: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The images tallied, in the order of their ids; `not_given` says why a piece cannot be scored."""

    categories: tuple[Category, ...]
    not_given: Mapping[str, str]
    images: Iterable[ImageTally]

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
    across: bool = False,
    workers: parallel.Workers = parallel.ONE,
    on_progress: Callable[[int, int], None] | None = None,
    keep: bool = True,
    skip: int = 0,
) -> Tally:
    """Compare PREDICTIONS with a DATASET, or with those of its images that `image_ids` names.

    An image without a prediction, or with a PNG that cannot be read, raises MammoprepError; with `missing_as_empty`
    it is scored as if nothing had been predicted. With `across` lesion classes that the two do not share are one.
    Without `keep` the images are made while they are gone through, which is possible once, so that no more than some
    are in memory. The first `skip` images are left out.
    """
    if workers.cluster:  # whose workers stand in other folders
        dataset, predictions = dataset.resolve(), predictions.resolve()
    content, cases = inputs.load(
        dataset, predictions, image_ids=image_ids, missing_as_empty=missing_as_empty, across=across
    )
    work = partial(_tally_cases, content, missing_as_empty=missing_as_empty)
    chunks = parallel.batched(islice(cases, skip, None), CHUNK)
    done = parallel.each(work, chunks, workers=workers, killed=_refuse_killer)
    images = (image for some in _reported(done, (skip, len(cases)), on_progress) for image in some)
    return Tally(content.dataset.categories, content.not_given, tuple(images) if keep else images)


def _reported(
    done: Iterable[list[ImageTally]], place: tuple[int, int], on_progress: Callable[[int, int], None] | None
) -> Iterator[list[ImageTally]]:
    count, total = place
    for some in done:
        count += len(some)
        if on_progress:
            on_progress(count, total)
        yield some


def _refuse_killer(cases: Sequence[Case]) -> NoReturn:
    raise parallel.killer(f"One of the images from {cases[0].truth.name} to {cases[-1].truth.name}")


def _tally_cases(content: Inputs, cases: Sequence[Case], *, missing_as_empty: bool) -> list[ImageTally]:
    rankings: Sequence[Mapping[int, Ranking] | None] = [None] * len(cases)
    things = {category.id for category in content.dataset.things}
    if "instances" in content.given:
        rankings = rank([(case.lesions, case.detections) for case in cases], things=things)
    return [
        _tally_case(content, case, ranking, missing_as_empty) for case, ranking in zip(cases, rankings, strict=True)
    ]


def _tally_case(
    content: Inputs, case: Case, rankings: Mapping[int, Ranking] | None, missing_as_empty: bool
) -> ImageTally:
    compared, confusion, missing = None, None, False
    if content.given & {"panoptic", "semantic"}:
        truth = panoptic.read_id_runs(_panoptic_png(content.dataset.root, case.truth))
    if "panoptic" in content.given:
        path = _panoptic_png(content.predictions, case.truth)
        ids = _attempt(
            panoptic.read_id_runs, path, listed=case.predicted is not None, missing_as_empty=missing_as_empty
        )
        compared, missing = _compare(content, case, truth, ids), ids is None
    if "semantic" in content.given:
        path = Path(f"{content.predictions}/semantic/{case.truth.name}.png")
        labels = _attempt(panoptic.read_class_runs, path, listed=True, missing_as_empty=missing_as_empty)
        confusion, missing = _confuse(content, case, truth, labels), missing or labels is None
    things = {category.id for category in content.dataset.things}
    return ImageTally(
        image_id=case.truth.id,
        name=case.truth.name,
        facts=case.facts,
        annotated=Counter(segment.category_id for segment in case.truth.segments if not segment.iscrowd),
        lesion_free=case.facts.lesion_free and things.isdisjoint(_classes(case)),
        missing=missing,
        scenes=compared,
        rankings=rankings,
        confusion=confusion,
    )


def _classes(case: Case) -> Iterator[int]:
    """Yield the classes that are annotated in an image."""
    yield from (segment.category_id for segment in case.truth.segments)
    yield from (lesion.category_id for lesion in case.lesions)


def _panoptic_png(root: Path, image: Image) -> Path:
    return Path(f"{root}/panoptic/{image.name}.png")  # half the time of joining


def _attempt(read: Callable[[Path], Runs], path: Path, *, listed: bool, missing_as_empty: bool) -> Runs | None:
    """Read a predicted map; None where it is missing or broken and that is to count as empty."""
    if not listed:
        return None
    try:
        return read(path)
    except MammoprepError:
        if missing_as_empty:
            return None
        raise


def _compare(content: Inputs, case: Case, truth: Runs, ids: Runs | None) -> dict[int, Scene]:
    """Compare true and predicted segments, after checking both sides' segments_info against the PNGs."""
    shared = _overlaps(content, case.truth, truth, ids)
    predicted: Sequence[panoptic.Segment] = ()
    _check_segments(content.dataset.root, case.truth, _areas(shared, side=0))
    if ids and case.predicted:
        areas = _areas(shared, side=1)
        _check_segments(content.predictions, case.predicted, areas)
        predicted = [
            replace(segment, area=areas[segment.id]) if segment.area == LEFT_OUT else segment
            for segment in case.predicted.segments
        ]
    things = [category.id for category in content.dataset.things]
    places = (truth.first_pixels, ids.first_pixels if ids else {})
    return scenes(case.truth.segments, predicted, shared, things=things, places=places)


def _confuse(content: Inputs, case: Case, truth: Runs, labels: Runs | None) -> NDArray[np.int64]:
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


def _overlaps(content: Inputs, image: Image, truth: Runs, predicted: Runs | None) -> dict[tuple[int, int], int]:
    """Count the pixels that true and predicted labels share; both maps must have the size that panoptic.json says."""
    size = (image.height, image.width)
    predicted = panoptic.blank_runs(size) if predicted is None else predicted
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
    wrong = [
        segment_id
        for segment_id in sorted(listed.keys() | shown.keys())
        if listed.get(segment_id) != shown.get(segment_id)
        and not (listed.get(segment_id) == LEFT_OUT and segment_id in shown)
    ]
    if not wrong:
        return
    said, seen = listed.get(wrong[0], 0), shown.get(wrong[0], 0)
    what = (
        "is in panoptic.json and not in the PNG"
        if said == LEFT_OUT
        else (f"has {said} pixels in panoptic.json and {seen} in the PNG")
    )
    raise MammoprepError(
        f"{root}: segment {wrong[0]} of image {image.name} {what}. Write both again from the same map."
    )
