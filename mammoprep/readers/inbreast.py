"""INbreast: 410 digital mammograms of 115 examinations, lesions outlined by a radiologist to the pixel.

What      Full-field digital mammograms from a hospital in Porto (Siemens Novation): BI-RADS and density of each image,
          outlines with finding names in 343 XML files; outlines of the pectoral muscle.
Licence   Research agreement with the authors; no redistribution.
Get it    From the authors of the article: the download page is gone.
Layout    INbreast.csv or INbreast.xls, AllDICOMs/<File Name>_<patient>_MG_<L|R>_<CC|ML|FB>_ANON.dcm,
          AllXML/<File Name>.xml, PectoralMuscle/ with XML files of the same names; .roi files, reports and INbreast.pdf
          are not read. Of a workbook, only Sheet1 is: Sheet2 holds patients' numbers, ages, dates and diagnoses.
Labels    birads        BI-RADS 1 to 6 of the image; 4a, 4b and 4c are 4, and stay in `birads`
          birads-4abc   the same with BI-RADS 4a, 4b and 4c apart
          finding       the outline's own name, spelling variants made one; other names (`Unnamed`) have no class
Images    Those with outlines, and those of BI-RADS 1 without, as lesion-free. An image of another category without
          outlines is never used.
Shapes    A polygon; of an outline of one or two points, each is a calcification and becomes a disc of POINT_DIAMETER.
          Outlines may leave the image (5 files). Exact repeats within an image are left out.
Muscle    `pectoral` gives the muscle's outlines as regions, for the stuff class `pectoral muscle`.
Patients  The patient stands in the DICOM file's name alone, as a pseudonym; the table says `removed`.
Quirks    View ML in file names is MLO. Acquisition date is year and semester. ACR 1 to 4 is density A to D. The
          workbook ends with a row of sums that names no file.
Citation  Moreira et al., Academic Radiology 19 (2012) 236-248, doi 10.1016/j.acra.2011.09.014.
"""

import plistlib
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.parsers.expat import ExpatError

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.records import Finding, Outline, PointXY, Polygon, Reader, Record, Skipped, Stroke
from mammoprep.tables import Row, files, find, load

TABLES = ("INbreast.csv", "INbreast.xls")
DICOMS, OUTLINES, MUSCLES = "AllDICOMs", "AllXML", "PectoralMuscle"
SPELLINGS = {
    "Mass": ("mass", "masses"),
    "Calcification": ("calcification", "calcifications"),
    "Cluster": ("cluster", "clusters"),
    "Spiculated Region": ("spiculatedregion", "espiculatedregion"),
    "Asymmetry": ("asymmetry", "assymetry", "assymmetry", "asymetry"),
    "Distortion": ("distortion",),
}
"""Names of outlines, and how they are spelled, case and blanks aside."""
GRADES = ("1", "2", "3", "4", "5", "6")
LABELS = {
    "birads": tuple(f"BI-RADS {grade}" for grade in GRADES),
    "birads-4abc": tuple(f"BI-RADS {grade}" for grade in (*GRADES[:3], "4a", "4b", "4c", *GRADES[4:])),
    "finding": tuple(SPELLINGS),
}
PIXEL_MM = 0.07
"""Pixel spacing by the article; the files do not say it."""
POINT_DIAMETER = 10.0
"""Native pixels, 0.7 mm: a calcification of which only the place is marked."""
FARTHEST = 1e6
"""Native pixels: a coordinate beyond is a slip."""

_NAMES = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
_FILE = re.compile(r"(\d+)_([0-9a-z]+)_MG_([LR])_([A-Z]+)_ANON\.dcm", re.IGNORECASE)
_POINT = re.compile(r"\(\s*([-+.\de]+)\s*,\s*([-+.\de]+)\s*\)", re.IGNORECASE)
_GRADE = re.compile(r"([1-6])\s*([abc]?)", re.IGNORECASE)
_VIEWS = {"ML": "MLO"}
_DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D"}


@dataclass(frozen=True, slots=True)
class _File:
    """What a DICOM file's name says, and its path relative to the raw folder."""

    source: str
    patient: str
    side: str
    view: str


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the table, and the XML files of lesions and muscles."""
    return (_table(root), *files(find(root, OUTLINES), ".xml"), *files(find(root, MUSCLES), ".xml"))


def read(root: Path, *, labels: str = "birads", pectoral: bool = False) -> Iterator[Record | Skipped]:
    """Yield one Record an image that can be used, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    table = load(_table(root), columns=("Laterality", "View", "File Name", "ACR", "Bi-Rads"), sheet="Sheet1")
    yield from table.skipped
    dicoms, strange = _dicoms(root)
    yield from strange
    rows: dict[str, Row] = {}
    for row in table.rows:
        if not re.fullmatch(r"\d{1,20}", row["File Name"]):
            yield Skipped(row.where, "table", "the row names no file: File Name is not digits")
        elif row["File Name"] in rows:
            yield Skipped(row.where, "table", "the row names an image of an earlier row, which holds")
        else:
            rows[row["File Name"]] = row
    outlines = yield from _xml_files(root, OUTLINES, rows)
    muscles = (yield from _xml_files(root, MUSCLES, rows)) if pectoral else {}
    yield from (
        Skipped(file.source, "table", "no table names the file") for key, file in dicoms.items() if key not in rows
    )
    for key, row in rows.items():
        if key not in dicoms:
            yield Skipped(f"{DICOMS}/{key}", "image", "no DICOM file has a name that begins so")
            continue
        yield from _disagreements(row, dicoms[key])
        yield from _image(row, dicoms[key], outlines=outlines.get(key), muscle=muscles.get(key), labels=labels)


def _table(root: Path) -> Path:
    path = next((path for name in TABLES if (path := find(root, name)) is not None), None)
    if path is None:
        raise MissingFileError(root / TABLES[0], hint="It, or INbreast.xls, comes with the release.")
    return path


def _dicoms(root: Path) -> tuple[dict[str, _File], list[Skipped]]:
    """Give the DICOM files by the number that their names begin with."""
    found: dict[str, _File] = {}
    strange = []
    for path in files(find(root, DICOMS), ".dcm"):
        source, match = path.relative_to(root).as_posix(), _FILE.fullmatch(path.name)
        if match is None:
            strange.append(Skipped(source, "table", "the name is not like 22678622_61b13c59bcba149d_MG_R_CC_ANON.dcm"))
        elif match[1] in found:
            strange.append(Skipped(source, "table", "another file has the same number"))
        else:
            view = match[4].upper()
            found[match[1]] = _File(source, match[2].lower(), match[3].upper(), _VIEWS.get(view, view))
    return found, strange


def _xml_files(root: Path, folder: str, rows: Mapping[str, Row]) -> Generator[Skipped, None, dict[str, Path]]:
    """Return a folder's XML files by the number that their names begin with; list those that belong to no row."""
    place = find(root, folder)
    if place is None:
        raise MissingFileError(root / folder, hint="It comes with the release, and holds outlines as XML.")
    found: dict[str, Path] = {}
    for path in files(place, ".xml"):
        match = re.match(r"\d+", path.stem)
        key = match[0] if match else ""
        if key in rows and key not in found:
            found[key] = path
        else:
            reason = "another file has the same number" if key in found else "no row of the table has its number"
            yield Skipped(path.relative_to(root).as_posix(), "table", reason)
    return found


def _disagreements(row: Row, file: _File) -> Iterator[Skipped]:
    for column, said in (("Laterality", file.side), ("View", file.view)):
        if row[column].upper() != said:
            yield Skipped(row.where, "table", f"{column} differs from the DICOM file's name; the table holds")


def _image(
    row: Row, file: _File, *, outlines: Path | None, muscle: Path | None, labels: str
) -> Iterator[Record | Skipped]:
    """Yield what must be left out of one image, then its record."""
    try:
        lesions = _regions(outlines)
        muscles = _regions(muscle)
    except ValueError as error:
        yield Skipped(file.source, "image", str(error))
        return
    findings, regions = [], []
    for where, region in muscles:
        points = _points(region)
        if isinstance(points, str) or len(set(points)) < 3:
            yield Skipped(
                where, "table", points if isinstance(points, str) else "the muscle has fewer than three points"
            )
        else:
            regions.append(Polygon(points))
    for item in _findings(lesions, row=row, labels=labels):
        if isinstance(item, Finding):
            findings.append(item)
        else:
            yield item
    grade = _grade(row)
    if findings or (grade[:1] == "1" and not lesions):
        yield _record(row, file, findings=findings, muscle=regions)
    elif lesions:
        yield Skipped(file.source, "selection", "none of its outlines can be drawn")
    else:
        yield Skipped(file.source, "selection", f"BI-RADS {grade or 'unknown'}, yet without outlines")


def _regions(path: Path | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Give the outlines of a property list, each with where it stands; a ValueError says why it cannot be read.

    plistlib refuses entity declarations, so that no file can unfold itself in memory.
    """
    if path is None:
        return []
    try:
        content = plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)
        found = [region for image in content["Images"] for region in image["ROIs"]]
        return [(f"{path.name} ROI {number}", dict(region)) for number, region in enumerate(found, start=1)]
    except (ExpatError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
        raise ValueError(f"its outlines, {path.name}, are no property list with Images and ROIs") from None


def _findings(lesions: list[tuple[str, Mapping[str, Any]]], *, row: Row, labels: str) -> Iterator[Finding | Skipped]:
    seen: set[Outline] = set()
    for where, region in lesions:
        points = _points(region)
        if isinstance(points, str):
            yield Skipped(where, "finding", points)
            continue
        name = str(region.get("Name", "")).strip()
        for shape in _shapes(points):
            if shape in seen:
                yield Skipped(where, "finding", "the outline repeats an earlier one of the image")
                continue
            seen.add(shape)
            drawn = {"drawn_width": shape.width} if isinstance(shape, Stroke) else {}
            yield Finding(shape, _label(name, row, labels), where, {"name": name, **drawn, "birads": row["Bi-Rads"]})


def _points(region: Mapping[str, Any]) -> tuple[PointXY, ...] | str:
    """Give the points (x, y) from the upper left corner, or the reason why there are none."""
    texts = region.get("Point_px")
    if not isinstance(texts, list) or not texts:
        return "the outline has no points"
    points = []
    for text in texts:
        match = _POINT.fullmatch(str(text).strip())
        try:
            x, y = (float(number) for number in match.groups()) if match else (FARTHEST + 1, 0.0)
        except ValueError:
            x, y = FARTHEST + 1, 0.0
        if not max(abs(x), abs(y)) <= FARTHEST:
            return "a point is not two numbers of pixels, like (1095.87, 2162.24)"
        points.append((x, y))
    return tuple(points)


def _shapes(points: tuple[PointXY, ...]) -> list[Polygon | Stroke]:
    distinct = list(dict.fromkeys(points))
    return [Polygon(points)] if len(distinct) > 2 else [Stroke((point,), POINT_DIAMETER) for point in distinct]


def _grade(row: Row) -> str:
    """Give the BI-RADS, such as `2` or `4a`; "" for anything else."""
    match = _GRADE.fullmatch(row["Bi-Rads"])
    return f"{match[1]}{match[2].lower()}" if match else ""


def _label(name: str, row: Row, labels: str) -> str | None:
    if labels == "finding":
        return _NAMES.get("".join(letter for letter in name.casefold() if letter.isalpha()))
    grade = _grade(row)
    label = f"BI-RADS {grade[:1] if labels == 'birads' else grade}"
    return label if label in LABELS[labels] else None


def _record(row: Row, file: _File, *, findings: list[Finding], muscle: list[Polygon]) -> Record:
    sides: dict[str, Literal["L", "R"]] = {"L": "L", "R": "R"}
    return Record(
        source=file.source,
        image_id=row["File Name"],
        patient_id=file.patient,
        study_id=file.patient,
        laterality=sides.get(row["Laterality"].upper(), ""),
        view=row["View"].upper(),
        density=_DENSITIES.get(row["ACR"], ""),
        lesion_free=not findings,
        pixel_spacing_mm=PIXEL_MM,
        findings=tuple(findings),
        regions={"pectoral muscle": tuple(muscle)} if muscle else {},
    )


READER = Reader(
    name="inbreast",
    title="INbreast",
    labels=LABELS,
    markers=(*TABLES, OUTLINES, DICOMS),
    tables=tables,
    read=read,
)
