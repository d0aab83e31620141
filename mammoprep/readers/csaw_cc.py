"""CSAW-CC: 98,788 screening mammograms of women with and without breast cancer, tumours outlined by masks.

What      The case-control part of the Cohort of Screen-Aged Women (Karolinska): for each image the woman's
          diagnosis, radiologists' decisions and LIBRA density; masks of the tumours that are visible.
Licence   Restricted; on request from the Swedish National Data Service, no redistribution.
Get it    https://doi.org/10.5878/45vm-t798
Layout    a .csv of any name whose columns include anon_filename, CSAW-CC_mask_annotations.csv beside it; images
          (00002_20990909_L_CC_1.dcm) and mask images at any depth, told by their names
Labels    pathology   malignant: only cancers are outlined. Which are masses and which calcifications stands in a
          further table whose columns are documented nowhere; it is not read.
Images    Those with masks; with `normals` also those of women without cancer (x_case 0), as lesion-free. Images of
          women with cancer that have no mask (the other breast, earlier examinations) are never used.
Shapes    The mask image that a row names. Where it is not there, the row's box (left, upper, right, bottom; the last
          two are the first outside) becomes a pseudo-mask, and the row is listed. Rows that name one mask are one
          finding.
Quirks    `NA` is text for an empty cell; cells are parted by commas or semicolons. A mask's name begins with its
          image's. The date in names is the same for all, and the last number is no order of examinations. Laterality is
          Left or Right in the table, L or R in names.
Citation  Dembrower, Lindholm and Strand, Journal of Digital Imaging 33 (2020) 408-413, doi 10.1007/s10278-019-00278-0.
"""

import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.records import Box, Finding, MaskFile, Reader, Record, Skipped
from mammoprep.tables import Row, files, find, keyed, load, number

MASKS = "CSAW-CC_mask_annotations.csv"
LABELS = {"pathology": ("malignant",)}

_COLUMNS = ("anon_patientid", "exam_year", "anon_filename", "x_case", "imagelaterality", "viewposition")
_CORNERS = ("left", "upper", "right", "bottom")
_NAME = re.compile(r"(\d+)_\d{8}_([LR])_([A-Z]+)_\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a raw folder by name, lower case, as paths relative to it."""

    images: Mapping[str, str]
    masks: Mapping[str, str]


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: the images, told by their columns, and the masks."""
    masks = find(root, MASKS)
    if masks is None:
        raise MissingFileError(root / MASKS, hint="It comes with the release, beside the table of the images.")
    images = next((path for path in sorted(root.glob("*.csv")) if path != masks and _has_images(path)), None)
    if images is None:
        raise MammoprepError(
            f"{root} has no .csv with a column anon_filename. Put the release's table of images there."
        )
    return (images, masks)


def read(
    root: Path,
    *,
    labels: str = "pathology",
    normals: Annotated[bool, "Add the images of women without cancer."] = False,
) -> Iterator[Record | Skipped]:
    """Yield one Record an image that the options ask for, and a Skipped for whatever belongs to none."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    images_path, masks_path = tables(root)
    images = load(images_path, columns=_COLUMNS, optional=("x_cancer_laterality",))
    masks = load(masks_path, columns=(*_CORNERS, "mask_filename"))
    yield from (*images.skipped, *masks.skipped)
    strange = "anon_filename is not like 00002_20990909_L_CC_1.dcm"
    rows = yield from keyed(images.rows, _image_stem, otherwise=strange)
    marked: dict[str, list[Row]] = {}
    for row in masks.rows:
        stem = _stem(row["mask_filename"])
        if stem in rows:
            marked.setdefault(stem, []).append(row)
        else:
            yield Skipped(row.where, "table", "mask_filename begins with the name of no image in the table of images")
    there = _Files((yield from _by_name(root, ".dcm")), (yield from _by_name(root, ".png", ".tif", ".tiff")))
    yield from _unnamed(there, rows, marked)
    for stem, row in rows.items():
        yield from _image(row, marked.get(stem, []), stem=stem, there=there, normals=normals)


def _has_images(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"anon_filename" in file.readline(10_000).lower()
    except OSError:
        return False


def _stem(name: str) -> str:
    """Give the image's name, lower case, that a file's name begins with; "" where it is none."""
    match = _NAME.match(name)
    return match[0].lower() if match else ""


def _image_stem(row: Row) -> str | None:
    stem = _stem(row["anon_filename"])
    return stem if stem and row["anon_filename"].lower() == f"{stem}.dcm" else None


def _by_name(root: Path, *endings: str) -> Generator[Skipped, None, dict[str, str]]:
    """Return files by name, lower case, as paths relative to the raw folder; list those whose name is taken."""
    found: dict[str, str] = {}
    for path in files(root, *endings):
        source = path.relative_to(root).as_posix()
        if found.setdefault(path.name.lower(), source) != source:
            yield Skipped(source, "table", "its name is that of an earlier file, which holds")
    return found


def _unnamed(there: _Files, rows: Mapping[str, Row], marked: Mapping[str, list[Row]]) -> Iterator[Skipped]:
    named = {row["mask_filename"].lower() for each in marked.values() for row in each}
    for name, source in there.images.items():
        if name.removesuffix(".dcm") not in rows:
            yield Skipped(source, "table", "no table names the file")
    for name, source in there.masks.items():
        if name not in named:
            yield Skipped(source, "table", "no row of the table of masks names the file")


def _image(row: Row, masks: list[Row], *, stem: str, there: _Files, normals: bool) -> Iterator[Record | Skipped]:
    """Yield what must be left out of one image, then its record."""
    source = there.images.get(f"{stem}.dcm", f"{stem.upper()}.dcm")
    findings: dict[str, Finding] = {}
    for mask in masks:
        if mask["mask_filename"] in findings:
            yield Skipped(mask.where, "finding", "the row names the mask of an earlier row: one finding")
            continue
        shape = _shape(mask, there)
        if isinstance(shape, str):
            yield Skipped(mask.where, "finding", shape)
            continue
        if isinstance(shape, Box):
            yield Skipped(mask.where, "table", "the mask file is not there; the row's box is used")
        attributes = {"mask_filename": mask["mask_filename"], "cancer_laterality": _text(row, "x_cancer_laterality")}
        findings[mask["mask_filename"]] = Finding(shape, "malignant", mask.where, attributes)
    free = number(row["x_case"]) == 0
    if findings and free:
        yield Skipped(row.where, "table", "x_case is 0, yet the image has a mask, which holds")
    if findings:
        yield _record(row, source=source, stem=stem, findings=tuple(findings.values()))
    elif masks:
        yield Skipped(source, "selection", "none of its masks can be used")
    elif not free:
        yield Skipped(source, "selection", "not of a woman without cancer, yet without a mask")
    elif normals:
        yield _record(row, source=source, stem=stem, findings=())
    else:
        yield Skipped(source, "selection", "of a woman without cancer; --normals adds it")


def _shape(row: Row, there: _Files) -> MaskFile | Box | str:
    """Give a row's mask file, its box where there is none, or the reason why that cannot be used either."""
    source = there.masks.get(row["mask_filename"].lower())
    if source is not None:
        return MaskFile(source)
    left, upper, right, bottom = (number(row[corner]) for corner in _CORNERS)
    if left is None or upper is None or right is None or bottom is None:
        return "the mask file is not there, and a side of the box is missing or no number"
    if left >= right or upper >= bottom:
        return "the mask file is not there, and the box is empty or inverted"
    return Box(left, upper, right, bottom)


def _text(row: Row, column: str) -> str:
    return "" if row[column].upper() == "NA" else row[column]


def _record(row: Row, *, source: str, stem: str, findings: tuple[Finding, ...]) -> Record:
    sides: dict[str, Literal["L", "R"]] = {"LEFT": "L", "L": "L", "RIGHT": "R", "R": "R"}
    patient = _text(row, "anon_patientid")
    year = _text(row, "exam_year")
    return Record(
        source=source,
        image_id=stem.upper(),
        patient_id=patient,
        study_id=f"{patient}_{year}" if year else patient,
        laterality=sides.get(row["imagelaterality"].upper(), ""),
        view=_text(row, "viewposition").upper(),
        lesion_free=not findings,
        findings=findings,
    )


READER = Reader(
    name="csaw-cc",
    title="CSAW-CC",
    labels=LABELS,
    markers=(MASKS,),
    tables=tables,
    read=read,
)
