"""Tables in, scores out: PQ, RQ, SQ and AP over the IoU threshold, FROC, Dice and IoU, strata; mean and spread."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mammoprep.errors import MammoprepError
from mammoprep.evaluation import counting, pixel_overlap, ranking, strata
from mammoprep.evaluation.counting import Counts, Qualities, curve, mean_curve, mean_quality
from mammoprep.evaluation.matching import FIXED_LEVELS, Matching
from mammoprep.evaluation.pixel_overlap import dice, iou
from mammoprep.evaluation.report import (
    ClassScores,
    Detection,
    Froc,
    Frocs,
    LesionFree,
    Report,
    Scores,
    Stuff,
    Sweep,
    ThingScores,
    Ties,
)
from mammoprep.evaluation.table import Table
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import Tally

NO_INTERVALS = "no bootstrap was asked for"
_PIECES = {
    "panoptic": (
        ("PQ", "best", "stuff", "detection.PQ", "lesion_free", "missed"),
        "nothing of it is annotated or predicted",
    ),
    "instances": (("AP", "detection.AP", "froc"), "nothing of it is annotated"),
    "semantic": (("dice", "iou"), "nothing of it is annotated or predicted"),
}
"""For each piece of the predictions what needs it (PQ stands for RQ and SQ too), and why else that may be None."""


def score(tally: Tally, *, matching: Matching = "one-to-one") -> Report:
    """Give every score of a tally, at all thresholds."""
    return report(tabulate(tally, matching=matching), not_given=tally.not_given, matching=matching)


def report(table: Table, *, not_given: Mapping[str, str], matching: Matching) -> Report:
    """Give every score of a table; `not_given` says why a piece is not in it, or why a class is not scored."""
    scores = _scores(table, not_given)
    patients = set(table.facts["patient_id"].tolist())
    return Report(
        images=len(table.names),
        patients=None if "" in patients else len(patients),
        missing=int(table.missing.sum()),
        matching=matching,
        scores=scores,
        not_given=dict(_reasons(not_given, table, scores)),
    )


def over_folds(reports: Sequence[Report]) -> Report:
    """Give the mean and the sample standard deviation (ddof 1) of each score over the folds that have it.

    Counts, images and patients are summed. A single fold has no standard deviation.
    """
    if len({(report.matching, *report.scores.per_class) for report in reports}) != 1:
        raise MammoprepError("Folds of other categories or another matching have no mean. Score them alike.")
    folds, patients = tuple(reports), [report.patients for report in reports]
    parts = [report.scores for report in folds]
    scores = _combine(parts, rate=fmean, number=sum, least=1)
    explained = _combine([report.explained for report in folds], rate=fmean, number=sum, least=1)
    return Report(
        images=sum(report.images for report in folds),
        patients=None if None in patients else sum(number or 0 for number in patients),
        missing=sum(report.missing for report in folds),
        matching=folds[0].matching,
        scores=replace(scores, strata={n: p if n == "class" else strata.in_order(p) for n, p in scores.strata.items()}),
        not_given={key: reason for key, reason in folds[0].not_given.items() if all(key in f.not_given for f in folds)},
        std=_combine(parts, rate=stdev, number=stdev, least=2) if len(folds) > 1 else None,
        folds=folds,
        explained=explained and strata.in_order(explained),
        knows_truth=any(report.knows_truth for report in folds),
    )


def _combine(parts: Sequence[Any], *, rate: Callable[..., Any], number: Callable[..., Any], least: int) -> Any:
    """Combine equal structures leaf by leaf, whole numbers by `number`; None where fewer than `least` are given."""

    def combine(values: Iterable[Any]) -> Any:
        given = [value for value in values if value is not None]
        first = given[0] if given else None
        if is_dataclass(first) and not isinstance(first, type):
            return type(first)(*(combine(getattr(value, field.name) for value in given) for field in fields(first)))
        if isinstance(first, Mapping):
            keys = dict.fromkeys(key for value in given for key in value)
            return {key: combine(value.get(key) for value in given) for key in keys}
        if isinstance(first, str):
            return first
        if len(given) < least:
            return None
        if isinstance(first, tuple):
            return tuple(combine(level) for level in zip(*given, strict=True))
        return (number if isinstance(first, int) else rate)(given)

    return combine(parts)


def _scores(table: Table, not_given: Mapping[str, str]) -> Scores:
    counts = counting.count(table)
    found = None if counts is None else counting.qualities(counts)
    classes = {category: _class_scores(counts, found, number) for number, category in enumerate(table.categories)}
    things = {
        category.name: _with_precision(entry, table, number)
        for number, (category, entry) in enumerate(classes.items())
        if category.isthing
    }
    stuff = {category.name: entry for category, entry in classes.items() if not category.isthing}
    return Scores(
        sweep=Sweep(*mean_quality(things.values()), AP=mean_curve(entry.AP for entry in things.values())),
        per_class=things,
        stuff=_stuff(table, stuff, not_given),
        detection=_detection(table, counts, found),
        dice=pixel_overlap.lesions(table, dice),
        iou=pixel_overlap.lesions(table, iou),
        ties=_ties(table),
        froc=_frocs(table),
        lesion_free=_lesion_free(table),
        missed=strata.missed(table),
        strata=strata.strata(table),
    )


def _class_scores(counts: Counts | None, found: Qualities | None, number: int) -> ClassScores:
    if counts is None or found is None:
        return ClassScores(PQ=None, RQ=None, SQ=None, TP=None, FP=None, FN=None)
    return ClassScores(
        **{name: curve(getattr(found, name)[number]) for name in ("PQ", "RQ", "SQ")},
        **{name: tuple(map(int, getattr(counts, name)[number])) for name in ("TP", "FP", "FN")},
    )


def _stuff(table: Table, classes: Mapping[str, ClassScores], not_given: Mapping[str, str]) -> Stuff:
    """Give the scores of the stuff classes; those that `not_given` names have none, and enter no mean."""
    unscored = {name for name in classes if f"stuff.per_class.{name}.PQ" in not_given}
    scored = {name: _class_scores(None, None, 0) if name in unscored else entry for name, entry in classes.items()}
    pixels = [
        {name: None if name in unscored else value for name, value in each.items()}
        for each in (pixel_overlap.per_class(table, measure, things=False) for measure in (dice, iou))
    ]
    return Stuff(*mean_quality(scored.values()), per_class=scored, dice=pixels[0], iou=pixels[1])


def _with_precision(entry: ClassScores, table: Table, number: int) -> ThingScores:
    found = ranking.ranked(table, number)
    own = {field.name: getattr(entry, field.name) for field in fields(entry)}
    return ThingScores(**own, AP=None if found is None else ranking.coco_precision(found))


def _detection(table: Table, counts: Counts | None, found: Qualities | None) -> Detection:
    """Score all thing classes as one."""
    entry = _with_precision(_class_scores(counts, found, len(table.categories)), table, len(table.categories))
    own = {field.name: getattr(entry, field.name) for field in fields(entry)}
    return Detection(**own, confusion=_confusion(table))


def _confusion(table: Table) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
    """Count which class was taken for which, at each FIXED threshold."""
    if table.truths is None or table.guesses is None:
        return None
    place = {number: i for i, number in enumerate(table.things)} | {-1: len(table.things)}
    lesion = len(table.categories)
    true, false = table.truths.category == lesion, table.guesses.category == lesion
    rows, columns = ([place[int(n)] for n in side] for side in (table.truths.label[true], table.guesses.label[false]))
    tables = []
    for i, level in enumerate(FIXED_LEVELS):
        counts = np.zeros((len(place), len(place)), dtype=int)
        np.add.at(counts, (rows, [place[int(n)] for n in table.truths.taken_as[true, i]]), 1)
        np.add.at(counts[-1], columns, table.guesses.false[false, level].astype(int))
        tables.append(tuple(map(tuple, counts.tolist())))
    return tuple(tables)


def _lesion_free(table: Table) -> LesionFree | None:
    """Count the false positives of the images without a lesion; there no threshold changes them."""
    if table.guesses is None:
        return None
    false = table.guesses.image[(table.guesses.category == len(table.categories)) & table.guesses.false[:, 0]]
    each = np.bincount(false, minlength=len(table.names))[table.lesion_free]
    return LesionFree(
        images=each.size,
        with_false_positive=int((each > 0).sum()),
        false_positives_per_image=float(each.mean()) if each.size else None,
    )


def _ties(table: Table) -> Ties | None:
    """Give the means over the thing classes with ground truth."""
    ranked = [ranking.ranked(table, number) for number in table.things]
    given = [found for found in ranked if found is not None]
    if table.detections is None:
        return None
    low, high = (
        mean_curve(curve(ranking.tied_precision(found, hits_first=first)) for found in given) for first in (False, True)
    )
    return Ties(low, high)


def _frocs(table: Table) -> Frocs | None:
    if table.detections is None:
        return None
    per_class = {table.categories[number].name: _froc(table, number) for number in table.things}
    return Frocs(lesion=_froc(table, len(table.categories)), per_class=per_class)


def _froc(table: Table, category: int) -> Froc:
    found = ranking.ranked(table, category)
    if found is None:
        raise MammoprepError("A table without detections has no FROC. Give instances.json.")
    shares = ranking.sensitivity(ranking.weigh(found, np.ones((1, len(table.names)), dtype=np.int64)))[0]
    points = [ranking.operating_points(found, table.lesion_free, level=level) for level in FIXED_LEVELS]
    return Froc(
        sensitivity=None if np.isnan(shares).any() else tuple(map(tuple, shares.tolist())),
        score=tuple(point.score for point in points),
        lesion_free=tuple(point.lesion_free for point in points),
    )


def _reasons(not_given: Mapping[str, str], table: Table, scores: Scores) -> Iterator[tuple[str, str]]:
    """Say of each score that is None why; of a piece that the predictions lack, once."""
    yield "intervals", NO_INTERVALS
    if "" in table.facts["patient_id"]:
        yield "patients", "cases.csv does not give the patient of every image"
    for name in ("view", "density", "manufacturer"):
        if name not in scores.strata:
            yield f"strata.{name}", "cases.csv does not give it"
    for piece, (keys, absent) in _PIECES.items():
        if piece in not_given:
            yield from ((key, not_given[piece]) for key in keys)
        else:
            yield from ((key, not_given.get(key, absent)) for key, value in _values(scores, piece) if value is None)


def _values(scores: Scores, piece: str) -> Iterator[tuple[str, Any]]:
    """Give the scores that come from a piece of the predictions, each under its place in the JSON."""
    if piece == "panoptic":
        yield from (("PQ", scores.sweep.PQ), ("best", scores.sweep.PQ), ("stuff", scores.stuff.PQ))
        yield "detection.PQ", scores.detection.PQ
        yield from ((f"per_class.{name}.PQ", entry.PQ) for name, entry in scores.per_class.items())
        yield from ((f"stuff.per_class.{name}.PQ", entry.PQ) for name, entry in scores.stuff.per_class.items())
    elif piece == "instances":
        yield from (("AP", scores.sweep.AP), ("detection.AP", scores.detection.AP))
        yield from ((f"per_class.{name}.AP", entry.AP) for name, entry in scores.per_class.items())
        if scores.froc:
            yield "froc.lesion.sensitivity", scores.froc.lesion.sensitivity
            yield from (
                (f"froc.{name}.sensitivity", entry.sensitivity) for name, entry in scores.froc.per_class.items()
            )
    else:
        for key, overlap, stuff in (("dice", scores.dice, scores.stuff.dice), ("iou", scores.iou, scores.stuff.iou)):
            yield f"{key}.pooled", overlap and overlap.pooled
            yield from (
                (f"{key}.per_class.{name}", value) for name, value in (overlap.per_class if overlap else {}).items()
            )
            yield from ((f"stuff.{key}.{name}", value) for name, value in (stuff or {}).items())
