"""CDD-CESM: 2,006 contrast-enhanced mammograms of 326 patients, lesions outlined by hand.

What      A low-energy (DM) and a subtracted (CM) JPEG of each view, 2,971 outlines on 1,233 of them, and for every
          image pathology or follow-up, BI-RADS, density and findings.
Licence   CC BY 4.0
Get it    https://doi.org/10.7937/29kw-ae92 (The Cancer Imaging Archive)
Layout    Radiology_hand_drawn_segmentations_v2.csv, Radiology manual annotations.xlsx (or with hyphens),
          Low energy images of CDD-CESM/P<n>_<L|R>_DM_<view>.jpg, Subtracted images of CDD-CESM/P<n>_<L|R>_CM_<view>.jpg
Labels    An outline has no class of its own: it takes that of its image, from the workbook by name.
          pathology  benign, malignant; Normal is no class
          birads     BI-RADS 1 to 6; `$` parts the findings of an image (`3$2`) and nothing says which outline is
                     which, so that every outline takes the worst (highest); all stay in `birads`
Images    Those with outlines; with `normals` also those labelled Normal without outlines, as lesion-free. An abnormal
          image without outlines is never used. A Normal image with outlines (8) is never lesion-free; under
          `pathology` its outlines have no class. Normal is the follow-up's word: 15 such images have BI-RADS 3 to 6.
Shapes    Polygon, ellipse, circle; a point becomes a disc of 20 pixels. A polyline whose ends nearly meet is an
          outline drawn with another tool (all ten of the release) and is filled; any other is drawn 20 pixels wide.
          Outlines may leave the image. Exact repeats within an image are left out (6).
Quirks    The column Type says CESM where the names say CM; the names hold, for patient, side and view too. Five names
          of the workbook end with a blank. P99_L_*_MLO_2 and P281_L_*_MLO2 are second exposures: the workbook has
          their rows under the first one's name, once more. DM and CM outlines of a view differ.
Citation  Khaled et al., Scientific Data 9 (2022), doi 10.1038/s41597-022-01238-0.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mammoprep.errors import MissingFileError, UnknownNameError
from mammoprep.exports.via import outline_of
from mammoprep.records import Finding, Outline, Reader, Record, Skipped, Stroke
from mammoprep.tables import Row, find, load, number, same

OUTLINES = ("Radiology_hand_drawn_segmentations_v2.csv", "Radiology_hand_drawn_segmentations.csv")
WORKBOOK = ("Radiology manual annotations.xlsx", "Radiology manual annotations.csv")
"""The tables' names, the release's first; case, blanks, hyphens and underscores do not matter."""
FOLDERS = {"DM": "Low energy images of CDD-CESM", "CM": "Subtracted images of CDD-CESM"}
MODALITIES = {"both": ("DM", "CM"), "low-energy": ("DM",), "subtracted": ("CM",)}
LABELS = {"pathology": ("benign", "malignant"), "birads": tuple(f"BI-RADS {value}" for value in range(1, 7))}

_PATHOLOGY = "Pathology Classification/ Follow up"
_OPTIONAL = ("Breast density (ACR)", "ACR", "Findings", "Tags", "Patient_ID", "Side", "View")
_PATTERN = re.compile(r"(P([0-9]{1,9})_([LR])_(DM|CM)_([A-Z]+))(?:_?([1-9]))?")


@dataclass(frozen=True, order=True, slots=True)
class _Name:
    """What an image's name says; `first` is the name of the view's first exposure."""

    image_id: str
    first: str
    patient: int
    side: Literal["L", "R"]
    kind: str
    view: str
    exposure: int


@dataclass(frozen=True, slots=True)
class _Image:
    """What is known of one image: its path, its row of the workbook, its rows of the table of outlines."""

    name: _Name
    source: str
    row: Row | None
    regions: Sequence[Row]


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the outlines, and the workbook."""
    paths = []
    for names in (OUTLINES, WORKBOOK):
        path = next((path for name in names if (path := find(root, name)) is not None), None)
        if path is None:
            raise MissingFileError(root / names[0], hint="Download it from https://doi.org/10.7937/29kw-ae92.")
        paths.append(path)
    return tuple(paths)


def read(
    root: Path,
    *,
    labels: str = "pathology",
    modality: Annotated[Literal["both", "low-energy", "subtracted"], "Images to take."] = "both",
    normals: Annotated[bool, "Add the lesion-free images."] = False,
) -> Iterator[Record | Skipped]:
    """Yield one Record an image that the options ask for, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    if modality not in MODALITIES:
        raise UnknownNameError(modality, kind="modality", known=MODALITIES)
    for item in _images(root):
        if isinstance(item, Skipped):
            yield item
        elif item.row is None:
            sources = [row.where for row in item.regions] or [item.source]
            yield from (Skipped(source, "table", "the workbook does not name the image") for source in sources)
        elif item.name.kind not in MODALITIES[modality]:
            yield Skipped(item.source, "selection", f"not {modality}")
        elif item.regions:
            yield from _outlined(item, item.row, labels=labels)
        elif item.row[_PATHOLOGY].casefold() != "normal":
            yield Skipped(item.source, "selection", "not labelled Normal, yet without outlines")
        elif not normals:
            yield Skipped(item.source, "selection", "labelled Normal, without outlines; --normals adds it")
        else:
            yield _record(item, item.row, lesion_free=True)


def _images(root: Path) -> Iterator[_Image | Skipped]:
    """Join the two tables and the files on disk by the images' names."""
    outlines_path, workbook_path = tables(root)
    outlines = load(outlines_path, columns=("filename", "region_shape_attributes"), optional=("region_count",))
    workbook = load(workbook_path, columns=("Image_name", "BIRADS", _PATHOLOGY), optional=_OPTIONAL, sheet="all")
    regions, strange_regions = _by_name((row["filename"], row) for row in outlines.rows)
    rows, strange_rows = _by_name((row["Image_name"], row) for row in workbook.rows)
    files, strange_files = _files(root)
    yield from (*outlines.skipped, *workbook.skipped, *strange_regions, *strange_rows, *strange_files)
    used = set()
    for name in sorted({*regions, *rows, *files}):
        row = _row_of(name, rows)
        if row is not None:
            used.add(row.where)
            yield from _disagreements(name, row)
        source = files.get(name, f"{FOLDERS[name.kind]}/{name.image_id}.jpg")
        yield _Image(name, source, row, [region for region in regions.get(name, []) if not _is_empty(region)])
    unused = (row for same in rows.values() for row in same if row.where not in used)
    yield from (Skipped(row.where, "table", "the row names an image of an earlier row") for row in unused)


def _parse(text: str) -> _Name | None:
    image_id = re.sub(r"\.(jpe?g|png)$", "", text.strip(), flags=re.IGNORECASE).strip().upper()
    match = _PATTERN.fullmatch(image_id)
    if match is None:
        return None
    first, patient, side, kind, view, exposure = match.groups(default="1")
    return _Name(image_id, first, int(patient), "L" if side == "L" else "R", kind, view, int(exposure))


def _by_name(named: Iterable[tuple[str, Row]]) -> tuple[dict[_Name, list[Row]], list[Skipped]]:
    rows: dict[_Name, list[Row]] = {}
    strange = []
    for text, row in named:
        name = _parse(text)
        if name is None:
            strange.append(Skipped(row.where, "table", "the image's name is not like P1_L_CM_MLO"))
        else:
            rows.setdefault(name, []).append(row)
    return rows, strange


def _files(root: Path) -> tuple[dict[_Name, str], list[Skipped]]:
    """Give each image's path relative to the raw folder, as it is spelled on disk."""
    files: dict[_Name, str] = {}
    strange = []
    folders = [find(root, folder) for folder in FOLDERS.values()]
    for path in sorted(path for folder in folders if folder is not None for path in folder.glob("*.*")):
        source, name = path.relative_to(root).as_posix(), _parse(path.name)
        if path.name.startswith(".") or path.suffix.lower() not in {".jpg", ".jpeg", ".png"}:
            continue
        if name is None:
            strange.append(Skipped(source, "table", "no table names the file"))
        elif name in files:
            strange.append(Skipped(source, "table", "another file has the same name"))
        else:
            files[name] = source
    return files, strange


def _row_of(name: _Name, rows: Mapping[_Name, Sequence[Row]]) -> Row | None:
    """Find an image's row of the workbook, which lists second exposures under the first one's name."""
    first = _parse(name.first)
    same = rows.get(name) or (rows.get(first) if first else None)
    return same[min(name.exposure, len(same)) - 1] if same else None


def _disagreements(name: _Name, row: Row) -> Iterator[Skipped]:
    said = {"Patient_ID": str(name.patient), "Side": name.side, "View": name.view}
    for column, value in said.items():
        if row[column] and not same(row[column], value):
            yield Skipped(row.where, "table", f"{column} differs from the image's name, which holds")


def _is_empty(region: Row) -> bool:
    """Say whether the row only names a file that has no regions, as VIA writes them."""
    return region["region_count"] in {"", "0"} and region["region_shape_attributes"] in {"", "{}"}


def _outlined(image: _Image, row: Row, *, labels: str) -> Iterator[Record | Skipped]:
    findings: dict[Outline, Finding] = {}
    label = _label(row, labels)
    for region in image.regions:
        try:
            shape, outline = outline_of(region["region_shape_attributes"])
        except ValueError as error:
            yield Skipped(region.where, "finding", str(error))
            continue
        if outline in findings:
            yield Skipped(region.where, "finding", "the outline repeats an earlier one of the image")
        else:
            drawn = {"drawn_width": outline.width} if isinstance(outline, Stroke) else {}
            findings[outline] = Finding(outline, label, region.where, {"shape": shape, **drawn, **_attributes(row)})
    if findings:
        yield _record(image, row, findings=findings.values())
    else:
        yield Skipped(image.source, "selection", "none of its outlines can be drawn")


def _label(row: Row, labels: str) -> str | None:
    if labels == "pathology":
        label = row[_PATHOLOGY].casefold()
    else:
        values = [value for part in row["BIRADS"].split("$") if (value := number(part)) is not None]
        label = f"BI-RADS {max(values, default=0):g}"
    return label if label in LABELS[labels] else None


def _attributes(row: Row) -> dict[str, str | int | float | list[str]]:
    return {
        "pathology": row[_PATHOLOGY],
        "birads": _parts(row["BIRADS"], "$"),
        "findings": _parts(row["Findings"], "$"),
        "tags": _parts(row["Tags"], ","),
    }


def _parts(cell: str, separator: str) -> list[str]:
    return [part.strip() for part in cell.split(separator) if part.strip()]


def _record(image: _Image, row: Row, *, findings: Iterable[Finding] = (), lesion_free: bool = False) -> Record:
    name = image.name
    density = row["Breast density (ACR)"] or row["ACR"]
    return Record(
        source=image.source,
        image_id=name.image_id,
        patient_id=f"P{name.patient}",
        study_id=f"P{name.patient}",
        laterality=name.side,
        view=name.view,
        density=density if density in {"A", "B", "C", "D"} else "",
        lesion_free=lesion_free,
        findings=tuple(findings),
    )


READER = Reader(
    name="cdd-cesm",
    title="CDD-CESM",
    labels=LABELS,
    markers=(*OUTLINES, *WORKBOOK, *FOLDERS.values()),
    tables=tables,
    read=read,
)
