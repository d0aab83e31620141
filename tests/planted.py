"""Files in which everything that may hold an identity holds a mark, and a search for the mark in whatever comes out."""

import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import openpyxl
from openpyxl.comments import Comment
from PIL import Image, PngImagePlugin
from pydicom import Dataset, config, dcmwrite
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

MARK = "QzxWvkJp"
DATE, ROOT = "18730412", "1.2.752.98765432"
MARKS = (MARK, DATE, "98765432")
TEXT_VRS = {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
NEEDED = {"PhotometricInterpretation", "Modality", "SpecificCharacterSet"}
"""Elements without which there is no image."""
_numbers = count(1)


def word(kind: str = "") -> str:
    """Give a text that occurs nowhere else."""
    return f"{MARK}{kind}{next(_numbers)}"


def value_of(vr: str) -> str:
    """Give a value of a VR: dates and UIDs as they should be, the others a word."""
    return {"DA": DATE, "DT": f"{DATE}101112", "UI": f"{ROOT}.{next(_numbers)}"}.get(vr) or word()


def pixels(*, low: int = 20, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """A breast in the left half, and in it a bright square."""
    grey = np.zeros(size, dtype=np.uint8)
    grey[:, : size[1] // 2] = 90 + low
    grey[20:28, 4:12] = 220
    return grey


def write_dicom(path: Path, *, everything: bool = True, **values: object) -> str:
    """Write a mammogram with a mark in each text element of the dictionary, and give its SOP Instance UID."""
    content = Dataset()
    with config.disable_value_validation():
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items() if everything else ():
            if vr in TEXT_VRS and keyword and keyword not in NEEDED and tag >> 16 not in (0, 2):
                content.add(DataElement(tag, vr, value_of(vr)))
        for keyword in ("RequestAttributesSequence", "ViewCodeSequence", "PatientOrientationModifierCodeSequence"):
            inner, outer = Dataset(), Dataset()
            inner.CodeValue, inner.CodeMeaning, inner.LongCodeValue = word(), word(), word()
            outer.ViewModifierCodeSequence = Sequence([inner])
            outer.CodeValue, outer.CodeMeaning, outer.UnformattedTextValue = word(), word(), word()
            setattr(content, keyword, Sequence([outer]))
        block = content.private_block(0x0019, word("private"), create=True)
        for place, vr in enumerate(("LO", "PN", "UN", "OB", "UT"), start=1):
            block.add_new(place, vr, word() if vr not in ("UN", "OB") else f"{word()} ".encode())
        content.add_new(0x60001500, "LO", word("overlay"))
        content.add_new(0x60004000, "LT", word("overlay comment"))
        content.SpecificCharacterSet = "ISO_IR 192"
        content.SOPClassUID, content.Modality = "1.2.840.10008.5.1.4.1.1.1.2", "MG"
        uid = content.SOPInstanceUID = f"{ROOT}.{next(_numbers)}"
        grey = pixels()
        content.Rows, content.Columns = grey.shape
        content.SamplesPerPixel, content.PixelRepresentation, content.PhotometricInterpretation = 1, 0, "MONOCHROME2"
        content.BitsAllocated = content.BitsStored = 8
        content.HighBit, content.PixelData = 7, grey.tobytes()
        content["PixelData"].VR = "OB"
        content.add_new(0xFFFCFFFC, "OB", f"{word('trailing')} ".encode())
        for keyword, value in values.items():
            setattr(content, keyword, value)
        content.file_meta = FileMetaDataset()
        content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        content.file_meta.ImplementationVersionName = word()
        content.file_meta.SourceApplicationEntityTitle = word()
        content.file_meta.PrivateInformationCreatorUID = f"{ROOT}.{next(_numbers)}"
        content.file_meta.PrivateInformation = f"{word()} ".encode()
        content.preamble = word("preamble").encode().ljust(128, b"\0")
        path.parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(path, content, enforce_file_format=True, overwrite=True)
    data = path.read_bytes().replace(b"ISO_IR 192", f"{MARK}xy".encode())  # which nobody can write
    path.write_bytes(data + word("behind").encode())
    return uid


def write_picture(path: Path, grey: np.ndarray | None = None) -> None:
    """Write a PNG, JPEG, TIFF or PGM with a mark in every field that may hold text."""
    image = Image.fromarray(pixels() if grey is None else grey)
    exif = Image.Exif()
    exif.update({270: word(), 315: word(), 316: word(), 33432: word(), 37510: word()})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        fields = PngImagePlugin.PngInfo()
        fields.add_text("Comment", word())
        fields.add_text(word("key"), word(), zip=True)
        fields.add_itxt("Author", word(), lang="en", tkey=word(), zip=True)
        image.save(path, pnginfo=fields, exif=exif)
    elif path.suffix == ".jpg":
        image.save(path, comment=word().encode(), exif=exif, quality=95)
    elif path.suffix == ".tif":
        image.save(path, tiffinfo={270: word(), 305: word(), 315: word(), 316: word(), 33432: word(), 65000: word()})
    else:
        height, width = np.asarray(image).shape
        path.write_bytes(f"P5\n# {word()}\n{width} {height}\n255\n".encode() + image.tobytes())
    with path.open("ab") as file:
        file.write(word("behind").encode())


def write_book(path: Path, rows: list[list[object]]) -> None:
    """Write a workbook of one sheet with a mark in its properties, comments and names."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.active.title = word("sheet")
    book.active["A1"].comment = Comment(word(), word())
    book.active.oddHeader.left.text = word()
    for name in ("creator", "title", "subject", "description", "keywords", "lastModifiedBy", "category"):
        setattr(book.properties, name, word())
    book.save(path)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def marks_in(data: bytes) -> list[str]:
    """Give each form of a mark that bytes hold, as they are or packed in a PNG or a zip, with what stands around it."""
    texts = [data, *_unpacked(data)]
    found = []
    for text in texts:
        for name, forms, folded in _FORMS:
            within = text.lower() if folded else text
            for form in forms:
                if form in within:
                    at = within.index(form)
                    found.append(f"{name}: {text[max(0, at - 30) : at + 50]!r}")
    return found


def _forms() -> Iterator[tuple[str, tuple[bytes, ...], bool]]:
    for mark in MARKS:
        low = mark.lower()
        yield "text", (low.encode(), low.encode("utf-16-le"), low.encode("utf-16-be")), True
        spelled = (mark, mark.upper(), low)
        yield "hexadecimal", tuple(each.encode().hex().encode() for each in spelled), True
        yield "base64", tuple(_in_base64(each.encode(), shift) for each in spelled for shift in range(3)), False


def _in_base64(text: bytes, shift: int) -> bytes:
    """Give the digits that a text alone decides where it stands `shift` bytes behind a group's start."""
    first, last = -(-shift * 8 // 6), (shift + len(text)) * 8 // 6
    return base64.b64encode(b"\0" * shift + text)[first:last]


_FORMS = tuple(_forms())


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\x89PNG"):
        at, drawn = 8, b""
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            body = data[at + 8 : at + 8 + length]
            drawn += body if kind == b"IDAT" else b""
            if kind in (b"zTXt", b"iTXt", b"iCCP"):
                yield zlib.decompress(body[body.index(b"x") :])
            at += length + 12
        yield zlib.decompress(drawn)
    elif data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield archive.read(name)
