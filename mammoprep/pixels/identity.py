"""Whose image a DICOM file is, from its header alone: what no output may say."""

from dataclasses import dataclass
from pathlib import Path

from mammoprep.pixels.elements import text_of
from mammoprep.pixels.header import read_header
from mammoprep.pixels.stored import PixelError

_TAGS = ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "Modality")


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifiers as the header has them, "" where it has none."""

    patient_id: str
    study_uid: str
    sop_uid: str
    modality: str


def identify(path: Path) -> Identity:
    """Read the identifiers of a DICOM file; its pixels are not read. Raises PixelError for what is no DICOM."""
    dataset = read_header(path, tags=_TAGS)
    found = Identity(*(text_of(dataset, keyword) for keyword in _TAGS))
    if not any((found.patient_id, found.study_uid, found.sop_uid)):
        raise PixelError("the header has no identifiers")
    return found
