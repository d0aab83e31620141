"""COCO instances and result lists: read, check, match by COCOeval, average precision."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import LESION, THRESHOLDS
from mammoprep.panoptic import Image, Mask, Rle

MAX_DETECTIONS = 100
_CODES = 512
"""Run-length codes that are checked at a time."""


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


def read_truth(root: Path, *, images: Mapping[int, Image], classes: Mapping[int, int]) -> dict[int, list[Instance]]:
    """Read instances.json of a DATASET: the lesions of each image id. `classes` maps category ids to the data set's."""
    path = root / "instances.json"
    content = panoptic.load_instances(root)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise MammoprepError(f"{path} is no COCO ground truth. Name the DATASET first, then the PREDICTIONS.")
    return _grouped(path, content["annotations"], images=images, classes=classes)


def read_results(root: Path, *, images: Mapping[int, Image], classes: Mapping[int, int]) -> dict[int, list[Instance]]:
    """Read instances.json of PREDICTIONS: the detections of each image id, in the order of the list."""
    path = root / "instances.json"
    content = panoptic.load_instances(root)
    if not isinstance(content, list):
        raise MammoprepError(f"{path} is no COCO result list. `mammoprep predict` writes PREDICTIONS for a DATASET.")
    for position, entry in enumerate(content, start=1):
        if not isinstance(entry, dict) or not _is_finite(entry.get("score")):
            _refuse(path, position, "has no finite score")
    return _grouped(path, content, images=images, classes=classes)


def _grouped(
    path: Path, entries: Sequence[Any], *, images: Mapping[int, Image], classes: Mapping[int, int]
) -> dict[int, list[Instance]]:
    """Check each entry against its image and group them by image id."""
    groups: defaultdict[int, list[Instance]] = defaultdict(list)
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not {"image_id", "category_id", "segmentation"} <= entry.keys():
            _refuse(path, position, "lacks image_id, category_id or segmentation")
        for key, known in (("image_id", images), ("category_id", classes)):
            if type(entry[key]) is not int or entry[key] not in known:
                _refuse(path, position, f"has the {key} {entry[key]!r}, which panoptic.json does not list")
        image, code = images[entry["image_id"]], entry["segmentation"]
        if not _is_code(code):
            _refuse(path, position, "has a segmentation that is no compressed RLE")
        if code["size"] != [image.height, image.width]:
            _refuse(path, position, f"has a mask of {code['size']}, its image is [{image.height}, {image.width}]")
        crowd, score = bool(entry.get("iscrowd", 0)), float(entry.get("score", 1.0))
        groups[image.id].append(Instance(classes[entry["category_id"]], code, crowd, score))
    for start in range(0, len(entries), _CODES):
        codes = [entry["segmentation"] for entry in entries[start : start + _CODES]]
        pixels = [code["size"][0] * code["size"][1] for code in codes]
        wrong = np.flatnonzero(~covers([code["counts"] for code in codes], pixels))
        if wrong.size:
            _refuse(path, start + int(wrong[0]) + 1, "has a broken RLE: its runs do not add up to the image")
    return groups


def _refuse(path: Path, position: int, problem: str) -> NoReturn:
    raise MammoprepError(f"{path}: entry {position} {problem}. Write the file again.")


def _is_finite(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)


def _is_code(code: Any) -> bool:
    return isinstance(code, dict) and isinstance(code.get("size"), list) and isinstance(code.get("counts"), str)


def covers(codes: Sequence[str], pixels: Sequence[int]) -> Mask:
    """Tell of each compressed run-length code whether it covers so many pixels; pycocotools crashes where not.

    A run is a signed number of 5-bit digits, least first, each + 48 in ASCII, 32 added to all but the last; from the
    fourth on it is the difference to the run two before (pycocotools, maskApi.c).
    """
    texts = [code.encode("utf-8") for code in codes]
    good: Mask = np.array([bool(text) and not text[-1] - 48 & 32 for text in texts], dtype=bool)
    texts = [text if fine else b"0" for text, fine in zip(texts, good, strict=True)]
    digits = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    begins = np.cumsum([0, *map(len, texts)])
    ends = np.flatnonzero(digits & 32 == 0)  # of the runs
    sizes = np.diff(ends, prepend=-1)
    code_of = np.searchsorted(begins, ends, side="right") - 1
    for bad in (code_of[sizes > 7], np.searchsorted(begins, np.flatnonzero((digits < 0) | (digits > 63)), "right") - 1):
        good[bad] = False
    starts, sizes = ends - sizes + 1, np.minimum(sizes, 7)
    places = np.minimum(np.arange(digits.size) - np.repeat(starts, np.diff(ends, prepend=-1)), 7)
    runs = np.add.reduceat((digits & 31) << 5 * places, starts)
    runs -= np.where(digits[ends] & 16, 1 << 5 * sizes, 0)
    lengths = _undo_differences(runs, code_of)
    good[code_of[lengths < 0]] = False
    totals = np.bincount(code_of, weights=lengths, minlength=len(texts))
    good &= totals == np.asarray(pixels)
    return good


def _undo_differences(runs: NDArray[np.int64], code_of: NDArray[np.intp]) -> NDArray[np.int64]:
    """Give the lengths of runs stored, from the fourth of a code on, as the difference to the one two before."""
    number = np.arange(runs.size) - np.searchsorted(code_of, code_of)  # of the run in its code
    chain = np.where(number == 0, 0, 1 + number % 2)  # odd and even ones are summed apart, the first stands alone
    order = np.lexsort((number, chain, code_of))
    sums = np.cumsum(runs[order])
    keys = 3 * code_of[order] + chain[order]
    first = np.searchsorted(keys, keys)
    lengths = np.empty_like(runs)
    lengths[order] = sums - sums[first] + runs[order][first]
    return lengths


def rank(
    images: Sequence[tuple[Sequence[Instance], Sequence[Instance]]], *, things: Set[int]
) -> list[dict[int, Ranking]]:
    """Match the detections of each image, given as (lesions, detections), by COCOeval at every threshold.

    Gives each image's rankings by category id, and under LESION that of all `things` as one class.
    """
    rankings: list[dict[int, Ranking]] = [{} for _ in images]
    each = sorted({instance.category_id for pair in images for side in pair for instance in side})
    for categories in (each, [LESION] if things & set(each) else []):
        if not categories:
            continue
        as_one = things if categories == [LESION] else None
        truths, detections = (_index(side, categories, as_one=as_one) for side in zip(*images, strict=True))
        evaluator = COCOeval(truths, detections, "segm")
        evaluator.params = _parameters(image_ids=list(range(len(images))), category_ids=categories)
        _quiet(COCOeval.evaluate)(evaluator)
        for result in filter(None, evaluator.evalImgs):
            rankings[result["image_id"]][result["category_id"]] = _ranking(result)
    return rankings


def _ranking(result: Mapping[str, Any]) -> Ranking:
    return Ranking(
        scores=np.array(result["dtScores"], dtype=np.float64),
        matched=result["dtMatches"] > 0,
        ignored=np.asarray(result["dtIgnore"], dtype=bool),
        truths=int(np.count_nonzero(np.equal(result["gtIgnore"], 0))),
    )


def precision(rankings: Sequence[Ranking]) -> NDArray[np.float64] | None:
    """Give one class's precision (T, 101) at the recalls 0, 0.01 … 1 from its rankings, image by image.

    Its mean over the recalls is AP. None without ground truth. Of equal scores the earlier image goes first, then the
    earlier detection, as in COCOeval.
    """
    if not any(ranking.truths for ranking in rankings):
        return None
    evaluator = COCOeval()
    evaluator.params = evaluator._paramsEval = _parameters(image_ids=list(range(len(rankings))), category_ids=[1])
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


def _index(images: Sequence[Sequence[Instance]], categories: Sequence[int], *, as_one: Set[int] | None) -> COCO:
    """Give the instances of images 0, 1, … as a COCO object; ids start at 1, for COCOeval never matches an id 0.

    With `as_one` only instances of those classes are there, all of class LESION.
    """
    coco = COCO()
    listed = [
        (image_id, instance)
        for image_id, instances in enumerate(images)
        for instance in instances
        if as_one is None or instance.category_id in as_one
    ]
    coco.dataset = {
        "images": [{"id": image_id, "height": None, "width": None} for image_id in range(len(images))],
        "categories": [{"id": category} for category in categories],
        "annotations": [
            {
                "id": i,
                "image_id": image_id,
                "category_id": instance.category_id if as_one is None else LESION,
                "segmentation": instance.code,
                "area": 0,
                "iscrowd": int(instance.crowd),
                "score": instance.score,
            }
            for i, (image_id, instance) in enumerate(listed, start=1)
        ],
    }
    _quiet(COCO.createIndex)(coco)
    return coco


def _quiet(method: FunctionType) -> FunctionType:
    """Copy a method of pycocotools' with a `print` that is silent: redirecting stdout would hush other threads too."""
    return FunctionType(method.__code__, {**method.__globals__, "print": _silence}, argdefs=method.__defaults__)


def _silence(*_: object) -> None:
    """Print nothing."""
