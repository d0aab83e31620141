"""DICOM files made to order."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

WriteDicom = Callable[..., Path]


@pytest.fixture
def write_dicom(tmp_path) -> WriteDicom:
    """Give a function that writes cells (H, W) as a DICOM file with the elements named, None leaving one out.

    `codestreams` are the frames of compressed pixel data, `data` other uncompressed bytes. Nothing is checked.
    """

    def write(cells, *, syntax=ExplicitVRLittleEndian, codestreams=None, data=None, vr=None, **elements) -> Path:
        cells = np.asarray(cells)
        dataset = Dataset()
        bits = elements.get("BitsStored") or 8 * cells.itemsize
        defaults = {
            "Rows": cells.shape[0],
            "Columns": cells.shape[1],
            "SamplesPerPixel": 1 if cells.ndim == 2 else 3,
            "PhotometricInterpretation": "MONOCHROME2" if cells.ndim == 2 else "RGB",
            "BitsAllocated": 8 * cells.itemsize,
            "BitsStored": bits,
            "HighBit": bits - 1,
            "PixelRepresentation": int(cells.dtype.kind == "i"),
        }
        for keyword, value in (defaults | elements).items():
            if value is not None:
                setattr(dataset, keyword, value)
        if codestreams is not None:
            dataset.PixelData = encapsulate(codestreams)
        else:
            dataset.PixelData = cells.tobytes() if data is None else data
        dataset["PixelData"].VR = vr or ("OB" if codestreams is not None or cells.itemsize == 1 else "OW")
        dataset["PixelData"].is_undefined_length = codestreams is not None
        path = tmp_path / "image.dicom"
        path.write_bytes(b"\0" * 128 + b"DICM" + _meta(syntax) + _body(dataset, syntax))
        return path

    return write


def _meta(syntax) -> bytes:
    meta, buffer = FileMetaDataset(), DicomBytesIO()
    meta.TransferSyntaxUID = syntax
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return buffer.getvalue()


def _body(dataset, syntax) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    body = buffer.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = deflate.compress(body) + deflate.flush()
    return body
