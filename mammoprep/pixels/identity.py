"""Whose image a DICOM file is, from its header alone: what no output may say."""

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from mammoprep.pixels.elements import text_of
from mammoprep.pixels.stored import PixelError, quietly

_TAGS = ["PatientID", "StudyInstanceUID", "SOPInstanceUID", "Modality"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifiers as the header has them, "" where it has none."""

    patient_id: str
    study_uid: str
    sop_uid: str
    modality: str


def identify(path: Path) -> Identity:
    """Read the identifiers of a DICOM file; its pixels are not read. Raises PixelError for what is no DICOM."""
    with quietly():
        try:
            header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(_TAGS))
            found = Identity(*(text_of(header, keyword) for keyword in _TAGS))
        except OSError as error:
            raise PixelError(f"the file cannot be read ({error.strerror})") from None
        except Exception:  # pydicom lets through whatever a broken file makes it trip over, with the value in the text
            raise PixelError("the DICOM header is damaged or cut off") from None
    if not any((found.patient_id, found.study_uid, found.sop_uid)):
        raise PixelError("the header has no identifiers")
    return found
