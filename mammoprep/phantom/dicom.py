"""A phantom's DICOM file: de-identified as VinDr-Mammo's are, or with the few attributes of another data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from mammoprep.phantom.studies import View


def header(view: View) -> Dataset:
    """Give the attributes that the release's de-identification keeps: no SOPClassUID, PatientID or StudyDate."""
    detector = view.detector
    spacing = [round(view.pixel_mm, 6)] * 2
    with pydicom.config.disable_value_validation():  # MD5 digests are no valid UIDs, but that is what there is
        content = Dataset()
        content.SOPInstanceUID = view.image_id
        content.SeriesInstanceUID = view.series_id
        content.StudyInstanceUID = view.study_id
    content.Modality = "MG"
    content.PresentationIntentType = "FOR PRESENTATION"
    content.PatientAge = f"{view.age:03d}Y"
    content.ViewPosition = view.position
    content.ImageLaterality = view.laterality
    content.SamplesPerPixel = 1
    content.PhotometricInterpretation = detector.photometric
    content.Rows, content.Columns = view.height, view.width
    content.BitsAllocated, content.BitsStored, content.HighBit = 16, detector.bits, detector.bits - 1
    content.PixelRepresentation = 0
    content.ImagerPixelSpacing = content.PixelSpacing = spacing
    content.PixelPaddingValue = detector.padding
    if detector.padding_limit is not None:
        content.PixelPaddingRangeLimit = detector.padding_limit
    content.WindowCenter, content.WindowWidth = list(detector.centres), list(detector.widths)
    content.RescaleIntercept, content.RescaleSlope, content.RescaleType = 0, 1, "US"
    content.WindowCenterWidthExplanation = list(detector.explanations)
    content.Manufacturer, content.ManufacturerModelName = detector.manufacturer, detector.model
    return content


def write(path: Path, pixels: NDArray[np.uint16], *, view: View) -> None:
    """Write stored values (H, W) uncompressed, with the release's odd file meta information."""
    syntax = ImplicitVRLittleEndian if view.detector.implicit else ExplicitVRLittleEndian
    content = header(view)
    content.PixelData = pixels.astype("<u2").tobytes()
    with pydicom.config.disable_value_validation():
        content.file_meta = FileMetaDataset()
        content.file_meta.MediaStorageSOPClassUID = UID("1.2.3.4")
        content.file_meta.MediaStorageSOPInstanceUID = UID(view.image_id)
        content.file_meta.TransferSyntaxUID = syntax
        content.file_meta.ImplementationClassUID = UID("1.2.3.4")
        content.preamble = bytes(128)
        content.save_as(path, enforce_file_format=False)


def write_plain(path: Path, pixels: NDArray[Any], *, attributes: Mapping[str, Any], data: bytes = b"") -> None:
    """Write unsigned stored values (H, W) of 8 or 16 bits, MONOCHROME2, uncompressed, and what else is given.

    `data` is the pixel data where it is not that of `pixels`, such as a segmentation's bits.
    """
    bits = 8 * pixels.itemsize
    content = Dataset()
    content.SOPClassUID, content.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=[path.name])
    content.SamplesPerPixel, content.PhotometricInterpretation, content.PixelRepresentation = 1, "MONOCHROME2", 0
    content.Rows, content.Columns = pixels.shape
    content.BitsAllocated, content.BitsStored, content.HighBit = bits, bits, bits - 1
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    content.PixelData = data or pixels.tobytes() + bytes(pixels.nbytes % 2)
    content["PixelData"].VR = "OB" if bits == 8 else "OW"
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path, enforce_file_format=True)
