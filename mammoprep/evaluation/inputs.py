"""What is scored: a DATASET and PREDICTIONS, checked and paired image by image."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, nan
from pathlib import Path
from typing import Any, NoReturn

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation import classes
from mammoprep.evaluation.cases import LARGEST, PREDICTED, TRUTH, Cases, Facts
from mammoprep.evaluation.detections import read_results, read_truth
from mammoprep.panoptic import LEFT_OUT, Category, Image, Listed, Panoptic

PIECES = {"panoptic": "panoptic.json", "instances": "instances.json", "semantic": "semantic/"}
"""The three things that may be predicted, and the file or folder that holds each."""
STUFF_PLACES = ("stuff.per_class.{}.PQ", "stuff.dice.{}", "stuff.iou.{}")
"""Where scores.json has what is said of a stuff class."""
ONE_SIDED = "only one of the two collections has this class"
"""Why a class cannot be right."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is compared, the images apart: `dataset` has the classes alone.

    `renumber` maps the predictions' category ids to those of `dataset`; `not_given` says why a piece, or a class by its
    places in scores.json, cannot be scored.
    """

    dataset: Panoptic
    predictions: Path
    renumber: Mapping[int, int]
    not_given: Mapping[str, str]

    @property
    def given(self) -> set[str]:
        """Give the pieces that can be scored."""
        return PIECES.keys() - self.not_given.keys()


def load(
    dataset: Path,
    predictions: Path,
    *,
    image_ids: Collection[int] | None,
    missing_as_empty: bool,
    across: bool = False,
) -> tuple[Inputs, Cases]:
    """Load and check all but the PNGs; `image_ids` chooses images of the data set, None all.

    With `across` the predictions may have the classes of another collection (`classes.across`).
    Raises MammoprepError where the two do not belong together, or an image has no prediction.
    """
    cases = Cases()
    truth = Panoptic(dataset, _read_panoptic(dataset, cases, side=TRUTH), ())
    not_given = _not_given(dataset, predictions)
    _choose(dataset, cases, image_ids)
    agreed = classes.by_name(truth, truth)
    if "panoptic" not in not_given:
        theirs = Panoptic(predictions, _read_panoptic(predictions, cases, side=PREDICTED), ())
        agreed = classes.across(truth.categories, theirs.categories) if across else classes.by_name(truth, theirs)
        not_given |= {place.format(name): ONE_SIDED for name in agreed.one_sided for place in STUFF_PLACES}
        if stray := cases.stray_prediction():
            _refuse_stray(predictions / "panoptic.json", f"image {stray[0]} ({stray[1]})", dataset)
    if "instances" not in not_given:
        size_of = lru_cache(64)(cases.size_of)
        cases.add_instances(TRUTH, read_truth(dataset, size_of=size_of, classes=agreed.truth))
        cases.add_instances(PREDICTED, read_results(predictions, size_of=size_of, classes=agreed.predicted))
    _read_semantic(predictions / PIECES["semantic"], cases, dataset)
    if not missing_as_empty:
        for piece in ("panoptic", "semantic"):
            if piece not in not_given:
                _check_complete(predictions / PIECES[piece], cases, piece)
    cases.add_facts(_facts(dataset))
    cases.renumber = (agreed.truth, agreed.predicted)
    return Inputs(Panoptic(dataset, agreed.categories, ()), predictions, agreed.predicted, not_given), cases


def _read_panoptic(root: Path, cases: Cases, *, side: int) -> tuple[Category, ...]:
    """Take images and segments in, and give the classes in the order of their ids.

    Refuses ids that are no whole numbers or stand twice, and classes that are not listed or share a name.
    """
    path = root / "panoptic.json"
    categories: list[Category] = []
    used: dict[int, int] = {}
    for found in panoptic.read(root):
        if isinstance(found, Category):
            categories.append(found)
        elif isinstance(found, Image):
            _add_image(path, found, cases, side)
        else:
            _add_segments(root, found, cases, side)
            used |= dict.fromkeys((segment.category_id for segment in found.segments), found.image_id)
    if cases.stray_segments(side):
        raise panoptic.not_one_each(root)
    _check_ids(path, "category", [category.id for category in categories])
    _check_unique(path, "category name", [category.name for category in categories])
    if unlisted := used.keys() - {category.id for category in categories}:
        _refuse_category(path, cases.name_of(side, used[min(unlisted)]), min(unlisted))
    return tuple(sorted(categories, key=lambda category: category.id))


def _add_image(path: Path, image: Image, cases: Cases, side: int) -> None:
    _check_ids(path, "image", [image.id])
    _check_sizes(path, image.name, (image.height, image.width))
    if known := cases.add_image(side, image):
        what = f"{known} {image.id if known == 'image' else image.name!r}"
        raise MammoprepError(f"{path} has the {what} twice. Write it once.")


def _add_segments(root: Path, listed: Listed, cases: Cases, side: int) -> None:
    path, number = root / "panoptic.json", listed.image_id
    if type(number) is not int or not 0 < number <= LARGEST:
        raise panoptic.not_one_each(root)
    name = cases.name_of(side, number)
    _check_ids(path, f"segment of image {name}", [segment.id for segment in listed.segments])
    _check_sizes(path, name, (s.area for s in listed.segments if not (side == PREDICTED and s.area == LEFT_OUT)))
    for segment in listed.segments:
        if type(segment.category_id) is not int:
            _refuse_category(path, name, segment.category_id)
    if not cases.add_segments(side, number, listed.segments):
        raise panoptic.not_one_each(root)


def _refuse_category(path: Path, image: str, category: Any) -> NoReturn:
    raise MammoprepError(f"{path}: image {image} has category {category!r}, which is not listed.")


def _check_ids(path: Path, what: str, ids: Sequence[int]) -> None:
    for number in ids:
        if type(number) is not int or not 0 < number <= LARGEST:
            raise MammoprepError(f"{path} has the {what} {number!r}. Ids are whole numbers above 0.")
    _check_unique(path, what, ids)


def _check_unique(path: Path, what: str, keys: Sequence[int | str]) -> None:
    twice = [key for key, number in Counter(keys).items() if number > 1]
    if twice:
        raise MammoprepError(f"{path} has the {what} {twice[0]!r} twice. Write it once.")


def _check_sizes(path: Path, image: str, sizes: Iterable[int]) -> None:
    if not all(type(size) is int and 0 < size <= LARGEST for size in sizes):
        raise MammoprepError(f"{path}: image {image} has a size or area that is no whole number above 0.")


def _not_given(dataset: Path, predictions: Path) -> dict[str, str]:
    if not predictions.is_dir():
        raise MissingFileError(predictions, hint="Name a PREDICTIONS folder; `mammoprep predict` writes one.")
    reasons = {
        piece: f"the predictions have no {name}" for piece, name in PIECES.items() if not (predictions / name).exists()
    }
    if len(reasons) == len(PIECES):
        raise MammoprepError(f"{predictions} holds no predictions: none of {', '.join(PIECES.values())} is there.")
    if "instances" not in reasons and not (dataset / "instances.json").exists():
        reasons["instances"] = "the data set has no instances.json"
    return reasons


def _choose(dataset: Path, cases: Cases, image_ids: Collection[int] | None) -> None:
    path = dataset / "panoptic.json"
    unknown = next((number for number in image_ids or () if type(number) is not int), None)
    if unknown is None:
        unknown = cases.choose(image_ids)
    if unknown is not None:
        raise MammoprepError(f"{path} has no image {unknown}. Make the folds of this data set again.")
    if not len(cases):
        raise MammoprepError(f"{path} gives no image to score. Convert the data set again.")


def _read_semantic(folder: Path, cases: Cases, dataset: Path) -> None:
    """Take in which images have a semantic map."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        cases.add_semantic(entry.name.removesuffix(".png") for entry in entries if entry.name.endswith(".png"))
    if stray := cases.stray_semantic():
        _refuse_stray(folder, f"image {stray}", dataset)


def _refuse_stray(path: Path, what: str, dataset: Path) -> NoReturn:
    raise MammoprepError(f"{path}: {what} is not in {dataset}. Name the data set that was predicted.")


def _check_complete(path: Path, cases: Cases, piece: str) -> None:
    if lacking := cases.unpredicted(piece):
        raise MammoprepError(
            f"{path} has no prediction for {lacking[0]} of {len(cases)} images, the first is {lacking[1]}. "
            "Say --missing-as-empty to count their lesions as missed, or name a RUN to score its validation images."
        )


def _facts(dataset: Path) -> Iterator[tuple[str, Facts]]:
    """Read cases.csv, where there is one: facts by image name."""
    if not (dataset / "cases.csv").is_file():
        return
    for row in panoptic.read_cases(dataset):
        yield (
            row.get("image_id") or "",
            Facts(
                patient_id=row.get("patient_id") or "",
                view=row.get("view") or "",
                density=row.get("density") or "",
                manufacturer=row.get("manufacturer") or "",
                square_mm=_square_mm(row),
                lesion_free=row.get("lesion_free") != "0",
            ),
        )


def _square_mm(row: Mapping[str, str]) -> float:
    """Give the area of a stored pixel: a native one has `pixel_spacing_mm` squared; where mirrored, scale_x < 0."""
    try:
        spacing, right, down = (float(row[name]) for name in ("pixel_spacing_mm", "scale_x", "scale_y"))
        area = spacing * spacing / (abs(right) * down)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return nan
    return area if isfinite(area) and area > 0 else nan
