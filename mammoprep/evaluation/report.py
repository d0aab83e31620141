"""The shape of a report: every score of some images, or of k folds, and its JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mammoprep.evaluation.matching import THRESHOLDS, Matching

LATER = ("froc", "intervals", "strata")
"""Keys of the JSON that this version does not compute."""

NOTES = (
    "Under one-to-one matching a higher threshold can only take pairs away while TP + FP/2 + FN/2 stays the same "
    "(without void and crowds), so PQ has no inner maximum: the t with the highest PQ is the lowest one tried.",
    "AP counts a detection at IoU >= t, PQ a pair at IoU > t.",
)
"""What a reader of the sweep has to know."""

Curve = tuple[float, ...]
"""A score in [0, 1] at each of `THRESHOLDS`."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Panoptic, recognition and segmentation quality; None where no segment was predicted or annotated."""

    PQ: Curve | None
    RQ: Curve | None
    SQ: Curve | None


@dataclass(frozen=True, slots=True)
class Sweep(Quality):
    """Means over the thing classes: PQ, RQ, SQ over those that occur, AP over those with ground truth."""

    AP: Curve | None


@dataclass(frozen=True, slots=True)
class ClassScores(Quality):
    """One class; TP, FP and FN are counts."""

    TP: tuple[float, ...] | None
    FP: tuple[float, ...] | None
    FN: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class ThingScores(ClassScores):
    """One thing class; AP None without ground truth."""

    AP: Curve | None


@dataclass(frozen=True, slots=True)
class Stuff(Quality):
    """Means over the stuff classes that occur; each class; Dice and IoU of each where given."""

    per_class: Mapping[str, ClassScores]
    dice: Mapping[str, float | None] | None
    iou: Mapping[str, float | None] | None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Dice or IoU of the thing classes: their mean; the mean over images, all merged to one lesion map; each class."""

    pooled: float | None
    per_image: float | None
    per_class: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores. Over folds: their mean (of counts the sum), or their sample standard deviation."""

    sweep: Sweep
    per_class: Mapping[str, ThingScores]
    stuff: Stuff
    dice: Overlap | None
    iou: Overlap | None


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of some images. Over folds `scores` is the mean, `std` the spread and `folds` each fold's report.

    `missing` counts the images scored as if nothing had been predicted; `fold` is the number of the fold in folds.json,
    None where the images are not one fold; `not_given` says for each score that is None why.
    """

    images: int
    patients: int | None
    missing: int
    matching: Matching
    scores: Scores
    not_given: Mapping[str, str]
    fold: int | None = None
    std: Scores | None = None
    folds: "tuple[Report, ...]" = ()

    @property
    def best(self) -> float | None:
        """Give the threshold with the highest PQ, of several the smallest; None without PQ."""
        curve = self.scores.sweep.PQ
        return THRESHOLDS[curve.index(max(curve))] if curve else None

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary of scores.json; what could not be computed is None. `std` repeats the scores' keys."""
        return {
            "images": self.images,
            "patients": self.patients,
            "missing": self.missing,
            "fold": self.fold,
            "matching": self.matching,
            "thresholds": list(THRESHOLDS),
            **self._numbers(self.scores),
            **dict.fromkeys(LATER),
            "std": self._numbers(self.std) if self.std else None,
            "folds": [fold.to_json() for fold in self.folds],
            "not_given": dict(self.not_given),
            "notes": list(NOTES),
        }

    def _numbers(self, scores: Scores) -> dict[str, Any]:
        numbers = asdict(scores, dict_factory=_with_lists)
        if self.best is None:
            return {**numbers, "best": None}
        level = THRESHOLDS.index(self.best)
        best = {name: curve[level] if curve else None for name, curve in numbers["sweep"].items()}
        return {**numbers, "best": {"threshold": self.best, **best}}


def _with_lists(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs}
