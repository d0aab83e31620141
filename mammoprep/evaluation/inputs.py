"""What is scored: a DATASET and PREDICTIONS, checked and paired image by image."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation.detections import Instance, read_results, read_truth
from mammoprep.panoptic import LEFT_OUT, Image, Panoptic

PIECES = {"panoptic": "panoptic.json", "instances": "instances.json", "semantic": "semantic/"}
"""The three things that may be predicted, and the file or folder that holds each."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What cases.csv says of an image; a text is empty, `square_mm` NaN where it says nothing.

    `square_mm`: mm² of a stored pixel; `lesion_free`: False where the image has a finding, be it of no class here.
    """

    patient_id: str = ""
    view: str = ""
    density: str = ""
    manufacturer: str = ""
    square_mm: float = nan
    lesion_free: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One image of the data set and what is predicted for it.

    `predicted` is None where the panoptic predictions lack the image; its segments carry the data set's category ids.
    """

    truth: Image
    predicted: Image | None
    lesions: tuple[Instance, ...]
    detections: tuple[Instance, ...]
    facts: Facts


@dataclass(frozen=True, slots=True)
class Inputs:
    """All cases, ready to be tallied.

    `renumber` maps the predictions' category ids to the data set's; `not_given` says why a piece cannot be scored.
    """

    dataset: Panoptic
    predictions: Path
    renumber: Mapping[int, int]
    not_given: Mapping[str, str]
    cases: tuple[Case, ...]

    @property
    def given(self) -> set[str]:
        """Give the pieces that can be scored."""
        return PIECES.keys() - self.not_given.keys()


def load(dataset: Path, predictions: Path, *, image_ids: Collection[int] | None, missing_as_empty: bool) -> Inputs:
    """Load and check all but the PNGs; `image_ids` chooses images of the data set, None all.

    Raises MammoprepError where the two do not belong together, or an image has no prediction.
    """
    truth = panoptic.load(dataset)
    _check(truth)
    not_given = _not_given(dataset, predictions)
    images = _chosen(truth, image_ids)
    renumber, predicted = _read_panoptic(truth, predictions, given="panoptic" not in not_given)
    lesions, detections = _read_instances(truth, predictions, renumber, given="instances" not in not_given)
    names = {path.stem for path in (predictions / PIECES["semantic"]).glob("*.png")}
    _check_known(predictions / PIECES["semantic"], names, truth)
    if not missing_as_empty:
        listed = {"panoptic": {image.name for image in predicted.values()}, "semantic": names}
        for piece in (piece for piece in listed if piece not in not_given):
            _check_complete(predictions / PIECES[piece], images, listed[piece])
    facts = _facts(dataset)
    cases = tuple(
        Case(
            truth=image,
            predicted=predicted.get(image.id),
            lesions=tuple(lesions.get(image.id, ())),
            detections=tuple(detections.get(image.id, ())),
            facts=facts.get(image.name, Facts()),
        )
        for image in images
    )
    return Inputs(truth, predictions, renumber, not_given, cases)


def _check(content: Panoptic, *, area_optional: bool = False) -> None:
    """Refuse ids that are no whole numbers or stand twice, and classes that are not listed or share a name."""
    path = content.root / "panoptic.json"
    for what, entries in (("category", content.categories), ("image", content.images)):
        _check_ids(path, what, [entry.id for entry in entries])
        _check_unique(path, f"{what} name", [entry.name for entry in entries])
    classes = {category.id for category in content.categories}
    for image in content.images:
        _check_ids(path, f"segment of image {image.name}", [segment.id for segment in image.segments])
        areas = (segment.area for segment in image.segments)
        sizes = (image.height, image.width, *(n for n in areas if not (area_optional and n == LEFT_OUT)))
        if not all(type(size) is int and size > 0 for size in sizes):
            raise MammoprepError(f"{path}: image {image.name} has a size or area that is no whole number above 0.")
        unknown = [segment.category_id for segment in image.segments if segment.category_id not in classes]
        if unknown:
            raise MammoprepError(f"{path}: image {image.name} has category {unknown[0]!r}, which is not listed.")


def _check_ids(path: Path, what: str, ids: Sequence[int]) -> None:
    for number in ids:
        if type(number) is not int or number < 1:
            raise MammoprepError(f"{path} has the {what} {number!r}. Ids are whole numbers above 0.")
    _check_unique(path, what, ids)


def _check_unique(path: Path, what: str, keys: Sequence[int | str]) -> None:
    twice = [key for key, number in Counter(keys).items() if number > 1]
    if twice:
        raise MammoprepError(f"{path} has the {what} {twice[0]!r} twice. Write it once.")


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


def _chosen(truth: Panoptic, image_ids: Collection[int] | None) -> tuple[Image, ...]:
    path = truth.root / "panoptic.json"
    chosen = tuple(image for image in truth.images if image_ids is None or image.id in image_ids)
    unknown = set(image_ids or ()) - {image.id for image in chosen}
    if unknown:
        raise MammoprepError(f"{path} has no image {min(unknown)}. Make the folds of this data set again.")
    if not chosen:
        raise MammoprepError(f"{path} gives no image to score. Convert the data set again.")
    return chosen


def _read_panoptic(truth: Panoptic, predictions: Path, *, given: bool) -> tuple[dict[int, int], dict[int, Image]]:
    """Give the map of category ids and the predicted images by id, their segments renumbered."""
    if not given:
        return {category.id: category.id for category in truth.categories}, {}
    content = panoptic.load(predictions)
    _check(content, area_optional=True)
    renumber = _renumbering(truth, content)
    names = {image.id: image.name for image in truth.images}
    for image in content.images:
        if names.get(image.id) != image.name:
            raise MammoprepError(
                f"{content.root / 'panoptic.json'}: image {image.id} ({image.name}) is not in {truth.root}. "
                "Name the data set that was predicted."
            )
    return renumber, {image.id: _renumbered(image, renumber) for image in content.images}


def _renumbering(truth: Panoptic, predicted: Panoptic) -> dict[int, int]:
    ours, theirs = ({category.name: category.id for category in side.categories} for side in (truth, predicted))
    for root, lacking in ((predicted.root, ours.keys() - theirs.keys()), (truth.root, theirs.keys() - ours.keys())):
        if lacking:
            names = ", ".join(map(repr, sorted(lacking)))
            raise MammoprepError(f"{root / 'panoptic.json'} lacks the category {names}. Both must list the same names.")
    return {theirs[name]: ours[name] for name in ours}


def _renumbered(image: Image, renumber: Mapping[int, int]) -> Image:
    if all(theirs == ours for theirs, ours in renumber.items()):
        return image
    segments = (replace(segment, category_id=renumber[segment.category_id]) for segment in image.segments)
    return replace(image, segments=tuple(segments))


def _read_instances(
    truth: Panoptic, predictions: Path, renumber: Mapping[int, int], *, given: bool
) -> tuple[dict[int, list[Instance]], dict[int, list[Instance]]]:
    """Give the lesions and the detections of each image id."""
    if not given:
        return {}, {}
    images = {image.id: image for image in truth.images}
    lesions = read_truth(truth.root, images=images, classes={category.id: category.id for category in truth.categories})
    return lesions, read_results(predictions, images=images, classes=renumber)


def _check_known(path: Path, names: Collection[str], truth: Panoptic) -> None:
    strange = sorted(set(names) - {image.name for image in truth.images})
    if strange:
        raise MammoprepError(
            f"{path}: image {strange[0]} is not in {truth.root}. Name the data set that was predicted."
        )


def _check_complete(path: Path, images: Sequence[Image], names: Collection[str]) -> None:
    missing = [image.name for image in images if image.name not in names]
    if missing:
        raise MammoprepError(
            f"{path} has no prediction for {len(missing)} of {len(images)} images, the first is {missing[0]}. "
            "Say --missing-as-empty to count their lesions as missed, or name a RUN to score its validation images."
        )


def _facts(dataset: Path) -> dict[str, Facts]:
    """Read cases.csv, where there is one: facts by image name."""
    if not (dataset / "cases.csv").is_file():
        return {}
    return {
        row.get("image_id", ""): Facts(
            patient_id=row.get("patient_id") or "",
            view=row.get("view") or "",
            density=row.get("density") or "",
            manufacturer=row.get("manufacturer") or "",
            square_mm=_square_mm(row),
            lesion_free=row.get("lesion_free") != "0",
        )
        for row in panoptic.load_cases(dataset)
    }


def _square_mm(row: Mapping[str, str]) -> float:
    """Give the area of a stored pixel: a native one has `pixel_spacing_mm` squared, stored = native · scale."""
    try:
        spacing, right, down = (float(row[name]) for name in ("pixel_spacing_mm", "scale_x", "scale_y"))
        area = spacing * spacing / (right * down)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return nan
    return area if isfinite(area) and area > 0 else nan
