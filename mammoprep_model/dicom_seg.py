"""Lesions of PREDICTIONS as DICOM Segmentation objects (PS3.3 A.51) for the archive that the mammograms came from.

One object a mammogram, in a series of its own in the mammogram's study: one binary segment a lesion of the panoptic
map, at the mammogram's own matrix. Patient and study are the mammogram's, or the archive could not file it.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
class _Lesion:
    """One segment: its pixels (H, W) at the native size, its class and how sure the network is (0 … 1)."""

    mask: Mask
    category: Category
    score: float


def require() -> None:
    """Refuse to go on without highdicom; nothing is imported."""
    if find_spec("highdicom") is None:
        raise MammoprepError('--dicom-seg needs highdicom. Type: pip install "mammoprep[dicom-seg]"')


def check_source(path: Path, *, algorithm: Algorithm) -> None:
    """Refuse a file that no DICOM SEG can refer to, by making one of a single pixel."""
    with _quietly():
        header = _header(path)
        header.Rows = header.Columns = 1
        lesion = _Lesion(np.ones((1, 1), dtype=bool), Category(1, "lesion", isthing=True, color=(0, 0, 0)), 1.0)
        _segmentation(path, header, [lesion], algorithm=algorithm, number=1)


def write(predictions: Path, sources: Mapping[str, Path], *, algorithm: Algorithm) -> int:
    """Write a DICOM SEG for each image with a lesion; give how many. `sources` is each image's DICOM file by its name.

    PREDICTIONS must be at the native size. An image without a lesion gets none: a SEG has one segment or more.
    """
    content = panoptic.load(predictions)
    (predictions / FOLDER).mkdir()
    count = 0
    for image in content.images:
        lesions = _lesions(content, image)
        if not lesions:
            continue
        path = sources[image.name]
        with _quietly():
            made = _segmentation(path, _header(path), lesions, algorithm=algorithm, number=image.id)
            made.save_as(predictions / FOLDER / f"{image.name}.dcm", enforce_file_format=True)
        count += 1
    return count


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


def _lesions(content: Panoptic, image: Image) -> list[_Lesion]:
    """Give the lesions of the panoptic map, the surest first."""
    things = {category.id: category for category in content.things}
    found = [segment for segment in image.segments if segment.category_id in things]
    if not found:
        return []
    ids = content.ids_of(image)
    lesions = [_Lesion(ids == each.id, things[each.category_id], each.score or 0.0) for each in found]
    return sorted(lesions, key=lambda lesion: -lesion.score)


def _header(path: Path) -> Dataset:
    """Read a mammogram's header, ready to be referred to; what a SEG must copy but cannot hold is left empty."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        values = {keyword: header.get(keyword) for keyword in (*_NEEDED, "Rows", "Columns")}
    except InvalidDicomError as error:
        raise MammoprepError(
            f"{path} is no DICOM file, so no DICOM SEG can refer to it. Leave out --dicom-seg, or name DICOM files."
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise MammoprepError(f"{path} has a header that cannot be read. Take it out of the folder.") from error
    wrong = [keyword for keyword in _NEEDED if not UID(str(values[keyword] or "")).is_valid]
    wrong += [keyword for keyword in ("Rows", "Columns") if not values[keyword]]
    if wrong:
        raise MammoprepError(
            f"{path} has no valid {', '.join(wrong)}, so no DICOM SEG can refer to it. Leave out --dicom-seg, or name"
            " the files as the archive has them."
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
    path: Path, header: Dataset, lesions: Sequence[_Lesion], *, algorithm: Algorithm, number: int
) -> "Segmentation":
    """Make the object of one mammogram; every one is new, with its own UIDs and the time at which it was made."""
    from highdicom.seg import Segmentation

    try:
        made = Segmentation(
            [header],
            np.stack([lesion.mask for lesion in lesions], axis=-1)[None],
            "BINARY",
            [_describe(lesion, place, header, algorithm=algorithm) for place, lesion in enumerate(lesions, start=1)],
            series_instance_uid=generate_uid(),
            series_number=SERIES + number,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="mammoprep",
            manufacturer_model_name=algorithm.model,
            software_versions=algorithm.software,
            device_serial_number=algorithm.version,
            content_label="LESIONS",
            content_description="Lesions found by a research segmenter",
            series_description=f"Lesions, {algorithm.name}"[:_LABEL],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whose text may quote what the header says
        raise MammoprepError(
            f"{path} has a header of which no DICOM SEG can be made ({type(error).__name__} in highdicom). Leave out"
            " --dicom-seg, or take the file out of the folder."
        ) from error
    if header.get("PatientOrientation"):  # how rows and columns run; highdicom copies it for volumes alone
        made.PatientOrientation = header.PatientOrientation
    return made


def _describe(lesion: _Lesion, place: int, header: Dataset, *, algorithm: Algorithm) -> "SegmentDescription":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    score = f", score {lesion.score:.2f}"
    described = SegmentDescription(
        place,
        lesion.category.name[: _LABEL - len(score)] + score,
        codes.SCT.MorphologicallyAbnormalStructure,
        _TYPES.get(lesion.category.name.lower(), codes.SCT.Lesion),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm.name[:_LABEL], family=codes.DCM.ArtificialIntelligence, version=algorithm.version
        ),
        anatomic_regions=[codes.SCT.Breast],
        display_color=CIELabColor.from_rgb(*lesion.category.color),
    )
    side = _SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or ""))
    if side:
        modifier = Dataset()
        modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = side[:3]
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [modifier]
    return described
