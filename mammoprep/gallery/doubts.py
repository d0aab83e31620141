"""What a reviewer should look at first, and why: lesions that are unusual, or that model and ground truth differ on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

SURE = 0.5
"""Score from which a false lesion is a strong disagreement."""
COVERED = 0.1
"""Share of a lesion that lies under others from which they overlap."""
FEWEST = 20
"""Lesions of a class below which no size is called unusual."""
FENCE = 3.0
"""Interquartile ranges beyond the quartiles of the logarithm of the area: Tukey's outer fences."""

KINDS: Mapping[str, float] = {"disagreement": 3, "size": 2, "fallback": 2, "overlap": 1}
"""The kinds of doubt, and how much each weighs in the order of the cases."""

Fences = Mapping[tuple[int, str], tuple[float, float]]
"""Least and largest usual area, by class and unit."""


def mark(rows: Sequence[dict[str, Any]], classes: Mapping[int, str]) -> None:
    """Give each row of the index that has doubts a list `doubts` of {kind, lesion, side, why}, and their `weight`."""
    fences = _fences(rows)
    for row in rows:
        doubts = [
            {"kind": kind, "lesion": lesion["id"], "side": lesion["side"], "why": why}
            for lesion in row["lesions"]
            for kind, why in (*_of_truth(lesion, fences, classes), *_of_both(lesion, row["lesions"], classes))
        ]
        if doubts:
            row["doubts"] = doubts
            row["weight"] = (
                sum(KINDS[kind] for kind in {doubt["kind"] for doubt in doubts}) + min(len(doubts), 99) / 100
            )


def _measure(lesion: Mapping[str, Any]) -> tuple[float, str]:
    return (lesion["mm2"], "mm2") if "mm2" in lesion else (lesion["area"], "px")


def _fences(rows: Iterable[Mapping[str, Any]]) -> Fences:
    areas: dict[tuple[int, str], list[float]] = defaultdict(list)
    for row in rows:
        for lesion in row["lesions"]:
            area, unit = _measure(lesion)
            if lesion["side"] == "truth" and area > 0:
                areas[lesion["class"], unit].append(log(area))
    fences = {}
    for key, values in areas.items():
        if len(values) >= FEWEST:
            first, third = np.percentile(values, (25, 75))
            wide = FENCE * (third - first)
            fences[key] = (float(np.exp(first - wide)), float(np.exp(third + wide)))
    return fences


def _of_truth(lesion: Mapping[str, Any], fences: Fences, classes: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    if lesion["side"] != "truth":
        return
    if "(fallback)" in lesion.get("method", ""):
        yield "fallback", f"pseudo-mask by a fallback: {lesion['method'].partition(' (')[0]}"
    if lesion.get("covered", 0) >= COVERED:
        yield "overlap", f"{lesion['covered']:.0%} lies under other findings"
    area, unit = _measure(lesion)
    low, high = fences.get((lesion["class"], unit), (0.0, float("inf")))
    if not low <= area <= high:
        name, usual = classes[lesion["class"]], f"{low:.0f} to {high:.0f} {unit}"
        yield "size", f"unusual size: {area:.0f} {unit}, usual for {name} are {usual}"


def _of_both(
    lesion: Mapping[str, Any], others: Sequence[Mapping[str, Any]], classes: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    verdict, score = lesion.get("verdict"), lesion.get("score")
    if lesion["side"] == "truth" and verdict == "missed":
        yield "disagreement", "the model shows no lesion here"
    if lesion["side"] == "truth" and verdict == "wrong class":
        guess = next(o for o in others if o["side"] == "predicted" and o["id"] == lesion["partner"])
        yield "disagreement", f"the model says {classes[guess['class']]}"
    if lesion["side"] == "predicted" and verdict == "false" and (score is None or score >= SURE):
        yield "disagreement", "the model shows a lesion here" + ("" if score is None else f", score {score:.2f}")
