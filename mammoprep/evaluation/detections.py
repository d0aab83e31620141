"""COCO instances and result lists: read, check, match by COCOeval, average precision."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import LESION, THRESHOLDS
from mammoprep.panoptic import Mask, Rle

MAX_DETECTIONS = 100
SizeOf = Callable[[int], tuple[int, int] | None]
"""Gives the height and width of an image by its id, None where there is none."""
_CODES = 512
"""Run-length codes that are checked at a time."""
_HINT = "It holds the COCO instances."
_MOST_DIGITS = 7
"""Digits of 5 bits that a run of any image may have."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A true lesion, or a detection with its score."""

    category_id: int
    code: Rle
    crowd: bool = False
    score: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """COCOeval's matches of one class in one image.

    `scores` (D,) in falling order, `matched` and `ignored` (T, D) at each threshold; `truths` without the crowds.
    """

    scores: NDArray[np.float64]
    matched: Mask
    ignored: Mask
    truths: int


def read_truth(root: Path, *, size_of: SizeOf, classes: Mapping[int, int]) -> Iterator[tuple[int, Instance]]:
    """Yield (image id, lesion) from instances.json of a DATASET; `classes` maps category ids to the data set's."""
    path = root / "instances.json"
    wrong = f"{path} is no COCO ground truth. Name the DATASET first, then the PREDICTIONS."
    entries = panoptic.read_entries(path, ("annotations",), hint=_HINT, wrong=wrong)
    return _checked(path, (entry for _, entry in entries), size_of=size_of, classes=classes, scored=False)


def read_results(root: Path, *, size_of: SizeOf, classes: Mapping[int, int]) -> Iterator[tuple[int, Instance]]:
    """Yield (image id, detection) from instances.json of PREDICTIONS, in the order of the list."""
    path = root / "instances.json"
    wrong = f"{path} is no COCO result list. `mammoprep predict` writes PREDICTIONS for a DATASET."
    entries = panoptic.read_entries(path, hint=_HINT, wrong=wrong)
    return _checked(path, (entry for _, entry in entries), size_of=size_of, classes=classes, scored=True)


def _checked(
    path: Path, entries: Iterable[Any], *, size_of: SizeOf, classes: Mapping[int, int], scored: bool
) -> Iterator[tuple[int, Instance]]:
    """Check each entry against its image, and the run-length codes of some at a time."""
    numbered = enumerate(entries, start=1)
    while some := [
        (position, _instance(path, position, entry, size_of=size_of, classes=classes, scored=scored))
        for position, entry in islice(numbered, _CODES)
    ]:
        codes = [instance.code for _, (_, instance) in some]
        pixels = [code["size"][0] * code["size"][1] for code in codes]
        wrong = np.flatnonzero(~covers([code["counts"] for code in codes], pixels))
        if wrong.size:
            _refuse(path, some[int(wrong[0])][0], "has a broken RLE: its runs do not add up to the image")
        yield from (found for _, found in some)


def _instance(
    path: Path, position: int, entry: Any, *, size_of: SizeOf, classes: Mapping[int, int], scored: bool
) -> tuple[int, Instance]:
    if scored and (not isinstance(entry, dict) or not _is_finite(entry.get("score"))):
        _refuse(path, position, "has no finite score")
    if not isinstance(entry, dict) or not {"image_id", "category_id", "segmentation"} <= entry.keys():
        _refuse(path, position, "lacks image_id, category_id or segmentation")
    number, category, code = (entry[key] for key in ("image_id", "category_id", "segmentation"))
    size = size_of(number) if type(number) is int else None
    if size is None:
        _refuse(path, position, f"has the image_id {number!r}, which panoptic.json does not list")
    if type(category) is not int or category not in classes:
        _refuse(path, position, f"has the category_id {category!r}, which panoptic.json does not list")
    if not _is_code(code):
        _refuse(path, position, "has a segmentation that is no compressed RLE")
    if code["size"] != [*size]:
        _refuse(path, position, f"has a mask of {code['size']}, its image is {[*size]}")
    crowd, score = bool(entry.get("iscrowd", 0)), float(entry["score"]) if scored else 1.0
    return number, Instance(classes[category], code, crowd, score)


def _refuse(path: Path, position: int, problem: str) -> NoReturn:
    raise MammoprepError(f"{path}: entry {position} {problem}. Write the file again.")


def _is_finite(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)


def _is_code(code: Any) -> bool:
    return (
        isinstance(code, dict)
        and isinstance(code.get("size"), list)
        and isinstance(code.get("counts"), str)
        and code["counts"].isascii()
    )


def covers(codes: Sequence[str], pixels: Sequence[int]) -> Mask:
    """Tell of each compressed run-length code whether it covers so many pixels; pycocotools crashes where not.

    A run is a signed number of 5-bit digits, least first, each + 48 in ASCII, 32 added to all but the last; from the
    fourth on it is the difference to the run two before (pycocotools, maskApi.c).
    """
    if not codes:
        return np.zeros(0, dtype=bool)
    texts = [code.encode("utf-8") for code in codes]
    good: Mask = np.array([bool(text) and not text[-1] - 48 & 32 for text in texts], dtype=bool)
    texts = [text if fine else b"0" for text, fine in zip(texts, good, strict=True)]
    digits = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    behind = np.cumsum([len(text) for text in texts], dtype=np.intp)  # each code
    ends = np.flatnonzero(digits & 32 == 0)  # of the runs
    each = np.diff(np.searchsorted(ends, behind), prepend=0)  # runs of a code
    code_of = np.repeat(np.arange(len(texts)), each)
    starts = np.concatenate(([0], ends[:-1] + 1))[: ends.size]
    sizes = ends - starts + 1
    good[code_of[sizes > _MOST_DIGITS]] = False
    good[np.searchsorted(behind, np.flatnonzero((digits < 0) | (digits > 63)), side="right")] = False
    places = np.arange(digits.size) - np.repeat(starts, sizes)
    runs = np.add.reduceat((digits & 31) << 5 * np.minimum(places, _MOST_DIGITS), starts)
    runs -= np.where(digits[ends] & 16, 1 << 5 * np.minimum(sizes, _MOST_DIGITS), 0)
    lengths = _undo_differences(runs, each)
    good[code_of[lengths < 0]] = False
    good &= np.bincount(code_of, weights=lengths, minlength=len(texts)) == np.asarray(pixels)
    return good


def _undo_differences(runs: NDArray[np.int64], each: NDArray[np.intp]) -> NDArray[np.int64]:
    """Give the lengths of runs stored, from the fourth of a code on, as the difference to the one two before.

    So the second, fourth … run of a code are sums of one chain, the third, fifth … of another. `each`: runs of a code.
    """
    first = np.cumsum(each) - each
    number = np.arange(runs.size) - np.repeat(first, each)  # of the run in its code
    lengths = np.where(number == 0, runs, 0)
    for parity in (0, 1):
        chain = (number % 2 == parity) & (number > 0)
        sums = np.cumsum(np.where(chain, runs, 0))
        lengths += np.where(chain, sums - np.repeat(sums[first], each), 0)
    return lengths


def rank(
    images: Sequence[tuple[Sequence[Instance], Sequence[Instance]]], *, things: Set[int]
) -> list[dict[int, Ranking]]:
    """Match the detections of each image, given as (lesions, detections), by COCOeval at every threshold.

    Gives each image's rankings by category id, and under LESION that of all `things` as one class. COCOeval is shown
    only detections that overlap a lesion: no others can match, nor keep these from it.
    """
    rankings: list[dict[int, Ranking]] = [{} for _ in images]
    touching: list[_Touching] = []
    for found, sides in zip(rankings, images, strict=True):
        for category, (lesions, guesses) in _by_class(sides, things).items():
            ordered = sorted(guesses, key=lambda guess: -guess.score)[:MAX_DETECTIONS]
            found[category] = _unmatched(lesions, ordered)
            places = _overlapping(lesions, ordered)
            if places.size:
                touching.append(_Touching(found[category], lesions, [ordered[i] for i in places], places))
    if touching:
        truths, detections = _index([each.truths for each in touching]), _index([each.detections for each in touching])
        evaluator = COCOeval(truths, detections, "segm")
        evaluator.params = _parameters(image_ids=list(range(len(touching))), category_ids=[1])
        _quiet(COCOeval.evaluate)(evaluator)
        for each, result in zip(touching, evaluator.evalImgs, strict=True):
            each.ranking.matched[:, each.places] = result["dtMatches"] > 0
            each.ranking.ignored[:, each.places] = result["dtIgnore"]
    return rankings


@dataclass(frozen=True, slots=True, eq=False)
class _Touching:
    """Detections of one class and image that overlap a lesion, in falling order of score, and their places in it."""

    ranking: Ranking
    truths: Sequence[Instance]
    detections: Sequence[Instance]
    places: NDArray[np.intp]


def _unmatched(truths: Sequence[Instance], detections: Sequence[Instance]) -> Ranking:
    shape = (len(THRESHOLDS), len(detections))
    return Ranking(
        scores=np.array([detection.score for detection in detections], dtype=np.float64),
        matched=np.zeros(shape, dtype=bool),
        ignored=np.zeros(shape, dtype=bool),
        truths=sum(not truth.crowd for truth in truths),
    )


def _overlapping(truths: Sequence[Instance], detections: Sequence[Instance]) -> NDArray[np.intp]:
    """Give the places of the detections that share a pixel with a lesion."""
    if not truths or not detections:
        return np.zeros(0, dtype=np.intp)
    sides = ([{**each.code, "counts": each.code["counts"].encode()} for each in side] for side in (detections, truths))
    return np.flatnonzero(np.asarray(coco_mask.iou(*sides, [0] * len(truths))).any(axis=1))


def _by_class(
    sides: tuple[Sequence[Instance], Sequence[Instance]], things: Set[int]
) -> dict[int, tuple[list[Instance], list[Instance]]]:
    """Give an image's lesions and detections of each class that has some, and under LESION those of all `things`."""
    groups: defaultdict[int, tuple[list[Instance], list[Instance]]] = defaultdict(lambda: ([], []))
    for side, instances in enumerate(sides):
        for instance in instances:
            groups[instance.category_id][side].append(instance)
            if instance.category_id in things:
                groups[LESION][side].append(instance)
    return groups


def precision(rankings: Sequence[Ranking]) -> NDArray[np.float64] | None:
    """Give one class's precision (T, 101) at the recalls 0, 0.01 … 1 from its rankings at T thresholds, image by image.

    Its mean over the recalls is AP. None without ground truth. Of equal scores the earlier image goes first, then the
    earlier detection, as in COCOeval. The rankings of many images may stand there as one.
    """
    if not any(ranking.truths for ranking in rankings):
        return None
    evaluator = COCOeval()
    evaluator.params = evaluator._paramsEval = _parameters(image_ids=list(range(len(rankings))), category_ids=[1])
    evaluator.params.iouThrs = evaluator.params.iouThrs[: len(rankings[0].matched)]  # which one is all the same here
    evaluator.params.maxDets = [max(MAX_DETECTIONS, *(ranking.scores.size for ranking in rankings))]
    evaluator.evalImgs = [
        {
            "dtScores": ranking.scores,
            "dtMatches": ranking.matched,
            "dtIgnore": ranking.ignored,
            "gtIgnore": np.zeros(ranking.truths),
        }
        for ranking in rankings
    ]
    _quiet(COCOeval.accumulate)(evaluator)
    found: NDArray[np.float64] = evaluator.eval["precision"][:, :, 0, 0, 0]
    return found


def _parameters(*, image_ids: list[int], category_ids: list[int]) -> Params:
    parameters = Params(iouType="segm")
    parameters.imgIds, parameters.catIds = image_ids, category_ids
    parameters.iouThrs = np.array(THRESHOLDS)
    parameters.maxDets = [MAX_DETECTIONS]
    parameters.areaRng, parameters.areaRngLbl = [[0, 1e10]], ["all"]
    return parameters


def _index(groups: Sequence[Sequence[Instance]]) -> COCO:
    """Give groups 0, 1, … of instances as the images of a COCO object, all of category 1.

    Ids start at 1, for COCOeval never matches an id 0.
    """
    coco = COCO()
    listed = [(number, instance) for number, instances in enumerate(groups) for instance in instances]
    coco.dataset = {
        "images": [{"id": number, "height": None, "width": None} for number in range(len(groups))],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": i,
                "image_id": number,
                "category_id": 1,
                "segmentation": instance.code,
                "area": 0,
                "iscrowd": int(instance.crowd),
                "score": instance.score,
            }
            for i, (number, instance) in enumerate(listed, start=1)
        ],
    }
    _quiet(COCO.createIndex)(coco)
    return coco


def _quiet(method: FunctionType) -> FunctionType:
    """Copy a method of pycocotools' with a `print` that is silent: redirecting stdout would hush other threads too."""
    return FunctionType(method.__code__, {**method.__globals__, "print": _silence}, argdefs=method.__defaults__)


def _silence(*_: object) -> None:
    """Print nothing."""
