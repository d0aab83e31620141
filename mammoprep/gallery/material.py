"""What a gallery is made from: a DATASET, what was predicted for it, the raw files; loaded and checked, no pixels."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from mammoprep import panoptic, pseudonyms
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.gallery.pictures import LEAST_SCORE, MOST_INSTANCES
from mammoprep.panoptic import Category, Image, Mark, Segment

PIECES = ("panoptic.json", "instances.json", "semantic", "heatmaps")
"""What PREDICTIONS may hold: one is enough."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What is predicted for an image, its classes numbered as the data set's.

    `segments` is None without a panoptic map. `detections` are COCO results: the best MOST_INSTANCES of those with a
    score of at least LEAST_SCORE.
    """

    root: Path
    segments: tuple[Segment, ...] | None = None
    detections: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """An image with its row of cases.csv, the fold that holds it out, and what is predicted for it."""

    image: Image
    row: Mapping[str, str]
    fold: int | None = None
    guess: Guess | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """The images to show, in the order of their ids; `unpredicted` counts those left out for want of a prediction.

    `raw` is the raw folder, whose windows are rendered by `window`; `links` lead from pseudonyms to its files.
    `identity` is that of the raw data, None without manifest.json; `marks` are those of the review that the DATASET was
    converted with.
    """

    dataset: Path
    categories: tuple[Category, ...]
    items: tuple[Item, ...]
    predictions: tuple[Path, ...] = ()
    unpredicted: int = 0
    raw: Path | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    window: str = "auto"
    identity: str | None = None
    marks: tuple[Mark, ...] = ()


def load(dataset: Path, predictions: Sequence[Path] = (), *, raw: Path | None = None) -> Material:
    """Load a DATASET and any number of PREDICTIONS for it; with predictions only the images that have one are shown."""
    if raw is not None and not raw.is_dir():
        raise MissingFileError(raw, hint="Name the raw folder that the DATASET was converted from.")
    truth = _load(dataset)
    guesses: dict[int, Guess] = {}
    for folder in predictions:
        guesses |= _guesses(folder, truth)
    shown = [image for image in truth.images if image.id in guesses or not predictions]
    if not shown:
        named = ", ".join(map(str, predictions)) or dataset
        raise MammoprepError(f"{named} has no image of {dataset} to show. Name the DATASET that was predicted.")
    rows, folds, manifest, review = _rows(dataset), _folds(dataset), _manifest(dataset), dataset / panoptic.REVIEW
    items = (Item(i, rows.get(i.name, {}), folds.get(i.id), guesses.get(i.id)) for i in shown)
    return Material(
        dataset,
        truth.categories,
        tuple(items),
        tuple(predictions),
        len(truth.images) - len(shown),
        raw,
        pseudonyms.read_links(dataset) if raw else {},
        str(manifest.get("options", {}).get("window", "auto")),
        panoptic.identity_of(manifest) if manifest else None,
        panoptic.load_review(review).marks if review.is_file() else (),
    )


def _load(root: Path) -> panoptic.Panoptic:
    """Load panoptic.json; refuse images that stand twice, classes that are not listed and scores that are none."""
    data, path = panoptic.load(root), root / "panoptic.json"
    known = {category.id for category in data.categories}
    for kind, keys in (("id", [i.id for i in data.images]), ("file name", [i.name for i in data.images])):
        twice = next((key for key, count in Counter(keys).items() if count > 1), None)
        if twice is not None:
            raise MammoprepError(f"{path} has the image {kind} {twice!r} twice. Write it once.")
    for image in data.images:
        if image.id < 1:
            raise MammoprepError(f"{path} has the image id {image.id!r}. Ids are whole numbers above 0.")
        for segment in image.segments:
            if segment.category_id not in known:
                raise MammoprepError(f"{path}: image {image.name} has a category that is not listed. List it.")
            if segment.score is not None and not (isinstance(segment.score, int | float) and isfinite(segment.score)):
                raise MammoprepError(f"{path}: image {image.name} has a score that is no number. Write it again.")
    return data


def _manifest(dataset: Path) -> dict[str, Any]:
    path = dataset / "manifest.json"
    content = panoptic.read_json(path, hint="Convert the data set again.") if path.is_file() else {}
    if not isinstance(content, dict) or not isinstance(content.get("options", {}), dict):
        raise MammoprepError(f"{path} was not written by `mammoprep convert`. Convert the data set again.")
    return content


def _rows(dataset: Path) -> dict[str, dict[str, str]]:
    if not (dataset / "cases.csv").is_file():
        return {}
    return {row.get("image_id") or "": row for row in panoptic.read_cases(dataset)}


def _folds(dataset: Path) -> dict[int, int]:
    """Give the first fold that holds each image out; none where there are no folds."""
    if not (dataset / "folds.json").is_file():
        return {}
    found: dict[int, int] = {}
    for number, (_, held_out) in enumerate(panoptic.load_folds(dataset)):
        for image in held_out:
            found.setdefault(image, number)
    return found


def _guesses(folder: Path, truth: panoptic.Panoptic) -> dict[int, Guess]:
    """Give what PREDICTIONS hold, by image id; images are known by name, in a result list by id."""
    if not folder.is_dir():
        raise MissingFileError(folder, hint="Name a PREDICTIONS folder; `mammoprep predict` writes one.")
    if not any((folder / piece).exists() for piece in PIECES):
        raise MammoprepError(f"{folder} holds no predictions: none of {', '.join(PIECES)} is there.")
    ids = {image.name: image.id for image in truth.images}
    renumber = {category.id: category.id for category in truth.categories}
    guesses: dict[int, Guess] = {}
    if (folder / "panoptic.json").exists():
        predicted = _load(folder)
        renumber = _renumbering(predicted, truth)
        for image in predicted.images:
            if image.name in ids:
                segments = tuple(replace(s, category_id=renumber[s.category_id]) for s in image.segments)
                guesses[ids[image.name]] = Guess(folder, segments)
    for name in {path.stem for piece in PIECES[2:] for path in (folder / piece).glob("*.png")} & ids.keys():
        guesses.setdefault(ids[name], Guess(folder))
    if (folder / "instances.json").exists():
        for number, detections in _detections(folder, renumber, set(ids.values())):
            guesses[number] = replace(guesses.get(number, Guess(folder)), detections=detections)
    return guesses


def _renumbering(predicted: panoptic.Panoptic, truth: panoptic.Panoptic) -> dict[int, int]:
    """Map the predictions' category ids to the data set's, by name."""
    ours = {category.name: category.id for category in truth.categories}
    strange = [category.name for category in predicted.categories if category.name not in ours]
    if strange:
        raise MammoprepError(
            f"{predicted.root / 'panoptic.json'} has the category {strange[0]!r}, which {truth.root} lacks. "
            "Name the DATASET that was predicted."
        )
    return {category.id: ours[category.name] for category in predicted.categories}


def _detections(
    folder: Path, renumber: Mapping[int, int], ids: set[int]
) -> Iterator[tuple[int, tuple[Mapping[str, Any], ...]]]:
    """Yield the best detections of each image, the best first; of a list of any length few are in memory."""
    path = folder / "instances.json"
    wrong = f"{path} is no COCO result list. `mammoprep predict` writes PREDICTIONS for a DATASET."
    best: dict[int, list[tuple[float, int, Mapping[str, Any]]]] = defaultdict(list)
    try:
        entries = panoptic.read_entries(path, hint="It holds the COCO instances.", wrong=wrong)
        for place, (_, entry) in enumerate(entries):
            number, score = entry["image_id"], float(entry["score"])
            if not isfinite(score):
                raise ValueError("a score is no number")
            if number in ids and score >= LEAST_SCORE:
                known = {**entry, "category_id": renumber[entry["category_id"]]}
                add = heapq.heappush if len(best[number]) < MOST_INSTANCES else heapq.heappushpop
                add(best[number], (score, -place, known))
    except (KeyError, TypeError, ValueError) as error:
        raise MammoprepError(wrong) from error
    for number, found in best.items():
        yield number, tuple(entry for *_, entry in sorted(found, key=lambda each: each[:2], reverse=True))
