"""Tallies in, scores out: PQ, RQ, SQ and AP over the IoU threshold, Dice and IoU, their mean and spread over folds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from math import fsum
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.detections import average_precision
from mammoprep.evaluation.matching import Counts, Matching, Scene, count
from mammoprep.evaluation.report import LATER, ClassScores, Curve, Overlap, Report, Scores, Stuff, Sweep, ThingScores
from mammoprep.evaluation.tally import Tally
from mammoprep.panoptic import Category

_PIECES = {
    "panoptic": (("PQ", "best", "stuff"), "nothing of it is annotated or predicted"),
    "instances": (("AP",), "nothing of it is annotated"),
    "semantic": (("dice", "iou"), "nothing of it is annotated or predicted"),
}
"""For each piece of the predictions what needs it (PQ stands for RQ and SQ too), and why else that may be None."""

_NOTHING = Scene(np.zeros((0, 0)), np.zeros(0, dtype=bool))


def score(tally: Tally, *, matching: Matching = "one-to-one") -> Report:
    """Give every score of a tally, at all thresholds."""
    scores = _scores(tally, matching)
    patients = {image.patient_id for image in tally.images}
    return Report(
        images=len(tally.images),
        patients=None if "" in patients else len(patients),
        missing=sum(image.missing for image in tally.images),
        matching=matching,
        scores=scores,
        not_given=dict(_reasons(tally, scores)),
    )


def over_folds(reports: Sequence[Report]) -> Report:
    """Give the mean and the sample standard deviation (ddof 1) of each score over the folds that have it.

    TP, FP, FN, images and patients are summed. A single fold has no standard deviation.
    """
    if len({(report.matching, *report.scores.per_class) for report in reports}) != 1:
        raise MammoprepError("Folds of other categories or another matching have no mean. Score them alike.")
    folds, patients = tuple(reports), [report.patients for report in reports]
    parts = [report.scores for report in folds]
    return Report(
        images=sum(report.images for report in folds),
        patients=None if None in patients else sum(number or 0 for number in patients),
        missing=sum(report.missing for report in folds),
        matching=folds[0].matching,
        scores=_combine(parts, rate=fmean, number=sum, least=1),
        not_given={key: reason for key, reason in folds[0].not_given.items() if all(key in f.not_given for f in folds)},
        std=_combine(parts, rate=stdev, number=stdev, least=2) if len(folds) > 1 else None,
        folds=folds,
    )


def _combine(parts: Sequence[Any], *, rate: Callable[..., Any], number: Callable[..., Any], least: int) -> Any:
    """Combine equal structures leaf by leaf, whole numbers by `number`; None where fewer than `least` are given."""

    def combine(values: Iterable[Any]) -> Any:
        given = [value for value in values if value is not None]
        first = given[0] if given else None
        if is_dataclass(first) and not isinstance(first, type):
            return type(first)(*(combine(getattr(value, field.name) for value in given) for field in fields(first)))
        if isinstance(first, Mapping):
            return {key: combine(value[key] for value in given) for key in first}
        if len(given) < least:
            return None
        if isinstance(first, tuple):
            return tuple(combine(level) for level in zip(*given, strict=True))
        return (number if isinstance(first, int) else rate)(given)

    return combine(parts)


def _scores(tally: Tally, matching: Matching) -> Scores:
    classes = {category: _class_scores(tally, category, matching) for category in tally.categories}
    stuff = {category.name: entry for category, entry in classes.items() if not category.isthing}
    things = {
        category.name: ThingScores(**asdict(entry), AP=_precision(tally, category))
        for category, entry in classes.items()
        if category.isthing
    }
    return Scores(
        sweep=Sweep(*_mean_quality(things), AP=_mean(entry.AP for entry in things.values())),
        per_class=things,
        stuff=Stuff(
            *_mean_quality(stuff),
            per_class=stuff,
            dice=_per_class(tally, _dice, things=False),
            iou=_per_class(tally, _iou, things=False),
        ),
        dice=_overlap(tally, _dice),
        iou=_overlap(tally, _iou),
    )


def _class_scores(tally: Tally, category: Category, matching: Matching) -> ClassScores:
    if "panoptic" in tally.not_given:
        return ClassScores(PQ=None, RQ=None, SQ=None, TP=None, FP=None, FN=None)
    scenes = [(image.scenes or {}).get(category.id) for image in tally.images]
    total = _total([count(scene, matching=matching) for scene in (_NOTHING, *scenes) if scene])
    weight = total.TP + total.FP / 2 + total.FN / 2
    occurs = bool(weight.all())  # at every threshold or at none: no threshold changes what is annotated or predicted
    return ClassScores(
        PQ=_curve(total.IoU / weight) if occurs else None,
        RQ=_curve(total.TP / weight) if occurs else None,
        SQ=_curve(total.IoU / np.maximum(total.TP, 1)) if occurs else None,
        TP=_curve(total.TP),
        FP=_curve(total.FP),
        FN=_curve(total.FN),
    )


def _precision(tally: Tally, category: Category) -> Curve | None:
    rankings = [(image.rankings or {}).get(category.id) for image in tally.images]
    return average_precision([ranking for ranking in rankings if ranking])


def _total(counts: Sequence[Counts]) -> Counts:
    """Add up; `fsum` gives the same sum of IoUs in any order."""
    return Counts(
        TP=np.sum([part.TP for part in counts], axis=0),
        FP=np.sum([part.FP for part in counts], axis=0),
        FN=np.sum([part.FN for part in counts], axis=0),
        IoU=np.array([fsum(level) for level in zip(*(part.IoU for part in counts), strict=True)]),
    )


def _curve(values: NDArray[Any]) -> Curve:
    return tuple(values.tolist())


def _mean_quality(classes: Mapping[str, ClassScores]) -> tuple[Curve | None, Curve | None, Curve | None]:
    """Give PQ, RQ and SQ, each its own mean over the classes that occur."""
    entries = classes.values()
    return _mean(entry.PQ for entry in entries), _mean(entry.RQ for entry in entries), _mean(e.SQ for e in entries)


def _mean(curves: Iterable[Curve | None]) -> Curve | None:
    given = [curve for curve in curves if curve is not None]
    return tuple(fmean(level) for level in zip(*given, strict=True)) if given else None


def _dice(shared: int, truth: int, predicted: int) -> float | None:
    return 2 * shared / (truth + predicted) if truth + predicted else None


def _iou(shared: int, truth: int, predicted: int) -> float | None:
    return shared / (truth + predicted - shared) if truth + predicted else None


_Measure = Callable[[int, int, int], float | None]


def _per_class(tally: Tally, measure: _Measure, *, things: bool) -> dict[str, float | None] | None:
    """Measure each thing or stuff class on the pixels of all images."""
    if "semantic" in tally.not_given:
        return None
    total = np.sum([image.confusion for image in tally.images if image.confusion is not None], axis=0)
    return {
        category.name: measure(int(total[i, i]), int(total[i].sum()), int(total[:, i].sum()))
        for i, category in enumerate(tally.categories, start=1)
        if category.isthing == things
    }


def _overlap(tally: Tally, measure: _Measure) -> Overlap | None:
    per_class = _per_class(tally, measure, things=True)
    if per_class is None:
        return None
    given = [value for value in per_class.values() if value is not None]
    things = [i for i, category in enumerate(tally.categories, start=1) if category.isthing]
    per_image = []
    for counts in (image.confusion for image in tally.images if image.confusion is not None):
        shared, truth, predicted = counts[np.ix_(things, things)].sum(), counts[things].sum(), counts[:, things].sum()
        value = measure(int(shared), int(truth), int(predicted))
        per_image.append(1.0 if value is None else value)
    return Overlap(pooled=fmean(given) if given else None, per_image=fmean(per_image), per_class=per_class)


def _reasons(tally: Tally, scores: Scores) -> Iterator[tuple[str, str]]:
    """Say of each score that is None why; of a piece that the predictions lack, once."""
    yield from ((key, "not computed by this version") for key in LATER)
    if not all(image.patient_id for image in tally.images):
        yield "patients", "cases.csv does not give the patient of every image"
    for piece, (keys, absent) in _PIECES.items():
        if piece in tally.not_given:
            yield from ((key, tally.not_given[piece]) for key in keys)
        else:
            yield from ((key, absent) for key, value in _values(scores, piece) if value is None)


def _values(scores: Scores, piece: str) -> Iterator[tuple[str, Any]]:
    """Give the scores that come from a piece of the predictions, each under its place in the JSON."""
    if piece == "panoptic":
        yield from (("PQ", scores.sweep.PQ), ("best", scores.sweep.PQ), ("stuff", scores.stuff.PQ))
        yield from ((f"per_class.{name}.PQ", entry.PQ) for name, entry in scores.per_class.items())
        yield from ((f"stuff.per_class.{name}.PQ", entry.PQ) for name, entry in scores.stuff.per_class.items())
    elif piece == "instances":
        yield "AP", scores.sweep.AP
        yield from ((f"per_class.{name}.AP", entry.AP) for name, entry in scores.per_class.items())
    else:
        for key, overlap, stuff in (("dice", scores.dice, scores.stuff.dice), ("iou", scores.iou, scores.stuff.iou)):
            yield f"{key}.pooled", overlap and overlap.pooled
            yield from (
                (f"{key}.per_class.{name}", value) for name, value in (overlap.per_class if overlap else {}).items()
            )
            yield from ((f"stuff.{key}.{name}", value) for name, value in (stuff or {}).items())
