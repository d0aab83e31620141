"""cases.csv, skipped.csv and manifest.json, held against panoptic.json."""

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from mammoprep import panoptic
from mammoprep.check.entries import Content, Drawn
from mammoprep.check.rules import Edit, Problem
from mammoprep.errors import MammoprepError
from mammoprep.records import Stage

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
    """Give the columns and the rows of a CSV file; of a short row the missing cells are empty.

    Raises ValueError or OSError where it is none.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="", strict=True)
        try:
            return list(reader.fieldnames or []), [{k: v for k, v in row.items() if k is not None} for row in reader]
        except csv.Error as error:
            raise ValueError(str(error)) from error


def rows_of(
    dataset: Path, name: str, columns: Sequence[str], *, rule: str
) -> tuple[list[dict[str, str]] | None, list[Problem]]:
    """Read a table that must have some columns; give None for rows, and say why, where it has not or is unreadable."""
    if not (dataset / name).is_file():
        return None, []  # which `files` says
    try:
        found, rows = read_csv(dataset / name)
    except (OSError, ValueError):
        return None, [Problem("files", name, "it cannot be read as CSV in UTF-8")]
    missing = [column for column in columns if column not in found]
    if missing:
        return None, [Problem(rule, name, f"it has no column {', '.join(missing)}")]
    return rows, []


def files(dataset: Path, content: Content) -> Iterator[Problem]:
    """Find what is missing, and what nobody asked for."""
    for name in _FILES:
        if not (dataset / name).is_file():
            yield Problem("files", name, "it is missing")
    names = {f"{drawn.image.name}.png" for drawn in content.images.values()}
    for folder in _FOLDERS:
        if not (dataset / folder).is_dir():
            yield Problem("files", f"{folder}/", "it is missing")
            continue
        for path in sorted((dataset / folder).iterdir()):
            if path.name not in names:
                yield Problem("stray-file", f"{folder}/{path.name}", "panoptic.json does not name it")


def cases(rows: Sequence[Row], content: Content) -> Iterator[Problem]:
    """Check the rows of cases.csv against the images."""
    by_name = {drawn.image.name: drawn for drawn in content.images.values()}
    counts = Counter(row["image_id"] for row in rows)
    for name in by_name.keys() - counts.keys():
        yield Problem("cases-rows", "cases.csv", f"image {name} has no row")
    sources: set[str] = set()
    for index, row in enumerate(rows):
        where = f"cases.csv image {row['image_id']}"
        drawn = by_name.get(row["image_id"])
        if drawn is None or counts[row["image_id"]] > 1:
            yield Problem(
                "cases-rows", where, "panoptic.json has no such image" if drawn is None else "it has two rows"
            )
            continue
        yield from _source_problems(row["source"], sources, where)
        if not row["patient_id"]:
            yield Problem("patient", where, "patient_id is empty")
        wrong = [column for column, fits in _VALUES.items() if not fits(row[column])]
        if wrong:
            yield Problem("cases-values", where, f"{wrong[0]} is {row[wrong[0]][:40]!r}")
        else:
            yield from _coordinate_problems(row, drawn, where)
            yield from _finding_problems(row, content.findings(drawn), index, where)
    yield from _order_problems(rows, by_name)


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


def _coordinate_problems(row: Row, drawn: Drawn, where: str) -> Iterator[Problem]:
    """Check that the stored image is no larger than what the crop leaves of the native one, at its scale.

    A crop's far edges stand nowhere: what is stored may be smaller. Without a crop it may be so by a rounding. A
    mirrored image runs from crop_x0 to the left.
    """
    for side, axis, stored in (("height", "y", drawn.image.height), ("width", "x", drawn.image.width)):
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


def _order_problems(rows: Sequence[Row], by_name: Mapping[str, Drawn]) -> Iterator[Problem]:
    placed = [(row["source"], by_name[row["image_id"]].image) for row in rows if row["image_id"] in by_name]
    placed.sort(key=lambda item: item[0])
    for (_, before), (_, image) in zip(placed, placed[1:], strict=False):
        if image.id < before.id:
            what = f"image {image.name} has the id {image.id}, {before.name} before it {before.id}"
            yield Problem("image-order", "panoptic.json", what)
            return


def skipped(rows: Sequence[Row]) -> Iterator[Problem]:
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
    names = {category.id: category.name for category in content.categories if category.isthing}
    drawn = Counter(
        names[segment.category_id]
        for each in content.images.values()
        for segment in each.image.segments
        if segment.category_id in names
    )
    there = {"images": len(content.images), "patients": patients, "findings": {n: drawn[n] for n in names.values()}}
    for key, value in there.items():
        if value is not None and found["counts"].get(key) != value:
            yield Problem("manifest", "manifest.json", f"counts.{key} is {found['counts'].get(key)}, there are {value}")
    for path, code in found["inputs"].items():
        if not isinstance(code, str) or len(code) != 64 or set(code) - set("0123456789abcdef"):
            yield Problem("manifest", "manifest.json", f"inputs: {path} has no SHA-256")
