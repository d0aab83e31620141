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
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.parsers.expat import ExpatError

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.records import Finding, Outline, PointXY, Polygon, Reader, Record, Skipped, Stroke
from mammoprep.tables import Row, files, find, keyed, load, number

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
_FILE = re.compile(r"\d+_([0-9a-z]+)_MG_([LR])_([A-Z]+)_ANON\.dcm", re.IGNORECASE)
_POINT = re.compile(r"\(\s*([-+.\de]+)\s*,\s*([-+.\de]+)\s*\)", re.IGNORECASE)
_GRADE = re.compile(r"([1-6])\s*([abc]?)", re.IGNORECASE)
_Regions = list[tuple[str, Mapping[str, Any]]]
"""The outlines of a property list, each with where it stands."""
_VIEWS = {"ML": "MLO"}
_DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D"}


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the table, and the XML files of lesions and muscles."""
    return (_table(root), *files(find(root, OUTLINES), ".xml"), *files(find(root, MUSCLES), ".xml"))


def read(
    root: Path, *, labels: str = "birads", pectoral: Annotated[bool, "Label the pectoral muscle as stuff."] = False
) -> Iterator[Record | Skipped]:
    """Yield one Record an image that can be used, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    table = load(_table(root), columns=("Laterality", "View", "File Name", "ACR", "Bi-Rads"), sheet="Sheet1")
    yield from table.skipped
    rows = yield from keyed(table.rows, _number, otherwise="the row names no file: File Name is not digits")
    dicoms = yield from _by_number(root, DICOMS, rows=rows, ending=".dcm")
    outlines = yield from _by_number(root, OUTLINES, rows=rows, ending=".xml")
    muscles = (yield from _by_number(root, MUSCLES, rows=rows, ending=".xml")) if pectoral else {}
    for key, row in rows.items():
        source = dicoms[key].relative_to(root).as_posix() if key in dicoms else f"{DICOMS}/{key}"
        match = _FILE.fullmatch(dicoms[key].name) if key in dicoms else None
        if key not in dicoms:
            yield Skipped(source, "image", "no DICOM file has a name that begins so")
        elif match is None:
            yield Skipped(
                source, "image", "the name is not like 22678622_61b13c59bcba149d_MG_R_CC_ANON.dcm: no patient"
            )
        else:
            patient, side, view = match.groups()
            yield from _disagreements(row, side=side.upper(), view=_VIEWS.get(view.upper(), view.upper()))
            blank = _record(row, source=source, patient=patient.lower())
            yield from _image(row, blank, outlines=outlines.get(key), muscle=muscles.get(key), labels=labels)


def _table(root: Path) -> Path:
    path = next((path for name in TABLES if (path := find(root, name)) is not None), None)
    if path is None:
        raise MissingFileError(root / TABLES[0], hint="It, or INbreast.xls, comes with the release.")
    return path


def _number(row: Row) -> str | None:
    return row["File Name"] if re.fullmatch(r"\d{1,20}", row["File Name"]) else None


def _by_number(
    root: Path, folder: str, *, rows: Mapping[str, Row], ending: str
) -> Generator[Skipped, None, dict[str, Path]]:
    """Return a folder's files by the number that their names begin with; list those that belong to no row."""
    place = find(root, folder)
    if place is None:
        raise MissingFileError(root / folder, hint="It comes with the release.")
    found: dict[str, Path] = {}
    for path in files(place, ending):
        match = re.match(r"\d+", path.stem)
        key = match[0] if match else ""
        if key in rows and key not in found:
            found[key] = path
        else:
            reason = "another file has the same number" if key in found else "no row of the table has its number"
            yield Skipped(path.relative_to(root).as_posix(), "table", reason)
    return found


def _disagreements(row: Row, *, side: str, view: str) -> Iterator[Skipped]:
    for column, said in (("Laterality", side), ("View", view)):
        if row[column].upper() != said:
            yield Skipped(row.where, "table", f"{column} differs from the DICOM file's name; the table holds")


def _image(
    row: Row, blank: Record, *, outlines: Path | None, muscle: Path | None, labels: str
) -> Iterator[Record | Skipped]:
    """Yield what must be left out of one image, then its record."""
    try:
        lesions, muscles = _regions(outlines), _regions(muscle)
    except ValueError as error:
        yield Skipped(blank.source, "image", str(error))
        return
    findings, regions = [], []
    for item in (*_findings(lesions, row=row, labels=labels), *_muscles(muscles)):
        if isinstance(item, Finding):
            findings.append(item)
        elif isinstance(item, Polygon):
            regions.append(item)
        else:
            yield item
    grade = _grade(row)
    if findings or (grade == "1" and not lesions):
        muscle_regions = {"pectoral muscle": tuple(regions)} if regions else {}
        yield replace(blank, lesion_free=not findings, findings=tuple(findings), regions=muscle_regions)
    elif lesions:
        yield Skipped(blank.source, "selection", "none of its outlines can be drawn")
    else:
        yield Skipped(blank.source, "selection", f"BI-RADS {grade or 'unknown'}, yet without outlines")


def _regions(path: Path | None) -> _Regions:
    """Give the outlines of a property list, each with where it stands; a ValueError says why it cannot be read.

    plistlib refuses entity declarations, so that no file can unfold itself in memory.
    """
    if path is None:
        return []
    try:
        content = plistlib.loads(path.read_bytes(), fmt=plistlib.FMT_XML)
        found = [region for image in content["Images"] for region in image["ROIs"]]
        return [
            (f"{path.parent.name}/{path.name} ROI {place}", dict(region)) for place, region in enumerate(found, start=1)
        ]
    except (ExpatError, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise ValueError("its outlines are no property list with Images and ROIs") from None


def _findings(lesions: _Regions, *, row: Row, labels: str) -> Iterator[Finding | Skipped]:
    seen: set[Outline] = set()
    for where, region in lesions:
        try:
            shapes = _shapes(_points(region))
        except ValueError as error:
            yield Skipped(where, "finding", str(error))
            continue
        name = str(region.get("Name", "")).strip()
        for shape in shapes:
            if shape in seen:
                yield Skipped(where, "finding", "the outline repeats an earlier one of the image")
                continue
            seen.add(shape)
            drawn = {"drawn_width": shape.width} if isinstance(shape, Stroke) else {}
            yield Finding(shape, _label(name, row, labels), where, {"name": name, **drawn, "birads": row["Bi-Rads"]})


def _muscles(muscles: _Regions) -> Iterator[Polygon | Skipped]:
    for where, region in muscles:
        try:
            (shape,) = _shapes(_points(region))
        except ValueError as error:
            yield Skipped(where, "table", str(error))
            continue
        yield shape if isinstance(shape, Polygon) else Skipped(where, "table", "the muscle has fewer than three points")


def _points(region: Mapping[str, Any]) -> tuple[PointXY, ...]:
    """Give the points (x, y) from the upper left corner; a ValueError says why there are none."""
    texts = region.get("Point_px")
    if not isinstance(texts, list) or not texts:
        raise ValueError("the outline has no points")
    return tuple(map(_point, texts))


def _point(text: object) -> PointXY:
    match = _POINT.fullmatch(str(text).strip())
    x, y = (number(part) for part in match.groups()) if match else (None, None)
    if x is None or y is None or max(abs(x), abs(y)) > FARTHEST:
        raise ValueError("a point is not two numbers of pixels, like (1095.87, 2162.24)")
    return (x, y)


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


def _record(row: Row, *, source: str, patient: str) -> Record:
    sides: dict[str, Literal["L", "R"]] = {"L": "L", "R": "R"}
    return Record(
        source=source,
        image_id=row["File Name"],
        patient_id=patient,
        study_id=patient,
        laterality=sides.get(row["Laterality"].upper(), ""),
        view=row["View"].upper(),
        density=_DENSITIES.get(row["ACR"], ""),
        pixel_spacing_mm=PIXEL_MM,
    )


READER = Reader(
    name="inbreast",
    title="INbreast",
    labels=LABELS,
    markers=(*TABLES, OUTLINES, DICOMS),
    tables=tables,
    read=read,
)
