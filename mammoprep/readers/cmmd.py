"""CMMD: 5,202 digital mammograms of 1,775 women with biopsy-proven tumours, without outlines.

What      The Chinese Mammography Database: CC and MLO images of one or both breasts; for each diseased side mass,
          calcification or both, benign or malignant, and for most malignant ones of part D2 the molecular subtype.
Licence   CC BY 4.0 (The Cancer Imaging Archive)
Get it    https://doi.org/10.7937/tcia.eqde-4b16
Layout    CMMD_clinicaldata_revision.xlsx (or saved as .csv); *.dcm at any depth below folders named like D1-0001, as in
          CMMD/D1-0001/07-18-2010-NA-NA-79377/1.000000-NA-70244/1-1.dcm
Labels    pathology   benign, malignant, so that classes match other data sets; no image has a finding
Images    Nothing is outlined, so diseased sides cannot be used. The table has rows for diseased sides alone: what a
          missing row means is not said. `missing_rows` decides: `unknown` uses no image, `normal` takes the sides
          without a row, of patients who have one for the other side, as lesion-free (1,458 images).
Quirks    Which side a file shows stands in its header alone (ImageLaterality, else PatientOrientation), the view in
          ViewCodeSequence; only headers are read here. Some women are benign on one side and malignant on the other.
          Two images have 16 bits, the others 8. Dates are shifted, the manufacturer is removed.
Citation  Cui et al., The Chinese Mammography Database, TCIA (2021), doi 10.7937/tcia.eqde-4b16.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.records import Reader, Record, Skipped
from mammoprep.tables import Row, files, find, keyed, load, number

TABLES = ("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv")
LABELS = {"pathology": ("benign", "malignant")}
KINDS = ("benign", "malignant")
MISSING_ROWS = ("unknown", "normal")

_PATIENT = re.compile(r"D[12]-\d{4}", re.IGNORECASE)
_Side = tuple[str, str]
"""A patient's id and L or R."""


@dataclass(frozen=True, slots=True)
class _Image:
    """A file with what its path and header say of it."""

    source: str
    patient: str
    side: Literal["L", "R"]
    view: str


def tables(root: Path) -> tuple[Path, ...]:
    """Give the table of a raw folder."""
    path = next((path for name in TABLES if (path := find(root, name)) is not None), None)
    if path is None:
        raise MissingFileError(root / TABLES[0], hint="Download it from https://doi.org/10.7937/tcia.eqde-4b16.")
    return (path,)


def read(
    root: Path,
    *,
    labels: str = "pathology",
    missing_rows: Annotated[
        Literal["unknown", "normal"], "What a breast without a row in the table is; normal uses it."
    ] = "unknown",
) -> Iterator[Record | Skipped]:
    """Yield one Record a lesion-free image, and a Skipped for every other image and for each row without images."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    if missing_rows not in MISSING_ROWS:
        raise UnknownNameError(missing_rows, kind="meaning of missing rows", known=MISSING_ROWS)
    table = load(tables(root)[0], columns=("ID1", "LeftRight", "number", "classification"))
    yield from table.skipped
    strange = "ID1 is not like D1-0001, or LeftRight is neither L nor R"
    sides = yield from keyed(table.rows, _side, otherwise=strange)
    patients, found, ids = {patient for patient, _ in sides}, Counter[_Side](), Counter[str]()
    for item in _images(root):
        if isinstance(item, Skipped):
            yield item
            continue
        side: _Side = (item.patient, item.side)
        found[side] += 1
        made = _record(item, row=sides.get(side), known=item.patient in patients, missing=missing_rows)
        yield _numbered(made, ids) if isinstance(made, Record) else made
    for side, row in sides.items():
        if number(row["number"]) != found[side]:
            said = f"{number(row['number']) or 0:g} images" if number(row["number"]) else "no number of images"
            reason = f"the row says {said} of this side, {found[side]} are there"
            yield Skipped(row.where, "table", reason)


def _side(row: Row) -> _Side | None:
    patient, side = row["ID1"].upper(), row["LeftRight"].upper()
    return (patient, side) if _PATIENT.fullmatch(patient) and side in ("L", "R") else None


def _numbered(record: Record, ids: Counter[str]) -> Record:
    """Give a second image of the same side and view an id of its own."""
    ids[record.image_id] += 1
    again = ids[record.image_id]
    return record if again == 1 else replace(record, image_id=f"{record.image_id}_{again}")


def _images(root: Path) -> Iterator[_Image | Skipped]:
    """Read the side and the view of each file from its header."""
    from mammoprep import pixels

    for path in files(root, ".dcm"):
        place = path.relative_to(root)
        patient = next((part.upper() for part in place.parts[:-1] if _PATIENT.fullmatch(part)), "")
        if not patient:
            yield Skipped(place.as_posix(), "table", "the file is in no folder named like D1-0001")
            continue
        try:
            facts = pixels.read_facts(pixels.locate(root, place.as_posix()))
        except pixels.PixelError as error:
            yield Skipped(place.as_posix(), "image", str(error))
            continue
        if facts.laterality in ("L", "R"):
            yield _Image(place.as_posix(), patient, "L" if facts.laterality == "L" else "R", facts.view)
        else:
            yield Skipped(place.as_posix(), "image", "the header does not say which side it shows")


def _record(image: _Image, *, row: Row | None, known: bool, missing: str) -> Record | Skipped:
    if row is not None:
        kind = row["classification"].lower()
        return Skipped(image.source, "selection", f"{kind if kind in KINDS else 'other'} side, without outlines")
    if not known:
        return Skipped(image.source, "table", "the table has no row of the patient")
    if missing == "unknown":
        reason = "the table has no row of this side; --missing-rows normal takes it as lesion-free"
        return Skipped(image.source, "selection", reason)
    return Record(
        source=image.source,
        image_id="_".join(part for part in (image.patient, image.side, image.view) if part),
        patient_id=image.patient,
        study_id=image.patient,
        laterality=image.side,
        view=image.view,
        lesion_free=True,
    )


READER = Reader(
    name="cmmd",
    title="CMMD",
    labels=LABELS,
    markers=TABLES,
    tables=tables,
    read=read,
)
