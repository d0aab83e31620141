"""Own folder: a hospital's images in any tree, with whatever marks the lesions in them.

What      DICOM, PNG, TIFF, JPEG or PGM files at any depth, and one or more of
          - CSV or XLSX tables directly in RAW, a row a box, a mask file or an image;
          - mask images: `<image>_mask[_<class>][_<n>].png` beside the image, or `masks/[<class>/]<image>.png`;
            one file is one lesion, where it is above half of its largest value;
          - label maps: such files whose values are classes, said by `--values 1=benign,2=malignant`, and nnU-Net's
            `labelsTr/<case>.png` beside `imagesTr/<case>_0000.png` and dataset.json, which says them itself;
          - DICOM SEG files, a segment a lesion, found by the image that they refer to;
          - LabelMe or VIA JSON, CVAT for images (XML), COCO instances JSON, VIA CSV; at any depth.
Licence   Your own.
Get it    Your own.
Layout    An image is named by its path in RAW, the end of the path, or its name with or without ending. A path that
          leaves RAW, or a name that several files have, is listed and not used. Links out of RAW are not followed.
Columns   image, patient, study, laterality, view, density, split, label, lesion_free (yes/no), mask; boxes as x0, y0,
          x1, y1 or x, y, width, height, in native pixels. Common names are known (`xmin`, `filename`, `birads`, …);
          `--column patient=PatID` names another. Rows of one image add up, over all tables.
Labels    data      the classes that the annotations name, sorted; an outline without one is a `lesion`.
                    `--classes benign,malignant` says which to take and in which order; others have no class
Empty     An image that no annotation names is left out: nothing says that it has no lesion. One that is named, but has
          no outline (a row without a box, a LabelMe file without shapes, an empty mask), is left out too, unless
          `--empty lesion-free` says that it was looked at. `lesion_free` in a table decides for its image; a label
          `normal` or `no finding` in a row without outline says the same.
Patients  The table's column; else `--patient REGEX`, whose first group is looked for in the image's path; else
          PatientID of the DICOM header. An image whose patient none of them gives is skipped: folds would leak.
Maps      Each connected part of a value (8 neighbours) is a lesion; two values of one class are never joined, so a map
          may number its lesions: `--values 1=mass,2=mass`. A value is a grey level, or the index of a coloured palette;
          six hexadecimal digits are a colour, `--values ff0000=malignant`. 0 and what is transparent are background,
          as is a class `background`; a value without a class is listed for each map. A mask whose name, folder or row
          gives a class stays one lesion. JPEG is refused: it changes values.
Quirks    Paths, patients and studies never appear in outputs as they are: keyed hashes stand for them. The key is made
          beside OUT (`OUT.key`, or `--key FILE`) with a table that leads back (`OUT.key.csv`): keep both in the house.
          `--no-pseudonymise` leaves names as they are. Annotators' free text (attributes, descriptions) is not taken
          over; class names are, also where a folder of masks gives them.
          A polygon's holes exist only in masks; several polygons of one COCO annotation are united. Pixel (0, 0) covers
          [0, 1) x [0, 1).
Citation  Your own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.exports.files import image_ids, patient_of, patient_pattern
from mammoprep.readers.folder.gather import Found, gather, survey
from mammoprep.readers.folder.table import COLUMNS, is_yes
from mammoprep.records import Classes, Finding, LabelMap, Reader, Record, Skipped

LESION = "lesion"
"""The class of an outline that has none."""
EMPTY = ("leave-out", "lesion-free")
LABELS = {"data": ()}
_LATERALITIES: Mapping[str, Literal["L", "R"]] = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R"}


def tables(root: Path) -> tuple[Path, ...]:
    """Give the annotation files of a raw folder: tables, exports, masks, DICOM SEG."""
    return tuple(root / path for path in survey(root).annotations)


def read(
    root: Path,
    *,
    labels: str = "data",
    column: Sequence[str] = (),
    classes: str = "",
    values: str = "",
    patient: str = "",
    empty: str = "leave-out",
) -> Iterator[Record | Skipped | Classes]:
    """Yield one Record an image that annotations name, a Skipped for whatever belongs to none, and the Classes."""
    if labels not in LABELS:
        raise UnknownNameError(labels, kind="label scheme", known=LABELS)
    if empty not in EMPTY:
        raise UnknownNameError(empty, kind="--empty", known=EMPTY)
    pattern, named = patient_pattern(patient), _named(column)
    found, skipped = gather(root, named=named, values=values)
    if values and not any(isinstance(each.shape, LabelMap) for image in found.values() for each in image.findings):
        raise MammoprepError(f"--values: {root} holds no mask, or each has a class by its name. Leave it out.")
    yield from skipped
    known = _known(classes, found.values())
    yield Classes(tuple(known.values()))
    ids = image_ids(found)
    for source, image in sorted(found.items()):
        free = image.lesion_free(otherwise=empty == "lesion-free")
        if free is None and not image.may_be_empty:
            yield Skipped(source, "selection", "no outline, and nothing says lesion-free; --empty lesion-free says it")
            continue
        if image.outlined and not image.findings:
            yield Skipped(source, "selection", "none of its outlines can be used")
            continue
        who = image.facts.get("patient") or patient_of(pattern, source) or image.patient_id
        if not who:
            yield Skipped(source, "image", f"no patient is known: {image.why or 'name a column, or say --patient'}")
            continue
        if image.outlined and not image.may_be_empty and is_yes(image.facts.get("lesion_free", "")):
            yield Skipped(source, "table", "called lesion-free, yet outlined: the outlines hold")
        yield Record(
            source=source,
            image_id=ids[source],
            patient_id=who,
            study_id=image.facts.get("study") or image.study_uid,
            laterality=_LATERALITIES.get(image.facts.get("laterality", "").upper(), ""),
            view=image.facts.get("view", "").upper(),
            density=_density(image.facts.get("density", "")),
            split=image.facts.get("split", ""),
            lesion_free=bool(free),
            size=image.size,
            findings=tuple(_labelled(finding, known) for finding in image.findings),
        )


def _named(column: Iterable[str]) -> dict[str, str]:
    """Take apart `patient=PatID`."""
    named = {}
    for text in column:
        what, equals, name = text.partition("=")
        if not (what and equals and name):
            raise MammoprepError(f"--column {text} is not WHAT=NAME. WHAT is one of {', '.join(COLUMNS)}.")
        named[what.strip()] = name.strip()
    return named


def _known(classes: str, images: Iterable[Found]) -> dict[str, str]:
    """Give the classes in their order, by their names in small letters: those asked for, else all that occur."""
    asked = [name.strip() for name in classes.split(",") if name.strip()]
    named = {name for image in images for finding in image.findings for name in _names(finding)}
    known: dict[str, str] = {}
    for name in asked or sorted(named):
        known.setdefault(name.casefold(), name)
    return known


def _names(finding: Finding) -> set[str]:
    if isinstance(finding.shape, LabelMap):
        return {name for name in finding.shape.classes.values() if name}
    return {finding.label or LESION}


def _labelled(finding: Finding, known: Mapping[str, str]) -> Finding:
    """Give a finding its class as it is spelt, None where it has none; a label map those of its values."""
    if isinstance(finding.shape, LabelMap):
        given = {value: name and known.get(name.casefold()) for value, name in finding.shape.classes.items()}
        return replace(finding, shape=replace(finding.shape, classes=given))
    return replace(finding, label=known.get((finding.label or LESION).casefold()))


def _density(cell: str) -> str:
    letter = cell.upper().removeprefix("DENSITY").strip()
    return letter if letter in {"A", "B", "C", "D"} else ""


READER = Reader(
    name="folder", title="a folder of your own", labels=LABELS, markers=(), tables=tables, read=read, own=True
)
