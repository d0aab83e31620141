"""VinDr-Mammo: 20,000 digital mammograms of 5,000 examinations, lesions marked by boxes.

What      Full-field digital mammograms from two hospitals in Hanoi (Siemens, Planmed, IMS Giotto), double-read with
          arbitration: BI-RADS and density of each breast, 2,254 boxes with finding names, most with a BI-RADS.
Licence   PhysioNet Restricted Health Data License 1.5.0: sign the agreement, no redistribution.
Get it    https://physionet.org/content/vindr-mammo/1.0.0/ (doi 10.13026/br2v-7517)
Layout    finding_annotations.csv, breast-level_annotations.csv (optional), metadata.csv (not read),
          images/<study_id>/<image_id>.dicom
Labels    birads          BI-RADS 3, 4, 5 of the finding; lymph node, skin and nipple findings have none: no class
          breast-birads   BI-RADS 3, 4, 5 of the breast; a box on a breast of another category has no class
          finding         ten finding names; a box with several takes the rarest, all stay in `finding_categories`
Patients  There is no patient id: an examination (study) counts as a patient; it may have more than one series.
Quirks    Boxes are floats and may leave the image by some 40 pixels: they are kept, and listed only where nothing is
          left inside. An image is lesion-free where all its rows say `No Finding`, whatever the BI-RADS of its breast
          (162 such images have 3 to 5). An image of breast-level_annotations.csv alone is lesion-free at BI-RADS 1 and
          2 (the boxes mark what is not benign), else not used. Of rows that disagree the first holds.
Citation  Nguyen et al., Scientific Data 10, 277 (2023), doi 10.1038/s41597-023-02100-7.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.records import Box, Finding, Reader, Record, Skipped
from mammoprep.tables import Row, find, load, number, same

FINDING_TABLE = "finding_annotations.csv"
BREAST_TABLE = "breast-level_annotations.csv"
NO_FINDING = "No Finding"

FINDING_COUNTS = {
    "Mass": 1226,
    "Suspicious Calcification": 543,
    "Focal Asymmetry": 269,
    "Architectural Distortion": 119,
    "Asymmetry": 97,
    "Skin Thickening": 57,
    "Suspicious Lymph Node": 57,
    "Nipple Retraction": 37,
    "Global Asymmetry": 26,
    "Skin Retraction": 18,
}
"""Boxes of each name in the release, the frequent first: a box with several names takes the one furthest down."""

BIRADS = ("BI-RADS 3", "BI-RADS 4", "BI-RADS 5")
LABELS = {"birads": BIRADS, "breast-birads": BIRADS, "finding": tuple(FINDING_COUNTS)}

_NAMES = {name.casefold(): name for name in (*FINDING_COUNTS, NO_FINDING)}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IDS = ("image_id", "study_id")
_IMAGE_COLUMNS = ("laterality", "view_position", "height", "width", "breast_birads", "breast_density", "split")
_FINDING_COLUMNS = ("finding_categories", "finding_birads", *_CORNERS)


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the findings, and the breasts where they are there."""
    findings = find(root, FINDING_TABLE)
    if findings is None:
        raise MissingFileError(root / FINDING_TABLE, hint="Download VinDr-Mammo whole from PhysioNet.")
    breasts = find(root, BREAST_TABLE)
    return (findings,) if breasts is None else (findings, breasts)


def read(root: Path, *, labels: str = "birads") -> Iterator[Record | Skipped]:
    """Yield one Record an image that the tables name, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    path, *breast_paths = tables(root)
    table = load(path, columns=(*_IDS, *_IMAGE_COLUMNS, *_FINDING_COLUMNS), optional=("series_id",))
    yield from table.skipped
    images = _group(table.rows)
    sources = set()
    for rows in images.values():
        for item in _image(rows, labels=labels):
            sources.add(item.source)
            yield item
    for breast_path in breast_paths:
        breasts = load(breast_path, columns=_IDS, optional=_IMAGE_COLUMNS)
        yield from breasts.skipped
        for image_id, rows in _group(breasts.rows).items():
            if image_id not in images:
                item = _breast_only(rows[0])
                sources.add(item.source)
                yield item
    yield from _unnamed_files(root, sources)


def _group(rows: Sequence[Row]) -> dict[str, list[Row]]:
    images: dict[str, list[Row]] = {}
    for row in rows:
        images.setdefault(row["image_id"], []).append(row)
    return images


def _breast_only(row: Row) -> Record | Skipped:
    """Give an image that only the breast table names: boxes mark what is not benign, so BI-RADS 1 and 2 have none."""
    if not _safe(row):
        return _unsafe(row)
    record = _record(row.cells, lesion_free=True)
    if _birads(row["breast_birads"]) in {"BI-RADS 1", "BI-RADS 2"}:
        return record
    return Skipped(record.source, "table", f"not in {FINDING_TABLE}: its findings are unknown")


def _image(rows: Sequence[Row], *, labels: str) -> Iterator[Record | Skipped]:
    """Yield what must be left out of one image, then its record."""
    if not _safe(rows[0]):
        yield _unsafe(rows[0])
        return
    image = {column: next((row[column] for row in rows if row[column]), "") for column in (*_IDS, *_IMAGE_COLUMNS)}
    yield from _disagreements(rows, image)
    findings = []
    for item in _findings(rows, image=image, labels=labels):
        if isinstance(item, Finding):
            findings.append(item)
        else:
            yield item
    free = [row for row in rows if _is_free(row)]
    lesion_free = len(free) == len(rows)
    if not lesion_free:
        for row in free:
            yield Skipped(row.where, "table", f"{NO_FINDING!r} of an image with other rows, which hold")
    yield _record(image, findings=findings, lesion_free=lesion_free)


def _safe(row: Row) -> bool:
    """Say whether the ids can be the names of a folder and a file inside it."""
    return all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", row[column]) for column in _IDS)


def _unsafe(row: Row) -> Skipped:
    return Skipped(
        row.where, "image", "image_id or study_id is not letters, digits, '.', '_', '-': no file has that name"
    )


def _disagreements(rows: Sequence[Row], image: Mapping[str, str]) -> Iterator[Skipped]:
    for row in rows:
        if not re.fullmatch(r"[A-Za-z0-9._-]*", row["series_id"]):
            yield Skipped(row.where, "table", "series_id has stray characters; it is not needed and the row is used")
        for column, value in image.items():
            if row[column] and not same(row[column], value):
                yield Skipped(row.where, "table", f"{column} differs from an earlier row of the image, which holds")


def _findings(rows: Sequence[Row], *, image: Mapping[str, str], labels: str) -> Iterator[Finding | Skipped]:
    seen = set()
    for row in rows:
        names = _finding_names(row)
        for name in names:
            if name not in _NAMES.values():
                yield Skipped(row.where, "table", "a finding name that is not one of the release's")
        box = _box(row, image)
        if isinstance(box, str):
            yield Skipped(row.where, "finding", box)
        elif (box, *names) in seen:
            yield Skipped(row.where, "table", "the row repeats an earlier one")
        elif box is not None:
            yield Finding(box, _label(row, image, labels), row.where, _attributes(row, image))
        elif names != [NO_FINDING]:
            yield Skipped(row.where, "finding", "the row has no box")
        seen.add((box, *names))


def _finding_names(row: Row) -> list[str]:
    """Take apart `['Mass', 'Asymmetry']`, and what spreadsheet programs make of it, without evaluating anything."""
    words = (" ".join(word.split()) for word in re.split(r"[\[\]()'\"‘’“”`,;|]", row["finding_categories"]))
    return [_NAMES.get(word.casefold(), word) for word in words if word]


def _is_free(row: Row) -> bool:
    return _finding_names(row) == [NO_FINDING] and not any(row[corner] for corner in _CORNERS)


def _box(row: Row, image: Mapping[str, str]) -> Box | str | None:
    """Give the row's box, None where it has none, or the reason why it cannot be used."""
    if not any(row[corner] for corner in _CORNERS):
        return None
    x0, y0, x1, y1 = (number(row[corner]) for corner in _CORNERS)
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return "a corner of the box is missing or no number"
    if x0 >= x1 or y0 >= y1:
        return "the box is empty or inverted"
    height, width = _size(image) or (math.inf, math.inf)
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return "the box lies outside the image"
    return Box(x0, y0, x1, y1)


def _label(row: Row, image: Mapping[str, str], labels: str) -> str | None:
    if labels == "finding":
        known = [name for name in FINDING_COUNTS if name in _finding_names(row)]
        return known[-1] if known else None
    birads = _birads(row["finding_birads"] if labels == "birads" else image["breast_birads"])
    return birads if birads in BIRADS else None


def _birads(cell: str) -> str:
    """Give `BI-RADS n` for `BI-RADS n`, `n` or `n.0`; "" for anything else."""
    match = re.fullmatch(r"(?:bi-?rads)?\s*([0-6])(?:\.0)?", cell, re.IGNORECASE)
    return f"BI-RADS {match[1]}" if match else ""


def _attributes(row: Row, image: Mapping[str, str]) -> dict[str, str | int | float | list[str]]:
    return {
        "finding_categories": _finding_names(row),
        "finding_birads": row["finding_birads"],
        "breast_birads": image["breast_birads"],
    }


def _record(cells: Mapping[str, str], *, findings: Sequence[Finding] = (), lesion_free: bool) -> Record:
    study_id, image_id = cells["study_id"], cells["image_id"]
    density = re.fullmatch(r"(?:density)?\s*([A-D])", cells["breast_density"], re.IGNORECASE)
    return Record(
        source=f"images/{study_id}/{image_id}.dicom",
        image_id=image_id,
        patient_id=study_id,
        study_id=study_id,
        laterality=_laterality(cells["laterality"]),
        view=cells["view_position"],
        density=density[1].upper() if density else "",
        split=cells["split"],
        lesion_free=lesion_free,
        size=_size(cells),
        findings=tuple(findings),
    )


def _laterality(cell: str) -> Literal["L", "R", ""]:
    sides: dict[str, Literal["L", "R"]] = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R"}
    return sides.get(cell.upper(), "")


def _size(cells: Mapping[str, str]) -> tuple[int, int] | None:
    height, width = number(cells["height"]), number(cells["width"])
    if height is None or width is None or height < 1 or width < 1:
        return None
    return int(height), int(width)


def _unnamed_files(root: Path, sources: set[str]) -> Iterator[Skipped]:
    for path in sorted((root / "images").rglob("*")):
        source = path.relative_to(root).as_posix()
        if path.suffix.lower() in {".dicom", ".dcm"} and not path.name.startswith(".") and source not in sources:
            yield Skipped(source, "table", "no table names the file")


READER = Reader(
    name="vindr",
    title="VinDr-Mammo",
    labels=LABELS,
    markers=(FINDING_TABLE, BREAST_TABLE),
    tables=tables,
    read=read,
)
