"""cases.csv, skipped.csv and manifest.json, held against panoptic.json."""

import csv
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from mammoprep import panoptic
from mammoprep.check.entries import Brief, Content
from mammoprep.check.rules import Edit, Problem
from mammoprep.errors import MammoprepError
from mammoprep.records import Stage
from mammoprep.shelf import Shelf

SKIPPED = ("source", "stage", "reason")
MANIFEST = {
    **{"format": int, "dataset": str, "options": dict, "labels": str},
    **{"versions": dict, "seed": int, "counts": dict, "inputs": dict},
}
"""The keys of manifest.json, and of what type each is."""
_FILES = ("instances.json", "cases.csv", "skipped.csv", "manifest.json")
_FOLDERS = ("images", "panoptic")
_HINT = "Convert again."

_MOST_DIGITS = 9
"""Digits that a number of pixels or findings may have."""

Row = Mapping[str, str]


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Give the columns and the rows of a CSV file, as `Rows`; raises ValueError or OSError where it is none."""
    rows = Rows(path)
    return rows.columns(), list(rows)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a CSV file, read each time that they are gone through; of a short row the missing cells are empty.

    Raises ValueError or OSError where it is no CSV file.
    """

    path: Path

    def columns(self) -> list[str]:
        """Read the header."""
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, strict=True).fieldnames or [])

    def __iter__(self) -> Iterator[dict[str, str]]:
        with self.path.open(newline="", encoding="utf-8") as file:
            try:
                for row in csv.DictReader(file, restval="", strict=True):
                    yield {column: cell for column, cell in row.items() if column is not None}
            except csv.Error as error:
                raise ValueError(str(error)) from error


def rows_of(dataset: Path, name: str, columns: Sequence[str], *, rule: str) -> tuple[Rows | None, list[Problem]]:
    """Open a table that must have some columns; give None, and say why, where it has not or is unreadable."""
    if not (dataset / name).is_file():
        return None, []  # which `files` says
    rows = Rows(dataset / name)
    try:
        missing = [column for column in columns if column not in rows.columns()]
        deque(rows, maxlen=0)  # to the end, so that nothing fails later
    except (OSError, ValueError, csv.Error):
        return None, [Problem("files", name, "it cannot be read as CSV in UTF-8")]
    if missing:
        return None, [Problem(rule, name, f"it has no column {', '.join(missing)}")]
    return rows, []


def files(dataset: Path, content: Content) -> Iterator[Problem]:
    """Find what is missing, and what nobody asked for."""
    for name in _FILES:
        if not (dataset / name).is_file():
            yield Problem("files", name, "it is missing")
    for folder in _FOLDERS:
        if not (dataset / folder).is_dir():
            yield Problem("files", f"{folder}/", "it is missing")
            continue
        with os.scandir(dataset / folder) as there:
            strays = [entry.name for entry in there if not _is_named(entry.name, content)]
        for name in sorted(strays):
            yield Problem("stray-file", f"{folder}/{name}", "panoptic.json does not name it")


def _is_named(file: str, content: Content) -> bool:
    return file.endswith(".png") and file.removesuffix(".png") in content.names


def cases(rows: Iterable[Row], content: Content) -> Iterator[Problem]:
    """Check the rows of cases.csv against the images; `content` has counted them (`count_rows`)."""
    for name, brief in content.names.items():
        if not brief.rows:
            yield Problem("cases-rows", "cases.csv", f"image {name} has no row")
    sources: set[str] = set()
    for index, row in enumerate(rows):
        where = f"cases.csv image {row['image_id']}"
        image = content.names.get(row["image_id"])
        if image is None or image.rows > 1:
            yield Problem(
                "cases-rows", where, "panoptic.json has no such image" if image is None else "it has two rows"
            )
            continue
        yield from _source_problems(row["source"], sources, where)
        if not row["patient_id"]:
            yield Problem("patient", where, "patient_id is empty")
        wrong = [column for column, fits in _VALUES.items() if not fits(row[column])]
        if wrong:
            yield Problem("cases-values", where, f"{wrong[0]} is {row[wrong[0]][:40]!r}")
        else:
            yield from _coordinate_problems(row, image, where)
            yield from _finding_problems(row, image.findings, index, where)
    yield from _order_problems(rows, content.names)


def count_rows(rows: Iterable[Row], content: Content) -> dict[str, str]:
    """Note what cases.csv says of each image, and give the patient of each name that has one."""
    patients: dict[str, str] = {}
    kept: dict[str, str] = {}
    for row in rows:
        image = content.names.get(row["image_id"])
        if image:
            image.rows += 1
            image.lesion_free |= row["lesion_free"] == "1"
        if row["patient_id"]:
            patient = kept.setdefault(row["patient_id"], row["patient_id"])
            patients[image.name if image else row["image_id"]] = patient
    return patients


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _is_count(cell: str) -> bool:
    return cell.isascii() and cell.isdigit() and len(cell) <= _MOST_DIGITS


def _is_scale(cell: str) -> bool:
    return 0 < _number(cell) <= 1


def _is_mirrored(cell: str) -> bool:
    return cell.startswith("-") and _is_scale(cell[1:])


_VALUES: Mapping[str, Callable[[str], bool]] = {
    "laterality": lambda cell: cell in ("L", "R", ""),
    "native_height": lambda cell: _is_count(cell) and int(cell) > 0,
    "native_width": lambda cell: _is_count(cell) and int(cell) > 0,
    "crop_x0": _is_count,
    "crop_y0": _is_count,
    "scale_x": lambda cell: _is_scale(cell) or _is_mirrored(cell),
    "scale_y": _is_scale,
    "pixel_spacing_mm": lambda cell: cell == "" or 0 < _number(cell) < math.inf,
    "n_findings": _is_count,
    "lesion_free": lambda cell: cell in ("0", "1"),
}


def _source_problems(source: str, seen: set[str], where: str) -> Iterator[Problem]:
    path = PurePosixPath(source)
    if not source or path.is_absolute() or ".." in path.parts or "\\" in source or source[1:2] == ":":
        yield Problem("source", where, "it is no path relative to the raw folder")
    elif source in seen:
        yield Problem("source", where, "another image has the same source")
    seen.add(source)


def _coordinate_problems(row: Row, image: Brief, where: str) -> Iterator[Problem]:
    """Check that the stored image is no larger than what the crop leaves of the native one, at its scale.

    A crop's far edges stand nowhere: what is stored may be smaller. Without a crop it may be so by a rounding. A
    mirrored image runs from crop_x0 to the left.
    """
    for side, axis, stored in (("height", "y", image.height), ("width", "x", image.width)):
        native, crop, scale = int(row[f"native_{side}"]), int(row[f"crop_{axis}0"]), float(row[f"scale_{axis}"])
        left = ((native if scale > 0 else 0) - crop) * scale
        if stored > left + 0.5 + 1e-6 * abs(left) or crop > native:
            what = f"the stored {side} is {stored}, (native - crop) x scale is {left:.1f}"
            yield Problem("coordinates", where, what)


def _finding_problems(row: Row, findings: int, index: int, where: str) -> Iterator[Problem]:
    if int(row["n_findings"]) != findings:
        what = f"n_findings is {row['n_findings']}, panoptic.json has {findings}"
        yield Problem("n-findings", where, what, Edit("cases.csv", (index, "n_findings"), str(findings)))
    if row["lesion_free"] == "1" and findings:
        yield Problem("lesion-free", where, f"lesion_free is 1, panoptic.json has {findings} findings")


def _order_problems(rows: Iterable[Row], names: Mapping[str, Brief]) -> Iterator[Problem]:
    placed = Shelf[tuple[int, str]]()
    for row in rows:
        if image := names.get(row["image_id"]):
            placed.put((image.id, image.name), text=row["source"])
    for (earlier, before), (number, name) in pairwise(placed):
        if number < earlier:
            yield Problem(
                "image-order", "panoptic.json", f"image {name} has the id {number}, {before} before it {earlier}"
            )
            return


def skipped(rows: Iterable[Row]) -> Iterator[Problem]:
    """Check the rows of skipped.csv."""
    for number, row in enumerate(rows, start=2):
        if row["stage"] not in get_args(Stage):
            yield Problem("skipped", f"skipped.csv row {number}", f"the stage is {row['stage'][:40]!r}")
        elif not row["source"] or not row["reason"]:
            yield Problem("skipped", f"skipped.csv row {number}", "source or reason is empty")


def read_manifest(dataset: Path) -> tuple[Mapping[str, Any], list[Problem]]:
    """Read manifest.json; give nothing, and say why, where it has not its keys."""
    name = "manifest.json"
    if not (dataset / name).is_file():
        return {}, []
    try:
        content = panoptic.read_json(dataset / name, hint=_HINT)
    except MammoprepError:
        return {}, [Problem("files", name, "it is no readable JSON")]
    missing = [key for key in MANIFEST if not isinstance(content, dict) or key not in content]
    if missing:
        return {}, [Problem("manifest", name, f"it lacks {', '.join(missing)}")]
    wrong = [key for key, kind in MANIFEST.items() if type(content[key]) is not kind]
    if wrong:
        return {}, [Problem("manifest", name, f"{wrong[0]} is of another type than {MANIFEST[wrong[0]].__name__}")]
    if content["format"] != panoptic.FORMAT:
        return {}, [Problem("manifest", name, f"format is {content['format']!r}, this version reads {panoptic.FORMAT}")]
    found: Mapping[str, Any] = content
    return found, []


def manifest(found: Mapping[str, Any], content: Content, patients: int | None) -> Iterator[Problem]:
    """Check the counts and the hashes of manifest.json; `patients` None is not known."""
    findings = {category.name: content.drawn[category.id] for category in content.categories if category.isthing}
    there = {"images": len(content.images), "patients": patients, "findings": findings}
    for key, value in there.items():
        if value is not None and found["counts"].get(key) != value:
            yield Problem("manifest", "manifest.json", f"counts.{key} is {found['counts'].get(key)}, there are {value}")
    for path, code in found["inputs"].items():
        if not isinstance(code, str) or len(code) != 64 or set(code) - set("0123456789abcdef"):
            yield Problem("manifest", "manifest.json", f"inputs: {path} has no SHA-256")
