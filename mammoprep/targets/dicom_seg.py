"""Lesions as DICOM Segmentation objects (PS3.3 A.51) for the archive that the mammograms came from.

One object a mammogram, in a series of its own in the mammogram's study: one binary segment a lesion, at the mammogram's
own matrix. Patient and study are the mammogram's, or the archive could not file it.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, TM

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Image, Mask, Panoptic

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription

FOLDER = "dicom-seg"
"""Where the objects lie in PREDICTIONS."""
SERIES = 9000
"""Series number of the first object's series, less one: far behind a modality's own."""
_LABEL = 64  # longest LO value
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_COPIED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Type 2 attributes of the Patient and General Study modules: there, though perhaps empty."""
_SIDES: dict[str, Code] = {"L": codes.SCT.Left, "R": codes.SCT.Right}
"""CID 244."""
_TYPES: dict[str, Code] = {"mass": codes.SCT.Mass}
"""Class -> its code in CID 7159; every other class is a lesion, and its name stands in the segment's label."""


@dataclass(frozen=True)
class Algorithm:
    """What found the lesions: the run's `name`, a `version` that tells its weights, the `model`, our own `software`."""

    name: str
    version: str
    model: str
    software: str


@dataclass(frozen=True)
class Maker:
    """How a segment was drawn (PS3.3 C.8.20.2), and by which algorithm of which `family` (CID 7162) unless by hand."""

    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
    name: str = ""
    version: str = ""
    family: Code = codes.DCM.ArtificialIntelligence


@dataclass(frozen=True)
class Lesion:
    """One segment: its pixels (H, W) at the native size, its class, what its label says, and who drew it."""

    mask: Mask
    category: Category
    label: str
    maker: Maker


@dataclass(frozen=True)
class Series:
    """What an object says of itself: the series' `description`, the `content`, and the equipment that made it."""

    description: str
    content: str
    model: str
    serial: str
    software: str


def require() -> None:
    """Refuse to go on without highdicom; nothing is imported."""
    if find_spec("highdicom") is None:
        raise MammoprepError('DICOM SEG needs highdicom. Type: pip install "mammoprep[dicom-seg]"')


def check_source(path: Path, *, algorithm: Algorithm) -> None:
    """Refuse a file that no DICOM SEG can refer to, by making one of a single pixel."""
    with _quietly():
        header = _header(path)
        header.Rows = header.Columns = 1
        category = Category(1, "lesion", isthing=True, color=(0, 0, 0))
        lesion = Lesion(np.ones((1, 1), dtype=bool), category, "lesion", _maker(algorithm))
        _segmentation(path, header, [lesion], series=_series(algorithm), number=1)


def write(predictions: Path, sources: Mapping[str, Path], *, algorithm: Algorithm) -> int:
    """Write a DICOM SEG for each image with a lesion; give how many. `sources` is each image's DICOM file by its name.

    PREDICTIONS must be at the native size. An image without a lesion gets none: a SEG has one segment or more.
    """
    content = panoptic.load(predictions)
    (predictions / FOLDER).mkdir()
    count = 0
    for image in content.images:
        lesions = _lesions(content, image, maker=_maker(algorithm))
        if not lesions:
            continue
        path = predictions / FOLDER / f"{image.name}.dcm"
        write_one(path, sources[image.name], lesions, series=_series(algorithm), number=image.id)
        count += 1
    return count


def write_one(path: Path, source: Path, lesions: Sequence[Lesion], *, series: Series, number: int) -> None:
    """Write the object of one mammogram, the DICOM file `source`; `number` tells it from the others of a study.

    Raises MammoprepError for a file that cannot be referred to, or that has another matrix than the lesions.
    """
    with _quietly():
        header = _header(source)
        if lesions[0].mask.shape != (header.Rows, header.Columns):
            raise MammoprepError(
                f"{source} has {header.Rows}x{header.Columns} pixels, the lesions are of"
                f" {lesions[0].mask.shape[0]}x{lesions[0].mask.shape[1]}. Name the files that they were drawn on."
            )
        made = _segmentation(source, header, lesions, series=series, number=number)
        made.save_as(path, enforce_file_format=True)


def _maker(algorithm: Algorithm) -> Maker:
    return Maker("AUTOMATIC", algorithm.name, algorithm.version)


def _series(algorithm: Algorithm) -> Series:
    return Series(
        f"Lesions, {algorithm.name}",
        "Lesions found by a research segmenter",
        algorithm.model,
        algorithm.version,
        algorithm.software,
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Hold back the remarks of pydicom and highdicom on odd values: they quote them, and a value may be a name."""
    logs = [logging.getLogger(name) for name in ("highdicom", "pydicom")]
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _lesions(content: Panoptic, image: Image, *, maker: Maker) -> list[Lesion]:
    """Give the lesions of the panoptic map, the surest first."""
    things = {category.id: category for category in content.things}
    found = [segment for segment in image.segments if segment.category_id in things]
    if not found:
        return []
    ids = content.ids_of(image)
    lesions = []
    for each in sorted(found, key=lambda segment: -(segment.score or 0.0)):
        category, score = things[each.category_id], f", score {each.score or 0.0:.2f}"
        lesions.append(Lesion(ids == each.id, category, category.name[: _LABEL - len(score)] + score, maker))
    return lesions


def _header(path: Path) -> Dataset:
    """Read a mammogram's header, ready to be referred to; what a SEG must copy but cannot hold is left empty."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        values = {keyword: header.get(keyword) for keyword in (*_NEEDED, "Rows", "Columns")}
    except InvalidDicomError as error:
        raise MammoprepError(
            f"{path} is no DICOM file, so no DICOM SEG can refer to it. Do without DICOM SEG, or name DICOM files."
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise MammoprepError(f"{path} has a header that cannot be read. Take it out of the folder.") from error
    wrong = [keyword for keyword in _NEEDED if not UID(str(values[keyword] or "")).is_valid]
    wrong += [keyword for keyword in ("Rows", "Columns") if not values[keyword]]
    if wrong:
        raise MammoprepError(
            f"{path} has no valid {', '.join(wrong)}, so no DICOM SEG can refer to it. Do without DICOM SEG, or"
            " name the files as the archive has them."
        )
    for keyword in _COPIED:
        if keyword not in header or not _is_valid(header, keyword):
            setattr(header, keyword, None)
    return header


def _is_valid(header: Dataset, keyword: str) -> bool:
    """Tell whether highdicom takes a value over; dates such as 00000000 are met in practice."""
    kinds: dict[str, Any] = {"DA": DA, "TM": TM}
    try:
        value = header[keyword].value
        kinds.get(header[keyword].VR, str)(value)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    return keyword != "PatientSex" or value in ("M", "F", "O", "", None)


def _segmentation(
    path: Path, header: Dataset, lesions: Sequence[Lesion], *, series: Series, number: int
) -> "Segmentation":
    """Make the object of one mammogram; every one is new, with its own UIDs and the time at which it was made."""
    from highdicom.seg import Segmentation

    try:
        made = Segmentation(
            [header],
            np.stack([lesion.mask for lesion in lesions], axis=-1)[None],
            "BINARY",
            [_describe(lesion, place, header) for place, lesion in enumerate(lesions, start=1)],
            series_instance_uid=generate_uid(),
            series_number=SERIES + number,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="mammoprep",
            manufacturer_model_name=series.model,
            software_versions=series.software,
            device_serial_number=series.serial,
            content_label="LESIONS",
            content_description=series.content,
            series_description=series.description[:_LABEL],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whose text may quote what the header says
        raise MammoprepError(
            f"{path} has a header of which no DICOM SEG can be made ({type(error).__name__} in highdicom). Do without"
            " DICOM SEG, or take the file out of the folder."
        ) from error
    if header.get("PatientOrientation"):  # how rows and columns run; highdicom copies it for volumes alone
        made.PatientOrientation = header.PatientOrientation
    return made


def _describe(lesion: Lesion, place: int, header: Dataset) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    maker, algorithm = lesion.maker, None
    if maker.kind != "MANUAL":
        algorithm = AlgorithmIdentificationSequence(
            name=maker.name[:_LABEL], family=maker.family, version=maker.version
        )
    described = SegmentDescription(
        place,
        lesion.label[:_LABEL],
        codes.SCT.MorphologicallyAbnormalStructure,
        _TYPES.get(lesion.category.name.lower(), codes.SCT.Lesion),
        algorithm_type=maker.kind,
        algorithm_identification=algorithm,
        anatomic_regions=[codes.SCT.Breast],
        display_color=CIELabColor.from_rgb(*lesion.category.color),
    )
    side = _SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or ""))
    if side:
        modifier = Dataset()
        modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = side[:3]
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [modifier]
    return described
