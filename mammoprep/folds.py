"""Folds for cross-validation: by patient, the classes in balance, what they hold printed."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.panoptic import Category, Image

Balance = Literal["label", "none"]
SPLITS = {"training": "train", "train": "train", "test": "val", "testing": "val"}
"""What the values of cases.csv's `split` mean for `--official`."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Integer image ids, sorted."""

    train: tuple[int, ...]
    val: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one fold validates on, or one side of the official split.

    Of each class, `findings` counts the segments and `showing` the images that have one.
    """

    name: str
    images: int
    patients: int
    lesion_free: int
    findings: Mapping[str, int]
    showing: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FoldTable:
    """Folds, and how alike they are.

    `spread` is, over the parts, std / mean of the share of images that show a class: 0 is perfect balance, None a class
    that does not occur. `leaks` counts the patients on both sides, of which only an official split may have any.
    """

    seed: int
    balance: str
    folds: tuple[Fold, ...]
    parts: tuple[Part, ...]
    spread: Mapping[str, float | None]
    leaks: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give what folds.json says."""
        return {
            "k": len(self.folds),
            "seed": self.seed,
            "group": "patient_id",
            "balance": self.balance,
            **({"leaks": self.leaks} if self.leaks else {}),
            "folds": [{"train": fold.train, "val": fold.val} for fold in self.folds],
            "table": {"parts": [asdict(part) for part in self.parts], "spread": dict(self.spread)},
        }

    def lacking(self) -> Iterator[tuple[str, str]]:
        """Yield (part, class) where a class that occurs does not occur in a part: its score there is undefined."""
        for part in self.parts:
            yield from ((part.name, name) for name, spread in self.spread.items() if spread and not part.findings[name])


@dataclass(frozen=True, slots=True)
class _Row:
    """One image as folds see it; `classes` holds the class of each finding."""

    id: int
    patient: str
    split: str
    lesion_free: bool
    classes: tuple[str, ...]


_Case = tuple[str, str, bool]
"""Patient, split, lesion-free."""


def make(
    dataset: Path,
    *,
    k: int = 5,
    seed: int = 0,
    balance: Balance = "label",
    official: bool = False,
    allow_leak: bool = False,
) -> FoldTable:
    """Make k folds of a DATASET, no patient in two of them, and write folds.json.

    `balance="label"` makes the folds alike in strata. An image's stratum is the class among its findings that is rarest
    in the data set. Images without a drawn finding are two strata more: free of lesions, as the data set says, or not.
    `official` makes the data set's own split the only fold, with `allow_leak` even where patients are on both sides.
    Raises MammoprepError for a patient in two folds or in none, an empty fold, and a `k` that is more than the patients
    allow.
    """
    with panoptic.no_collection():
        classes, rows = _read(dataset)
    if official:
        parts = _official(rows, dataset)
        leaks = _leaks(parts)
        if leaks and not allow_leak:
            raise MammoprepError(
                f"{leaks} patients are on both sides of the official split, so a score on it flatters. "
                "Leave out --official, or say --allow-leak."
            )
        table = replace(_table(parts, classes, holds_out=("val",), seed=0, balance="official"), leaks=leaks)
    else:
        parts = _stratified(rows, k=k, seed=seed, balance=balance)
        if _leaks(parts):
            raise MammoprepError(
                f"{_leaks(parts)} patients are in two folds. This is a bug of the splitter: report it."
            )
        table = _table(parts, classes, holds_out=tuple(parts), seed=seed, balance=balance)
    panoptic.write_json(dataset / "folds.json", table.to_json())
    return table


def _read(dataset: Path) -> tuple[tuple[str, ...], list[_Row]]:
    """Give the thing classes, and the images in the order of their ids; equal values of two images are kept once."""
    cases, kept = _cases(dataset), dict[tuple[int, ...], tuple[int, ...]]()
    categories: list[Category] = []
    images: dict[int, _Case | None] = {}
    drawn: dict[int, tuple[int, ...]] = {}
    for found in panoptic.read(dataset):
        if isinstance(found, Category):
            categories.append(found)
        elif isinstance(found, Image):
            images[found.id] = cases.get(found.name)
        elif found.image_id in drawn:
            raise panoptic.not_one_each(dataset)
        else:
            classes = tuple(segment.category_id for segment in found.segments)
            drawn[found.image_id] = kept.setdefault(classes, classes)
    if any(number not in images for number in drawn):
        raise panoptic.not_one_each(dataset)
    missing = sum(case is None for case in images.values())
    if missing:
        raise MammoprepError(f"{dataset}: cases.csv lacks {missing} images of panoptic.json. Convert it again.")
    names = {category.id: category.name for category in sorted(categories, key=attrgetter("id")) if category.isthing}
    shown = {(): ()} | {classes: tuple(names[each] for each in classes if each in names) for classes in kept}
    rows = [_Row(number, *case, shown[drawn.get(number, ())]) for number, case in sorted(images.items()) if case]
    nobody = sum(not row.patient for row in rows)
    if nobody:
        raise MammoprepError(f"{dataset}: cases.csv gives {nobody} images no patient_id. Fill it in.")
    return tuple(names.values()), rows


def _cases(dataset: Path) -> dict[str, _Case]:
    """Give what cases.csv says of each image name."""
    cases: dict[str, _Case] = {}
    kept: dict[_Case, _Case] = {}
    for row in panoptic.read_cases(dataset):
        for column in ("image_id", "patient_id"):
            if column not in row:
                raise MammoprepError(f"{dataset / 'cases.csv'} has no column {column}. Convert it again.")
        case = (row["patient_id"], row.get("split", ""), row.get("lesion_free") == "1")
        cases[row["image_id"]] = kept.setdefault(case, case)
    return cases


def _stratified(rows: Sequence[_Row], *, k: int, seed: int, balance: str) -> dict[str, list[_Row]]:
    """Give the images of each fold by the fold's name."""
    if balance not in get_args(Balance):
        raise UnknownNameError(balance, kind="balance", known=get_args(Balance))
    patients = len({row.patient for row in rows})
    if not 2 <= k <= patients:
        raise MammoprepError(f"{k} folds cannot be made of {patients} patients. Give -k from 2 to {patients}.")
    strata = _strata(rows) if balance == "label" else [""] * len(rows)
    if max(Counter(strata).values()) < k:  # nothing to stratify, which scikit-learn refuses
        strata = [""] * len(rows)
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    groups = _numbered([row.patient for row in rows])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # the table shows it
        splits = splitter.split(groups, _numbered(strata), groups)
        return {f"fold {i}": [rows[j] for j in held_out] for i, (_, held_out) in enumerate(splits)}


def _numbered(names: Sequence[str]) -> NDArray[np.int32]:
    """Give each name its number among all in their order; arrays of long texts take ten times the memory."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int32)


def _strata(rows: Sequence[_Row]) -> list[str]:
    counts = Counter(name for row in rows for name in row.classes)
    unlabelled = {True: "lesion-free", False: "no drawn finding"}
    return [
        min(row.classes, key=lambda name: (counts[name], name)) if row.classes else unlabelled[row.lesion_free]
        for row in rows
    ]


def _official(rows: Sequence[_Row], dataset: Path) -> dict[str, list[_Row]]:
    """Give the two sides of the data set's own split."""
    without = sum(not row.split for row in rows)
    if without:
        raise MammoprepError(
            f"{dataset}: {without} of {len(rows)} images have no official split. Leave out --official."
        )
    unknown = {row.split for row in rows} - SPLITS.keys()
    if unknown:
        raise MammoprepError(
            f"{dataset / 'cases.csv'}: split is {min(unknown)!r}; known are {', '.join(SPLITS)}. Leave out --official."
        )
    parts: dict[str, list[_Row]] = {"train": [], "val": []}
    for row in rows:
        parts[SPLITS[row.split]].append(row)
    return parts


def _table(
    parts: Mapping[str, Sequence[_Row]], classes: Sequence[str], *, holds_out: Sequence[str], seed: int, balance: str
) -> FoldTable:
    """Give one fold for each part that is held out, and count what the parts hold."""
    _check(parts)
    counted = tuple(_count(name, rows, classes) for name, rows in parts.items())
    return FoldTable(
        seed=seed,
        balance=balance,
        folds=tuple(_fold(parts, name) for name in holds_out),
        parts=counted,
        spread={name: _spread([part.showing[name] / part.images for part in counted]) for name in classes},
    )


def _check(parts: Mapping[str, Sequence[_Row]]) -> None:
    """Refuse an empty fold."""
    for name, rows in parts.items():
        if not rows:
            raise MammoprepError(f"{name} is empty. Try another --seed, or fewer folds.")


def _leaks(parts: Mapping[str, Sequence[_Row]]) -> int:
    """Count the patients who are in two parts."""
    seen = Counter(patient for rows in parts.values() for patient in {row.patient for row in rows})
    return sum(count > 1 for count in seen.values())


def _fold(parts: Mapping[str, Sequence[_Row]], held_out: str) -> Fold:
    train = sorted(row.id for name, rows in parts.items() if name != held_out for row in rows)
    return Fold(train=tuple(train), val=tuple(sorted(row.id for row in parts[held_out])))


def _count(name: str, rows: Sequence[_Row], classes: Sequence[str]) -> Part:
    found = Counter(label for row in rows for label in row.classes)
    shown = Counter(label for row in rows for label in set(row.classes))
    return Part(
        name=name,
        images=len(rows),
        patients=len({row.patient for row in rows}),
        lesion_free=sum(row.lesion_free for row in rows),
        findings={label: found[label] for label in classes},
        showing={label: shown[label] for label in classes},
    )


def _spread(rates: Sequence[float]) -> float | None:
    mean = fmean(rates)
    return pstdev(rates) / mean if mean else None
