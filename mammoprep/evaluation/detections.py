"""COCO instances and result lists: read, check, match by COCOeval, average precision."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.panoptic import Image, Mask, Rle

MAX_DETECTIONS = 100


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
        if not _covers(code["counts"], image.height * image.width):
            _refuse(path, position, "has a broken RLE: its runs do not add up to the image")
        crowd, score = bool(entry.get("iscrowd", 0)), float(entry.get("score", 1.0))
        groups[image.id].append(Instance(classes[entry["category_id"]], code, crowd, score))
    return groups


def _refuse(path: Path, position: int, problem: str) -> NoReturn:
    raise MammoprepError(f"{path}: entry {position} {problem}. Write the file again.")


def _is_finite(score: Any) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)


def _is_code(code: Any) -> bool:
    return isinstance(code, dict) and isinstance(code.get("size"), list) and isinstance(code.get("counts"), str)


def _covers(counts: str, pixels: int) -> bool:
    """Tell whether a compressed run-length code covers an image of so many pixels; pycocotools crashes where not.

    A run is a signed number of 5-bit digits, least first, each + 48 in ASCII, 32 added to all but the last; from the
    fourth on it is the difference to the run two before (pycocotools, maskApi.c).
    """
    digits = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if digits.size == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return False
    ends = np.flatnonzero(digits & 32 == 0)
    sizes = np.diff(ends, prepend=-1)
    if sizes.max() > 7:
        return False
    starts = ends - sizes + 1
    places = np.arange(digits.size) - np.repeat(starts, sizes)
    runs = np.add.reduceat((digits & 31) << 5 * places, starts)
    runs -= np.where(digits[ends] & 16, 1 << 5 * sizes, 0)
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return bool(runs.min() >= 0 and runs.sum() == pixels)


def rank(truths: Sequence[Instance], detections: Sequence[Instance]) -> dict[int, Ranking]:
    """Match the detections of one image by COCOeval at every threshold, class by class."""
    if not truths and not detections:
        return {}
    categories = sorted({instance.category_id for instance in (*truths, *detections)})
    evaluator = COCOeval(_index(truths, categories), _index(detections, categories), "segm")
    evaluator.params = _parameters(image_ids=[1], category_ids=categories)
    _quiet(COCOeval.evaluate)(evaluator)
    return {result["category_id"]: _ranking(result) for result in evaluator.evalImgs}


def _ranking(result: Mapping[str, Any]) -> Ranking:
    return Ranking(
        scores=np.array(result["dtScores"], dtype=np.float64),
        matched=result["dtMatches"] > 0,
        ignored=np.asarray(result["dtIgnore"], dtype=bool),
        truths=int(np.count_nonzero(np.equal(result["gtIgnore"], 0))),
    )


def average_precision(rankings: Sequence[Ranking]) -> tuple[float, ...] | None:
    """Give one class's AP at each threshold from its rankings, image by image; None without ground truth.

    Of equal scores the earlier image goes first, then the earlier detection, as in COCOeval.
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
    precision = evaluator.eval["precision"][:, :, 0, 0, 0]  # (T, 101 recall points)
    return tuple(precision.mean(axis=1).tolist())


def _parameters(*, image_ids: list[int], category_ids: list[int]) -> Params:
    parameters = Params(iouType="segm")
    parameters.imgIds, parameters.catIds = image_ids, category_ids
    parameters.iouThrs = np.array(THRESHOLDS)
    parameters.maxDets = [MAX_DETECTIONS]
    parameters.areaRng, parameters.areaRngLbl = [[0, 1e10]], ["all"]
    return parameters


def _index(instances: Sequence[Instance], categories: Sequence[int]) -> COCO:
    """Give one image's instances as a COCO object; their ids start at 1, for COCOeval never matches an id 0."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 1, "height": None, "width": None}],
        "categories": [{"id": category} for category in categories],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": instance.category_id,
                "segmentation": instance.code,
                "area": 0,
                "iscrowd": int(instance.crowd),
                "score": instance.score,
            }
            for i, instance in enumerate(instances, start=1)
        ],
    }
    _quiet(COCO.createIndex)(coco)
    return coco


def _quiet(method: FunctionType) -> FunctionType:
    """Copy a method of pycocotools' with a `print` that is silent: redirecting stdout would hush other threads too."""
    return FunctionType(method.__code__, {**method.__globals__, "print": _silence}, argdefs=method.__defaults__)


def _silence(*_: object) -> None:
    """Print nothing."""
