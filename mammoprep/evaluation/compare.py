"""Results on the same images side by side: a table as the paper's, and paired differences with intervals."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from io import StringIO
from typing import Any

import numpy as np

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.evaluation.marks import FOOTNOTE, MARK, TRUTH
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.results import Result
from mammoprep.evaluation.statistics import LEVEL, RESAMPLES, SEED, Key, limits, samples, why_not

MEASURES = ("RQ", "SQ", "PQ", "AP", "Dice")
"""The columns of the paper's Tables 1 and 2."""
_PLACES: Mapping[str, Key] = {
    **{name: ("sweep", name) for name in ("RQ", "SQ", "PQ", "AP")},
    "Dice": ("dice", "pooled"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A score in [0, 1], its standard deviation over folds where there are folds; `best` of its column."""

    value: float | None
    std: float | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One system. A published row has a `source`, and the `threshold` that its paper chose.

    `knows_truth`: prompts from the ground truth told it where the lesions are; its title bears the mark.
    """

    title: str
    cells: dict[str, Cell]
    source: str | None = None
    threshold: float | None = None
    knows_truth: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """A result minus the first one, with a 95 % interval by paired bootstrap over patients."""

    title: str
    measure: str
    value: float | None
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """Tell whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows and differences at one threshold; `reason` says why there are no differences."""

    threshold: float
    images: int
    rows: tuple[Row, ...]
    published: tuple[Row, ...]
    differences: tuple[Difference, ...]
    reason: str | None

    @property
    def footnote(self) -> str | None:
        """Say what the mark beside a title means; None where none has it."""
        return FOOTNOTE if any(row.knows_truth for row in (*self.rows, *self.published)) else None

    def to_json(self) -> dict[str, Any]:
        """Give the dictionary of comparison.json."""

        def entry(row: Row) -> dict[str, Any]:
            cells = {name: {"value": c.value, "std": c.std, "best": c.best} for name, c in row.cells.items()}
            origin = {} if row.source is None else {"source": row.source, "threshold": row.threshold}
            known = {"knows_truth": True} if row.knows_truth else {}
            return {"name": row.title, **origin, **known, **cells}

        return {
            "threshold": self.threshold,
            "images": self.images,
            "results": [entry(row) for row in self.rows],
            "published": [entry(row) for row in self.published],
            "differences": [
                {"name": d.title, "measure": d.measure, "value": d.value, "interval": [d.low, d.high]}
                for d in self.differences
            ],
            "level": LEVEL,
            **({"footnote": self.footnote} if self.footnote else {}),
            "not_given": {} if self.reason is None else {"differences": self.reason},
        }


def compare(
    results: Sequence[Result],
    *,
    threshold: float = 0.1,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    published: str | None = None,
) -> Comparison:
    """Compare results on the same images: the rows at one IoU threshold, and each minus the first.

    Patients are drawn alike for all results; over folds, within each fold. Raises MammoprepError where the images, the
    patients, the folds, the classes or the matching differ.
    """
    if threshold not in THRESHOLDS:
        raise MammoprepError(f"--threshold {threshold:g} is not of the sweep. Take one of 0.05, 0.10 … 0.90.")
    if len(results) < 2:
        raise MammoprepError("One result cannot be compared. Name two or more.")
    _check_alike(results)
    level = THRESHOLDS.index(threshold)
    rows = [
        _marked(Row(title, _cells(result, level), knows_truth=bool(result.scores.get("knows_truth"))))
        for title, result in zip(_titles(results), results, strict=True)
    ]
    reason = "--resamples 0 asked for none" if not resamples else why_not(results[0].tables)
    differences: list[Difference] = []
    if reason is None:
        drawn = [_drawn(result, level, resamples=resamples, seed=seed) for result in results]
        for place in range(1, len(results)):
            differences += _differences(rows[0], rows[place], drawn[0], drawn[place])
    return Comparison(
        threshold=threshold,
        images=len({name for table in results[0].tables for name in table.names}),
        rows=_with_best(rows),
        published=published_rows(published) if published else (),
        differences=tuple(differences),
        reason=reason,
    )


_ALIKE: Mapping[str, Callable[[Result], Any]] = {
    "matching": lambda result: result.matching,
    "classes": lambda result: [category.name for category in result.tables[0].categories],
    "images": lambda result: sorted(name for table in result.tables for name in table.names),
    "folds": lambda result: [table.names for table in result.tables],
    "patients": lambda result: [table.facts["patient_id"].tolist() for table in result.tables],
    "ground truth": lambda result: result.truth,
}
"""What results must share to be compared."""


def _check_alike(results: Sequence[Result]) -> None:
    first = results[0]
    for other in results[1:]:
        for what, of in _ALIKE.items():
            if of(first) != of(other):
                raise MammoprepError(
                    f"{first.title} and {other.title} were scored on other {what}. Evaluate both on the same data set "
                    "and folds, with the same --matching."
                )


def _titles(results: Sequence[Result]) -> list[str]:
    """Give the results' titles, numbered where two are the same."""
    titles = [result.title for result in results]
    return [f"{t} ({i})" if titles.count(t) > 1 else t for i, t in enumerate(titles, start=1)]


def _marked(row: Row) -> Row:
    """Mark the title of a row whose prompts gave the truth away."""
    return replace(row, title=f"{row.title} {MARK}") if row.knows_truth else row


def _cells(result: Result, level: int) -> dict[str, Cell]:
    cells = {}
    for measure, place in _PLACES.items():
        try:
            value, spread = (_find(side, place, level) for side in (result.scores, result.scores.get("std")))
        except (KeyError, IndexError, TypeError) as error:
            raise MammoprepError(f"{result.title}: scores.json is damaged ({measure}). Evaluate again.") from error
        cells[measure] = Cell(value, spread)
    return cells


def _find(content: Any, place: Key, level: int) -> float | None:
    for key in place:
        content = None if content is None else content[key]
    value = content[level] if isinstance(content, list) else content
    if not isinstance(value, int | float | None):
        raise TypeError("no number")
    return value


def _drawn(result: Result, level: int, *, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Give each measure's resamples (B,)."""
    values = samples(result.tables, resamples=resamples, seed=seed)
    found = {measure: values[place] for measure, place in _PLACES.items() if place in values}
    return {measure: drawn if drawn.ndim == 1 else drawn[:, level] for measure, drawn in found.items()}


def _differences(
    first: Row, other: Row, drawn: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> list[Difference]:
    found = []
    for measure in MEASURES:
        before, after = first.cells[measure].value, other.cells[measure].value
        if before is None or after is None:
            found.append(Difference(other.title, measure, None, None, None))
        else:
            low, high = limits(others[measure] - drawn[measure])
            found.append(Difference(other.title, measure, after - before, low, high))
    return found


def _with_best(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Mark the highest value of each column above 0 among our own rows; who knew the truth rivals only its like."""
    rivals = [row for row in rows if not row.knows_truth] or rows
    values = {m: [v for row in rivals if (v := row.cells[m].value) is not None] for m in MEASURES}
    best = {m: max(given, default=None) for m, given in values.items()}
    return tuple(
        replace(
            row,
            cells={
                m: Cell(c.value, c.std, row in rivals and bool(c.value) and c.value == best[m])
                for m, c in row.cells.items()
            },
        )
        for row in rows
    )


def published_rows(dataset: str) -> tuple[Row, ...]:
    """Give the rows that papers print for a data set, at the threshold that each paper chose."""
    text = (files("mammoprep.evaluation") / "published.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(StringIO(text)))
    known = list(dict.fromkeys(line["dataset"] for line in lines))
    if dataset not in known:
        raise UnknownNameError(dataset, kind="published data set", known=known)
    rows: dict[tuple[str, str], Row] = {}
    for line in (line for line in lines if line["dataset"] == dataset):
        row = rows.setdefault((line["source"], line["model"]), _published(line))
        std = round(float(line["std"]) / 100, 10) if line["std"] else None
        row.cells[line["metric"]] = Cell(round(float(line["mean"]) / 100, 10), std)
        if line["threshold"]:
            row = replace(row, threshold=float(line["threshold"]))
        rows[line["source"], line["model"]] = row
    return tuple(replace(_marked(r), cells={m: r.cells.get(m, Cell(None)) for m in MEASURES}) for r in rows.values())


def _published(line: Mapping[str, str]) -> Row:
    return Row(line["model"], {}, source=line["source"], knows_truth=line["prompts"] == TRUTH)
