"""A result folder: scores.json to read, and tables.npz from which `mammoprep compare` resamples."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation.column import Rows, blocks
from mammoprep.evaluation.matching import THRESHOLDS, Matching
from mammoprep.evaluation.report import Report
from mammoprep.evaluation.table import Detections, Guesses, Table, Truths
from mammoprep.panoptic import Category

SCORES, TABLES = "scores.json", "tables.npz"
FORMAT = 2
"""Version of tables.npz."""

_Columns = TypeVar("_Columns", Truths, Guesses, Detections)
_PARTS: Mapping[str, type[Any]] = {"truths": Truths, "guesses": Guesses, "detections": Detections}
_ARRAYS = ("square_mm", "annotated", "lesion_free", "missing", "lesions", "confusion")
_BROKEN = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy, zipfile and zlib raise for a file that is damaged or something else."""
_HINT = "Score it: mammoprep evaluate RUN, or mammoprep evaluate DATASET PREDICTIONS --out RESULT."


@dataclass(frozen=True, slots=True)
class Result:
    """What a result folder holds: a title, scores.json, and the table of each fold, or of the only part.

    `truth` is the SHA-256 of the ground truth's panoptic.json.
    """

    title: str
    scores: Mapping[str, Any]
    matching: Matching
    tables: tuple[Table, ...]
    truth: str = ""


def save(out: Path, report: Report, tables: Sequence[Table], *, truth: str) -> None:
    """Write tables.npz and scores.json; patients are there as numbers only, in the order of their first image."""
    arrays: dict[str, Rows] = {}
    for k, table in enumerate(tables):
        for name, values in _arrays_of(table):
            arrays[f"{k}/{name}"] = values
    categories = [category.to_json() for category in tables[0].categories]
    header = {"format": FORMAT, "matching": report.matching, "categories": categories, "tables": len(tables)}
    arrays["header"] = np.array(json.dumps({**header, "thresholds": THRESHOLDS, "truth": truth}))
    with panoptic.replacing(out / TABLES) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                _write(file, values)
    panoptic.write_json(out / SCORES, report.to_json())


def _write(file: IO[bytes], values: Rows) -> None:
    """Write an array as `numpy.save` does, some rows at a time."""
    header = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": values.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for place in blocks(values) if values.shape else [...]:
        file.write(np.ascontiguousarray(values[place]).tobytes())


def _arrays_of(table: Table) -> list[tuple[str, Rows]]:
    """Give every array of a table by its name; those that are not given are left out."""
    facts = {**table.facts, "patient_id": _numbered(table.facts["patient_id"])}
    named: list[tuple[str, Any]] = [("names", np.array(table.names, dtype=np.str_))]
    named += [(f"facts/{name}", values) for name, values in facts.items()]
    named += [(name, getattr(table, name)) for name in _ARRAYS]
    for part, kind in _PARTS.items():
        columns = getattr(table, part)
        named += [(f"{part}/{field.name}", columns and getattr(columns, field.name)) for field in fields(kind)]
    return [(name, values) for name, values in named if values is not None]


def _numbered(patients: NDArray[np.str_]) -> NDArray[np.str_]:
    numbers: dict[str, str] = {"": ""}
    for name in patients.tolist():
        numbers.setdefault(name, f"{len(numbers):06d}")
    return np.array([numbers[name] for name in patients.tolist()], dtype=np.str_)


def load(folder: Path) -> Result:
    """Load a result folder, or a RUN's `evaluation`."""
    inside = folder / "evaluation"
    found = inside if not (folder / SCORES).exists() and inside.is_dir() else folder
    if not folder.is_dir():
        raise MissingFileError(folder, hint="Name a RUN, or a folder that `mammoprep evaluate --out` wrote.")
    scores = panoptic.read_json(found / SCORES, hint=_HINT)
    if (
        not isinstance(scores, dict)
        or not {"sweep", "dice", "std"} <= scores.keys()
        or not isinstance(scores["sweep"], dict)
    ):
        raise MammoprepError(f"{found / SCORES} was not written by `mammoprep evaluate`. {_HINT}")
    path = found / TABLES
    if not path.is_file():
        raise MissingFileError(path, hint=_HINT)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            if header["format"] != FORMAT or tuple(header["thresholds"]) != THRESHOLDS:
                raise MammoprepError(f"{path} was written by another version of mammoprep. {_HINT}")
            categories = tuple(Category.from_json(entry) for entry in header["categories"])
            own = {**arrays}
            tables = tuple(_table(own, categories, f"{k}/") for k in range(header["tables"]))
            if not tables:
                raise ValueError("no table")
    except _BROKEN as error:
        raise MammoprepError(f"{path} is no table of results. {_HINT}") from error
    place = folder.resolve()
    title = place.parent.name if place.name == "evaluation" else place.name
    if place.parent.name == "on":
        title = f"{place.parent.parent.name} on {place.name}"
    return Result(title, scores, header["matching"], tables, header["truth"])


def _table(arrays: Mapping[str, NDArray[Any]], categories: tuple[Category, ...], prefix: str) -> Table:
    own = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    return Table(
        categories=categories,
        names=tuple(own["names"].tolist()),
        facts={name.removeprefix("facts/"): values for name, values in own.items() if name.startswith("facts/")},
        truths=_columns(Truths, own, "truths"),
        guesses=_columns(Guesses, own, "guesses"),
        detections=_columns(Detections, own, "detections"),
        square_mm=own["square_mm"],
        annotated=own["annotated"],
        lesion_free=own["lesion_free"],
        missing=own["missing"],
        lesions=own.get("lesions"),
        confusion=own.get("confusion"),
    )


def _columns(kind: type[_Columns], own: Mapping[str, NDArray[Any]], part: str) -> _Columns | None:
    names = [field.name for field in fields(kind)]
    if f"{part}/{names[0]}" not in own:
        return None
    return kind(**{name: own[f"{part}/{name}"] for name in names})
