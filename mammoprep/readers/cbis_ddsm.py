"""CBIS-DDSM: 3,103 digitised film mammograms of 1,566 patients, 3,568 abnormalities outlined as mask files.

What      Films of the DDSM (four US centres, digitised at 42 to 50 µm), curated: of each abnormality a mask of the
          film's size, a crop, pathology by biopsy or follow-up, BI-RADS assessment, subtlety, and shape and margins
          of a mass or type and distribution of a calcification; of each film the density.
Licence   CC BY 3.0
Get it    https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY (The Cancer Imaging Archive), or its JPEG copy on Kaggle
Layout    {mass,calc}_case_description_{train,test}_set.csv in the raw folder or in its folder csv, and
          TCIA     <anything>/<PatientID>/<study>/<series>/*.dcm, where <series> is the SeriesInstanceUID or ends with
                   `-` and its last five digits, as TCIA's download program names it
          Kaggle   jpeg/<SeriesInstanceUID>/*.jpg, csv/dicom_info.csv
          Files are found by the SeriesInstanceUID in the tables' paths, whose names no download has any more.
Labels    pathology   benign, malignant; BENIGN_WITHOUT_CALLBACK is benign
          pathology3  benign, benign without callback, malignant
          type        mass, calcification
Patients  One id in all four tables. 31 patients are in one type's training and in the other type's test table.
Masks     Which file of a series is the mask and which the crop, no name tells: the tables swap them, and 104 pairs
          stand in two series. All are handed on, and the one whose pixels make a mask of the film is taken. Masks
          digitised at another pitch than the film are brought to its size.
Quirks    Each mass row breaks off inside its last cell, each calcification row inside the crop's. The density's column
          has two spellings, its values 1 to 4 become A to D, 0 (2 rows) none. 71 films stand in both types' tables and
          are two images here, each with the findings of its own type only.
Citation  Lee et al., Scientific Data 4, 170177 (2017), doi 10.1038/sdata.2017.177.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.records import Finding, MaskFile, Reader, Record, Skipped, stays_inside
from mammoprep.tables import Row, find, load, same

TABLES = {
    "mass_case_description_train_set.csv": "Mass-Training",
    "mass_case_description_test_set.csv": "Mass-Test",
    "calc_case_description_train_set.csv": "Calc-Training",
    "calc_case_description_test_set.csv": "Calc-Test",
}
"""The tables, and what the names of their images begin with."""
INDEX = "dicom_info.csv"
"""The JPEG copy's table of files."""
LABELS = {
    "pathology": ("benign", "malignant"),
    "pathology3": ("benign", "benign without callback", "malignant"),
    "type": ("mass", "calcification"),
}

_PATIENT, _SIDE, _VIEW, _DENSITY = "patient_id", "left or right breast", "image view", "breast density"
_IMAGE, _CROP, _MASK = "image file path", "cropped image file path", "ROI mask file path"
_COLUMNS = (_PATIENT, _SIDE, _VIEW, "abnormality id", "abnormality type", "pathology", _IMAGE, _CROP, _MASK)
_FACTS = {
    "pathology": "pathology",
    "abnormality type": "abnormality_type",
    "abnormality id": "abnormality_id",
    "assessment": "birads",
    "subtlety": "subtlety",
    "mass shape": "mass_shape",
    "mass margins": "mass_margins",
    "calc type": "calc_type",
    "calc distribution": "calc_distribution",
}
"""The columns that become a finding's attributes, and the names that they have there."""
_OPTIONAL = (_DENSITY, *(column for column in _FACTS if column not in _COLUMNS))
_SIDES: Mapping[str, Literal["L", "R"]] = {"LEFT": "L", "RIGHT": "R"}
_DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D"}
_SUFFIXES = (".dcm", ".dicom", ".jpg", ".jpeg", ".png")
_UID = re.compile(r"[0-9]+(\.[0-9]+){3,}")
_TAIL = re.compile(r".*-([0-9]{5})")


@dataclass(frozen=True, slots=True)
class _Path:
    """A path of the tables, of which a download keeps the subject (TCIA's PatientID) and the series at most."""

    text: str
    subject: str
    series: str
    file: str


class _Files:
    """The image files of a raw folder, by SeriesInstanceUID, or by subject and the UID's last five digits."""

    def __init__(self, root: Path) -> None:
        self.all: set[str] = set()
        self._series: dict[str | tuple[str, str], set[str]] = {}
        for folder, _, names in os.walk(root, followlinks=True):
            place = Path(folder).relative_to(root)
            found = {
                (place / name).as_posix()
                for name in names
                if name.lower().endswith(_SUFFIXES) and not name.startswith(".")
            }
            self.all |= found
            tail = _TAIL.fullmatch(place.name)
            if _UID.fullmatch(place.name):
                self.add(place.name, found)
            elif tail and len(place.parts) > 2:
                self.add((place.parts[-3], tail[1]), found)

    def add(self, series: str | tuple[str, str], sources: set[str]) -> None:
        """Add to a series' files."""
        self._series.setdefault(series, set()).update(sources)

    def of(self, path: _Path) -> list[str]:
        """Give a series' files; the one that the table names stands first, where it is there."""
        found = self._series.get(path.series) or self._series.get((path.subject, path.series[-5:])) or set()
        return sorted(found, key=lambda source: (source.rpartition("/")[2] != path.file, source))


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the tables that are there, and the JPEG copy's table of files."""
    found = [path for name in TABLES if (path := _find(root, name))]
    if not found:
        raise MissingFileError(
            root / next(iter(TABLES)), hint="Download the tables from https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY."
        )
    index = _find(root, INDEX)
    return (*found, index) if index else tuple(found)


def read(root: Path, *, labels: str = "pathology") -> Iterator[Record | Skipped]:
    """Yield one Record an image that the tables name, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    tables(root)
    files = _Files(root)
    yield from _add_index(root, files)
    unused = set(files.all)
    for name, prefix in TABLES.items():
        path = _find(root, name)
        if path is None:
            yield Skipped(name, "table", "the table is not there, and its images are not used")
            continue
        table = load(path, columns=_COLUMNS, optional=_OPTIONAL)
        yield from table.skipped
        for image_id, rows in _by_image(table.rows, prefix=prefix).items():
            for item in _image(image_id, rows, files=files, labels=labels):
                unused -= _sources(item)
                yield item
    yield from (Skipped(source, "table", "no table names the file") for source in sorted(unused))


def _find(root: Path, name: str) -> Path | None:
    return find(root, name) or find(root / "csv", name)


def _add_index(root: Path, files: _Files) -> Iterator[Skipped]:
    """Add what the JPEG copy's table says of files; their paths there begin above the raw folder."""
    path = _find(root, INDEX)
    if path is None:
        return
    table = load(path, columns=("image_path", "SeriesInstanceUID"))
    yield from table.skipped
    for row in table.rows:
        source = row["image_path"].replace("\\", "/")
        source = source if source in files.all else source.partition("/")[2]
        if not stays_inside(row["image_path"]):
            yield Skipped(row.where, "table", "the path leaves the raw folder")
        elif source not in files.all:
            yield Skipped(row.where, "table", "the file is not there")
        else:
            files.add(row["SeriesInstanceUID"], {source})


def _by_image(rows: Sequence[Row], *, prefix: str) -> dict[str, list[Row]]:
    """Group rows by the id that their columns give, which the release's paths begin with."""
    images: dict[str, list[Row]] = {}
    for row in rows:
        images.setdefault("_".join((prefix, row[_PATIENT], row[_SIDE].upper(), row[_VIEW].upper())), []).append(row)
    return images


def _image(image_id: str, rows: Sequence[Row], *, files: _Files, labels: str) -> Iterator[Record | Skipped]:
    """Yield what must be left out of one image, then its record."""
    first = rows[0]
    reason = _unusable(image_id, first)
    if reason:
        yield from (Skipped(row.where, "image", reason) for row in rows)
        return
    yield from _disagreements(rows, image_id)
    path = _path(first[_IMAGE])
    found = files.of(path)
    if len(found) > 1 and not found[0].endswith(f"/{path.file}"):
        yield Skipped(found[0], "image", f"one of {len(found)} files of its series, and nothing says which is the film")
        return
    source = found[0] if found else path.text
    findings = []
    for item in _findings(rows, source=source, files=files, labels=labels):
        if isinstance(item, Finding):
            findings.append(item)
        else:
            yield item
    yield Record(
        source=source,
        image_id=image_id,
        patient_id=first[_PATIENT],
        study_id=first[_PATIENT],
        laterality=_SIDES[first[_SIDE].upper()],
        view=first[_VIEW].upper(),
        density=_DENSITIES.get(first[_DENSITY], ""),
        split="test" if image_id.partition("_")[0].endswith("Test") else "training",
        findings=tuple(findings),
    )


def _unusable(image_id: str, row: Row) -> str:
    """Say why no image can be made of rows; "" where one can."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}", image_id) or not row[_PATIENT] or not row[_VIEW]:
        return "patient_id or image view is empty or not letters, digits, '-', '_'"
    if row[_SIDE].upper() not in _SIDES:
        return f"{_SIDE!r} is neither LEFT nor RIGHT"
    return "" if row[_IMAGE] else f"{_IMAGE!r} is empty"


def _disagreements(rows: Sequence[Row], image_id: str) -> Iterator[Skipped]:
    first = rows[0]
    for row in rows:
        if _path(row[_IMAGE]).subject != image_id:
            yield Skipped(row.where, "table", f"the name in {_IMAGE!r} differs from the row's columns, which hold")
        for column in (_IMAGE, _DENSITY):
            if not same(row[column], first[column]):
                yield Skipped(row.where, "table", f"{column!r} differs from an earlier row of the image, which holds")


def _findings(rows: Sequence[Row], *, source: str, files: _Files, labels: str) -> Iterator[Finding | Skipped]:
    seen = set()
    for row in rows:
        named = _path(row[_MASK])
        candidates = dict.fromkeys((*files.of(named), *files.of(_path(row[_CROP]))))
        candidates.pop(source, None)
        first, *others = candidates or [named.text]
        key = (row["abnormality id"], named.text)
        if key in seen:
            yield Skipped(row.where, "table", "the row repeats an earlier one")
        elif not first:
            yield Skipped(row.where, "finding", f"{_MASK!r} is empty")
        else:
            shape = MaskFile(first, others=tuple(others))
            facts = {name: row[column] for column, name in _FACTS.items() if row[column]}
            yield Finding(shape, _label(row, labels), row.where, facts)
        seen.add(key)


def _label(row: Row, labels: str) -> str | None:
    label = row["abnormality type" if labels == "type" else "pathology"].casefold().replace("_", " ")
    if labels == "pathology" and label == "benign without callback":
        label = "benign"
    return label if label in LABELS[labels] else None


def _path(cell: str) -> _Path:
    """Take `<subject>/<study>/<series>/<file>` apart; some copies of the tables have backslashes."""
    text = cell.replace("\\", "/")
    parts = text.split("/")
    return _Path(text, subject=parts[0], series=parts[-2] if len(parts) > 1 else "", file=parts[-1])


def _sources(item: Record | Skipped) -> set[str]:
    """Give the files that an item accounts for."""
    if isinstance(item, Skipped):
        return {item.source}
    shapes = (finding.shape for finding in item.findings)
    return {item.source, *(source for shape in shapes if isinstance(shape, MaskFile) for source in shape.sources)}


READER = Reader(
    name="cbis-ddsm",
    title="CBIS-DDSM",
    labels=LABELS,
    markers=(*TABLES, *(f"csv/{name}" for name in TABLES)),
    tables=tables,
    read=read,
)
