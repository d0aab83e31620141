"""The shape of a report: every score of some images, or of k folds, and its JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mammoprep.evaluation.marks import FOOTNOTE
from mammoprep.evaluation.matching import FIXED, FIXED_LEVELS, SHOWN, THRESHOLDS, Matching
from mammoprep.evaluation.ranking import RATES

NOTES = (
    "Under one-to-one matching a higher threshold can only take pairs away while TP + FP/2 + FN/2 stays the same "
    "(without void and crowds), so PQ has no inner maximum: the t with the highest PQ is the lowest one tried. "
    "An inner maximum needs extra pairs at low t, several predictions for one lesion or the reverse, which only the "
    "published way of counting (--matching paper) has.",
    "AP counts a detection at IoU >= t, PQ a pair at IoU > t.",
)
"""What a reader of the sweep has to know."""

FEW_PATIENTS = 20
"""With fewer patients a note calls the intervals rough: their ends are a few patients' own scores."""
_VISIBLE = 5e-5
"""A difference that two digits of a per cent show."""
Curve = tuple[float, ...]
"""A score in [0, 1] at each of `THRESHOLDS`."""
Interval = tuple[float | None, float | None]
"""The lowest and the highest value of an interval; None where too few resamples have the score."""


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
    """Dice or IoU of the thing classes: their mean; the mean over images, all merged to one lesion map; each class.

    `smoothed` is `per_image` with the Twente thesis's beta of 1e-7 added above and below the line.
    """

    pooled: float | None
    per_image: float | None
    smoothed: float | None
    per_class: Mapping[str, float | None]


Counts = tuple[tuple[int, ...], ...]
"""Counts by true class (rows; the last: none, false positives) and predicted class (columns; the last: missed)."""


@dataclass(frozen=True, slots=True)
class Detection(ThingScores):
    """All thing classes as one, the class ignored; `confusion` at each FIXED threshold: which was taken for which."""

    confusion: tuple[Counts, ...] | None


@dataclass(frozen=True, slots=True)
class Froc:
    """One class at each FIXED IoU, at each of RATES: sensitivity; the score that it takes; what that score costs.

    `lesion_free`: false positives per lesion-free image at that score.
    """

    sensitivity: tuple[Curve, ...] | None
    score: tuple[tuple[float | None, ...], ...]
    lesion_free: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Frocs:
    """FROC of all thing classes as one, the class ignored, and of each."""

    lesion: Froc
    per_class: Mapping[str, Froc]


@dataclass(frozen=True, slots=True)
class Ties:
    """What AP would be if of equal scores the false detections went first (`low`), or the right ones (`high`)."""

    low: Curve | None
    high: Curve | None


@dataclass(frozen=True, slots=True)
class LesionFree:
    """The images without any lesion: on how many a lesion is predicted, and how many lesions an image."""

    images: int
    with_false_positive: int
    false_positives_per_image: float | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many lesions, and the smallest, the quartiles and the largest of their areas."""

    count: int
    quartiles: tuple[float, float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class Missed:
    """Areas of the lesions missed and found, the class ignored, at each FIXED threshold; `unit` is mm2 or px2."""

    unit: str
    missed: tuple[Sizes, ...]
    found: tuple[Sizes, ...]


@dataclass(frozen=True, slots=True)
class Stratum(Sweep):
    """A part of the images, or of the lesions: scores as in the sweep, `sensitivity` TP / (TP + FN).

    `false_positives`: an image of the part; for a class or size, predictions of it on an image of any kind. `dice` is
    the pooled one. For sizes AP and Dice are None: COCO's matches do not belong to one size.
    """

    images: int
    lesions: int
    sensitivity: Curve | None
    false_positives: Curve | None
    dice: float | None


@dataclass(frozen=True, slots=True)
class Flagged:
    """Shares of wrong pixels: of all, and of the most certain ones, by how large a part of all these are.

    `AUROC`: the probability that a wrong pixel is more uncertain than a right one; None where there are not both.
    """

    error: float | None
    AUROC: float | None
    error_kept: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How well a map of uncertainty flags pixels of a wrong class, and pixels that are a lesion on one side alone."""

    pixels: int
    classes: Flagged
    lesions: Flagged


@dataclass(frozen=True, slots=True)
class Scores:
    """All scores. Over folds: their mean (of counts the sum), or their sample standard deviation.

    `uncertainty` is None where the predictions have no such maps.
    """

    sweep: Sweep
    per_class: Mapping[str, ThingScores]
    stuff: Stuff
    detection: Detection
    dice: Overlap | None
    iou: Overlap | None
    ties: Ties | None
    froc: Frocs | None
    lesion_free: LesionFree | None
    missed: Missed | None
    strata: Mapping[str, Mapping[str, Stratum]]
    uncertainty: Uncertainty | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """PQ over the thresholds under both matchings for the lesions of one size; counts at each threshold.

    `extra_pairs`: pairs that the published way counts beyond the one-to-one assignment; `lesions_taken_twice` and
    `predictions_taken_twice`: those that it counts in more than one pair.
    """

    lesions: int
    one_to_one: Curve | None
    paper: Curve | None
    extra_pairs: tuple[int, ...]
    lesions_taken_twice: tuple[int, ...]
    predictions_taken_twice: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals, by bootstrap over patients, that hold the share `level` of the resamples.

    `values` has the scores' keys, each with low and high.
    """

    resamples: int
    seed: int
    patients: int
    values: Mapping[str, Any]
    level: float

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary of scores.json."""
        head = {"level": self.level, "resamples": self.resamples, "seed": self.seed, "patients": self.patients}
        return {**head, **_listed(self.values)}


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of some images. Over folds `scores` is the mean, `std` the spread and `folds` each fold's report.

    `missing` counts the images scored as if nothing had been predicted; `fold` is the number of the fold in folds.json,
    None where the images are not one fold; `not_given` says for each score that is None why; `knows_truth` that prompts
    from the ground truth gave away where the lesions are.
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
    intervals: Intervals | None = None
    explained: Mapping[str, Explained] | None = None
    knows_truth: bool = False

    @property
    def best(self) -> float | None:
        """Give the threshold with the highest PQ, of several the smallest; None without PQ."""
        curve = self.scores.sweep.PQ
        return THRESHOLDS[curve.index(max(curve))] if curve else None

    @property
    def footnote(self) -> str | None:
        """Say what marks these scores; None where nothing does."""
        return FOOTNOTE if self.knows_truth else None

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
            "intervals": self.intervals and self.intervals.to_json(),
            **({"explain_threshold": self._explained()} if self.explained else {}),
            **({"knows_truth": True} if self.knows_truth else {}),
            "std": self._numbers(self.std) if self.std else None,
            "folds": [fold.to_json() for fold in self.folds],
            "not_given": dict(self.not_given),
            "notes": [*NOTES, *self._warnings()],
        }

    def _warnings(self) -> Iterator[str]:
        """Say what makes these very figures less sure than they look."""
        if self.footnote:
            yield self.footnote
        ties, level = self.scores.ties, FIXED_LEVELS[SHOWN]
        if ties and ties.low and ties.high and ties.high[level] - ties.low[level] > _VISIBLE:
            low, high = (100 * curve[level] for curve in (ties.low, ties.high))
            yield (
                f"Detections share their scores: by the order of equal ones AP at {FIXED[SHOWN]} could lie anywhere "
                f"from {low:.2f} to {high:.2f} %."
            )
        if self.intervals and self.intervals.patients < FEW_PATIENTS:
            yield f"Intervals drawn from {self.intervals.patients} patients, fewer than {FEW_PATIENTS}, are rough."

    def _explained(self) -> dict[str, Any]:
        return {name: asdict(entry, dict_factory=_with_lists) for name, entry in (self.explained or {}).items()}

    def _numbers(self, scores: Scores) -> dict[str, Any]:
        numbers = asdict(scores, dict_factory=_with_lists)
        if scores.uncertainty is None:
            del numbers["uncertainty"]
        classes = [*scores.per_class, "none"]
        numbers["detection"] |= {"fixed_thresholds": list(FIXED), "classes": classes}
        if numbers["froc"]:
            numbers["froc"] |= {"fixed_thresholds": list(FIXED), "false_positives_per_image": list(RATES)}
        if self.best is None:
            return {**numbers, "best": None}
        level = THRESHOLDS.index(self.best)
        best = {name: curve[level] if curve else None for name, curve in numbers["sweep"].items()}
        return {**numbers, "best": {"threshold": self.best, **best}}


def _with_lists(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: _listed(value) for key, value in pairs}


def _listed(value: Any) -> Any:
    """Turn tuples into lists, at any depth, as they come back from JSON."""
    if isinstance(value, Mapping):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value
