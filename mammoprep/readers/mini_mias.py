"""mini-MIAS: 322 digitised films of 161 women, lesions marked by circles.

What      Mediolateral oblique films from the UK screening programme, digitised, reduced to 200 µm a pixel and padded
          to 1024 x 1024: background tissue, class of abnormality, severity, and a circle about most lesions.
Licence   Research only; the terms stand in the data set's README.
Get it    http://peipa.essex.ac.uk/info/mias.html
Layout    Info.txt (or the README that holds the same table), mdb001.pgm to mdb322.pgm beside it or in any folder
Labels    pathology   benign, malignant
          finding     Calcification, Circumscribed Mass, Spiculated Mass, Other Mass, Architectural Distortion,
                      Asymmetry
Images    Those with circles, and those of class NORM, as lesion-free. An image whose abnormality has no circle (4 rows:
          scattered, or left out) is never used.
Shapes    A circle: centre and radius in pixels. Their origin is the lower left corner, so that y is 1024 - Y; whether
          Y counts pixels from 0 or 1 is not stated, which leaves one pixel open.
Patients  The films of a woman follow each other: odd numbers are right, even ones left breasts.
Quirks    An image with several abnormalities has several rows (7 such ids). The tissue (F, G, D: fatty, glandular,
          dense) is no ACR density; it stays in `tissue`.
Citation  Suckling et al., Excerpta Medica International Congress Series 1069 (1994) 375-378.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.records import Ellipse, Finding, Reader, Record, Skipped
from mammoprep.tables import files, find

TABLES = ("Info.txt", "README", "README.txt")
SIDE = 1024
"""Pixels of an image's side."""
PIXEL_MM = 0.2
SEVERITIES = {"B": "benign", "M": "malignant"}
CLASSES = {
    "CALC": "Calcification",
    "CIRC": "Circumscribed Mass",
    "SPIC": "Spiculated Mass",
    "MISC": "Other Mass",
    "ARCH": "Architectural Distortion",
    "ASYM": "Asymmetry",
}
LABELS = {"pathology": tuple(SEVERITIES.values()), "finding": tuple(CLASSES.values())}
NORMAL = "NORM"

_ID = re.compile(r"mdb(\d{3})", re.IGNORECASE)
_ROW = re.compile(rf"(mdb\d{{3}})\s+([FGD])\s+({NORMAL}|{'|'.join(CLASSES)})(?:\s+([BM]))?(.*)", re.IGNORECASE)
_CIRCLE = re.compile(r"\s+(\d{1,4})\s+(\d{1,4})\s+(\d{1,4})")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the table: where it stands, and its columns; `rest` is what follows the severity."""

    where: str
    image_id: str
    tissue: str
    kind: str
    severity: str
    rest: str


def tables(root: Path) -> tuple[Path, ...]:
    """Give the table of a raw folder, which may lie beside the films or one folder down."""
    folders = (root, *(path for path in (find(root, "all-mias"), find(root, "MIASDB")) if path is not None))
    found = [path for folder in folders for name in TABLES if (path := find(folder, name)) is not None]
    if not found:
        raise MissingFileError(root / TABLES[0], hint="It comes with the films, and lists their abnormalities.")
    return (next((path for path in found if _ROW.search(_text(path))), found[0]),)


def read(root: Path, *, labels: str = "pathology") -> Iterator[Record | Skipped]:
    """Yield one Record an image that can be used, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    (path,) = tables(root)
    images: dict[str, list[_Line]] = {}
    for item in _lines(path):
        if isinstance(item, Skipped):
            yield item
        else:
            images.setdefault(item.image_id, []).append(item)
    if not images:
        raise MammoprepError(f"{path} has no row like 'mdb001 G CIRC B 535 425 197'. Use the table as it was released.")
    sources: dict[str, str] = {}
    for film in files(root, ".pgm"):
        source = film.relative_to(root).as_posix()
        if film.stem.lower() not in images:
            yield Skipped(source, "table", "no row of the table names the file")
        elif sources.setdefault(film.stem.lower(), source) != source:
            yield Skipped(source, "table", "another file has the same name")
    for image_id, lines in images.items():
        yield from _image(lines, source=sources.get(image_id, f"{image_id}.pgm"), labels=labels)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("latin-1")
    except OSError as error:
        raise MammoprepError(f"{path} cannot be read ({error.strerror}). Check its access rights.") from error


def _lines(path: Path) -> Iterator[_Line | Skipped]:
    """Take the table's rows from the text about it: what begins with an image's id."""
    for number, text in enumerate(_text(path).splitlines(), start=1):
        where, match = f"{path.name} row {number}", _ROW.fullmatch(text.strip())
        if match and (match[3].upper() != NORMAL or not match[5]):
            image_id, tissue, kind, severity, rest = match.groups(default="")
            yield _Line(where, image_id.lower(), tissue.upper(), kind.upper(), severity.upper(), rest)
        elif _ID.match(text.strip()):
            yield Skipped(where, "table", "the row is not like 'mdb001 G CIRC B 535 425 197'")


def _image(lines: Sequence[_Line], *, source: str, labels: str) -> Iterator[Record | Skipped]:
    findings: dict[Ellipse, Finding] = {}
    normal = [line for line in lines if line.kind == NORMAL]
    for line in lines:
        circle = _circle(line)
        if line.kind == NORMAL:
            if line is not normal[0] or len(normal) < len(lines):
                yield Skipped(line.where, "table", f"{NORMAL} beside another row of the image, which holds")
        elif circle is None:
            yield Skipped(line.where, "finding", "the abnormality has no circle: X, Y and RADIUS are not three numbers")
        elif circle in findings:
            yield Skipped(line.where, "finding", "the circle repeats an earlier one of the image")
        else:
            findings[circle] = Finding(circle, _label(line, labels), line.where, _attributes(line))
    if findings or len(normal) == len(lines):
        yield _record(lines[0].image_id, source=source, findings=tuple(findings.values()))
    else:
        yield Skipped(source, "selection", "abnormal, yet without a circle")


def _circle(line: _Line) -> Ellipse | None:
    match = _CIRCLE.fullmatch(line.rest)
    x, y, radius = map(float, match.groups()) if match else (0.0, 0.0, 0.0)
    return Ellipse(x, SIDE - y, radius, radius) if radius else None


def _label(line: _Line, labels: str) -> str | None:
    return SEVERITIES.get(line.severity) if labels == "pathology" else CLASSES[line.kind]


def _attributes(line: _Line) -> dict[str, str | int | float | list[str]]:
    return {"class": CLASSES[line.kind], "severity": SEVERITIES.get(line.severity, ""), "tissue": line.tissue}


def _record(image_id: str, *, source: str, findings: tuple[Finding, ...]) -> Record:
    number = int(image_id.removeprefix("mdb"))
    patient = f"pair{(number + 1) // 2:03}"
    return Record(
        source=source,
        image_id=image_id,
        patient_id=patient,
        study_id=patient,
        laterality="R" if number % 2 else "L",
        view="MLO",
        lesion_free=not findings,
        size=(SIDE, SIDE),
        pixel_spacing_mm=PIXEL_MM,
        findings=findings,
    )


READER = Reader(
    name="mini-mias",
    title="mini-MIAS",
    labels=LABELS,
    markers=("mdb001.pgm", "all-mias", "MIASDB", "Info.txt"),
    tables=tables,
    read=read,
)
