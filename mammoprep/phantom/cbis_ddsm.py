"""Synthetic CBIS-DDSM raw folders in the layouts of TCIA and Kaggle, with the release's quirks: for tests."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from mammoprep import panoptic
from mammoprep.phantom import breast, lesions, studies
from mammoprep.phantom.breast import Density, Position

Layout = Literal["tcia", "tcia-names", "kaggle"]
"""TCIA with folders named by UID; TCIA with descriptive folder names; the JPEG copy on Kaggle."""
_FULL, _CROP, _MASK = "full mammogram images", "cropped images", "ROI mask images"
_TABLES = {
    "mass": ("breast_density", ("mass shape", "mass margins"), ("ROUND", "CIRCUMSCRIBED")),
    "calc": ("breast density", ("calc type", "calc distribution"), ("PLEOMORPHIC", "")),
}
"""Of each type: the density's column, the columns of its own, and their values."""
_KINDS = {"mass": (lesions.SPICULATED, lesions.ROUND), "calc": (lesions.CLUSTER,)}
_PATHOLOGIES = ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
_DENSITIES: tuple[Density, ...] = ("A", "B", "C", "D")
_HEIGHT_MM = 240.0
_PITCH = 43.5 / 50
"""Of the scanners' pitches in micrometres: what brings a film to the size of some of its masks."""


@dataclass(frozen=True, slots=True)
class Film:
    """One image: what the tables say of it. `number` counts all films from 0 and chooses the quirks."""

    number: int
    kind: Literal["mass", "calc"]
    split: Literal["train", "test"]
    patient: str
    side: Literal["LEFT", "RIGHT"]
    position: Position
    density: int
    lesions: tuple[lesions.Kind, ...]

    @property
    def name(self) -> str:
        """Give TCIA's PatientID, which is not a patient's."""
        split = "Training" if self.split == "train" else "Test"
        return f"{self.kind.title()}-{split}_{self.patient}_{self.side}_{self.position}"

    def pathology(self, row: int) -> str:
        """Give the pathology of an abnormality."""
        return _PATHOLOGIES[(self.number // 2 + row) % 3]


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the release: its path in the tables is `subject/study/series/name`."""

    subject: str
    study: str
    series: str
    name: str
    description: str
    pixels: NDArray[Any]
    place: int

    @property
    def path(self) -> str:
        return f"{self.subject}/{self.study}/{self.series}/{self.name}"


def plan(patients: int) -> Iterator[Film]:
    """Yield the CC and MLO films of each patient; every fourth is in one type's training and the other's test table."""
    number = 0
    for index in range(patients):
        kind: Literal["mass", "calc"] = "calc" if index % 2 else "mass"
        split: Literal["train", "test"] = "test" if index % 5 == 4 else "train"
        series: list[tuple[Any, Any, Any]] = [(kind, split, "LEFT")]
        if index % 4 == 3:
            series.append(("mass" if kind == "calc" else "calc", "test" if split == "train" else "train", "RIGHT"))
        for kind_, split_, side in series:
            for position in ("CC", "MLO"):
                kinds = _KINDS[kind_]
                shown = tuple(kinds[(index + i) % len(kinds)] for i in range(1 + (index % 3 == 0)))
                yield Film(number, kind_, split_, f"P_{index + 1:05d}", side, position, 1 + index % 4, shown)
                number += 1


def write(
    root: Path,
    *,
    patients: int = 8,
    seed: int = 0,
    long_side: int = 640,
    layout: Layout = "tcia",
    truth: Path | None = None,
) -> None:
    """Write a raw folder of films `long_side` pixels high.

    `truth` (default: `<root>-truth` beside it) gets `<image_id>.png`: 8 bit, 0 or n where the film's n-th row of its
    table lies. Quirks: rows that break off in a cell, masks of another pitch, crop and mask in either order, in one
    series or two, several abnormalities a film, patients on both sides of the split. The same arguments, the same
    bytes. Of dicom_info.csv only the columns that loaders use are written, of meta.csv nothing.
    """
    studies.check(patients, long_side=long_side)
    with panoptic.staged(truth or root.with_name(f"{root.name}-truth")) as masks, panoptic.staged(root) as raw:
        rows: dict[str, list[list[str | int]]] = {}
        index: list[list[str]] = []
        for film in plan(patients):
            pixels, ids = draw(film, seed=seed, height=long_side)
            panoptic.write_png(masks / f"{film.name}.png", ids)
            files = _files(film, pixels, ids)
            rows.setdefault(f"{film.kind}_case_description_{film.split}_set.csv", []).extend(_rows(film, files))
            index += _write_files(raw, film, files, layout=layout)
        tables = raw / "csv" if layout == "kaggle" else raw
        tables.mkdir(exist_ok=True)
        for name, lines in rows.items():
            _write_csv(tables / name, _header(name.partition("_")[0]), lines)
        if layout == "kaggle":
            columns = ("file_path", "image_path", "PatientName", "SeriesDescription", "SeriesInstanceUID")
            _write_csv(tables / "dicom_info.csv", columns, index)


def draw(film: Film, *, seed: int, height: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Draw a film (H, W) of 16 bits and its true lesion numbers (H, W)."""
    rng = np.random.default_rng((seed, film.number))
    healthy = breast.draw(
        (height, round(0.62 * height)), position=film.position, density=_DENSITIES[film.density - 1], rng=rng
    )
    brightness, ids = lesions.add(healthy, film.lesions, pixel_mm=_HEIGHT_MM / height, rng=rng)
    pixels = np.rint(2500 + 62000 * np.clip(brightness, 0, 1)).astype(np.uint16)  # film is never quite clear
    if film.side == "RIGHT":
        pixels, ids = pixels[:, ::-1], ids[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(ids)


def _files(film: Film, pixels: NDArray[np.uint16], ids: NDArray[np.uint8]) -> list[_File]:
    """Give the film, then a crop and a mask of each abnormality, named as the tables name them."""
    study = _uid(film.name, "study")
    files = [_File(film.name, study, _uid(film.name), "000000.dcm", _FULL, pixels, 1)]
    for number in range(1, len(film.lesions) + 1):
        subject = f"{film.name}_{number}"
        series = [_uid(subject), _uid(subject, "second")] if film.number % 5 == 2 else [_uid(subject)] * 2
        crop_name, mask_name = ("000000.dcm", "000001.dcm") if film.kind == "mass" else ("000001.dcm", "000000.dcm")
        if series[0] != series[1]:
            crop_name = mask_name = "000000.dcm"
        mask = (ids == number).astype(np.uint8) * np.uint8(255)
        x, y, width, height = panoptic.mask_box(mask > 0)
        margin = max(width, height) // 4
        crop = pixels[max(y - margin, 0) : y + height + margin, max(x - margin, 0) : x + width + margin]
        if film.number % 3 == 1:
            mask = cv2.resize(mask, None, fx=_PITCH, fy=_PITCH, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
        places = (2, 1) if film.number % 2 else (1, 2)  # the files' order on disk tells nothing
        files.append(_File(subject, _uid(subject, "study"), series[0], crop_name, _CROP, crop, places[0]))
        files.append(_File(subject, _uid(subject, "study"), series[1], mask_name, _MASK, mask, places[1]))
    return files


def _rows(film: Film, files: Sequence[_File]) -> Iterator[list[str | int]]:
    full, *rest = files
    _, _, values = _TABLES[film.kind]
    for row, (crop, mask) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        broken = (crop.path, f"{mask.path}\n") if film.kind == "mass" else (f"{crop.path}\n", mask.path)
        yield [
            *(film.patient, film.density, film.side, film.position, row + 1),
            *("mass" if film.kind == "mass" else "calcification", *values),
            *(4, film.pathology(row), 3, full.path, *broken),
        ]


def _header(kind: str) -> list[str]:
    density, own, _ = _TABLES[kind]
    first = ["patient_id", density, "left or right breast", "image view", "abnormality id", "abnormality type", *own]
    return [
        *(*first, "assessment", "pathology", "subtlety"),
        *("image file path", "cropped image file path", "ROI mask file path"),
    ]


def _write_files(raw: Path, film: Film, files: Sequence[_File], *, layout: Layout) -> list[list[str]]:
    """Write the files where a download has them; give dicom_info.csv's rows."""
    index = []
    for number, file in enumerate(files):
        source = _source(file, layout=layout, serial=100 * film.number + number)
        path = raw / source
        path.parent.mkdir(parents=True, exist_ok=True)
        if layout == "kaggle":
            grey = file.pixels if file.pixels.itemsize == 1 else (file.pixels >> 8).astype(np.uint8)
            path.write_bytes(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
        else:
            _write_dicom(path, file, film=film)
        description = "" if film.number % 4 == 3 else file.description  # some are missing in the copy
        index.append([f"CBIS-DDSM/dicom/{file.path}", f"CBIS-DDSM/{source}", file.subject, description, file.series])
    return index


def _source(file: _File, *, layout: Layout, serial: int) -> str:
    if layout == "kaggle":
        return f"jpeg/{file.series}/{file.place}-{serial:03d}.jpg"
    study, series = file.study, file.series
    if layout == "tcia-names":
        study = f"08-29-2017-DDSM-NA-{file.study[-5:]}"
        series = f"1.000000-{file.description}-{file.series[-5:]}"
    return f"CBIS-DDSM/{file.subject}/{study}/{series}/1-{file.place}.dcm"


def _write_dicom(path: Path, file: _File, *, film: Film) -> None:
    bits = 8 * file.pixels.itemsize
    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.SOPClassUID, content.SOPInstanceUID = SecondaryCaptureImageStorage, _uid(file.path)
    content.StudyInstanceUID, content.SeriesInstanceUID = file.study, file.series
    content.PatientID, content.SeriesDescription, content.Modality = file.subject, file.description, "MG"
    content.PatientOrientation = film.position
    content.Rows, content.Columns = file.pixels.shape
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit = bits, bits, bits - 1
    content.PixelRepresentation = 0
    data = file.pixels.astype(file.pixels.dtype.newbyteorder("<")).tobytes()
    content.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
    pydicom.dcmwrite(path, content, enforce_file_format=True)


def _uid(*parts: str) -> str:
    return f"1.3.6.1.4.1.9590.100.1.2.{int(md5(' '.join(parts).encode(), usedforsecurity=False).hexdigest(), 16)}"


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows((columns, *rows))
