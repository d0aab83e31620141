"""What fuzz.py damages: raw folders of every reader, DATASET and PREDICTIONS folders, and what is done with them."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import openpyxl
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder

from mammoprep import cli, phantom
from mammoprep.phantom import cbis_ddsm, cmmd, csaw_cc, folder, inbreast, mini_mias, xls
from mammoprep.phantom.dicom import write_plain

SIDE = 64


@dataclass(frozen=True)
class Scene:
    """Folders drawn below a place of their own, and what is done with them.

    `commands` are command lines of which a run takes one, `{raw}`, `{out}` … being those folders; `victims` are
    patterns of the files that may be damaged, the more often named the more often; `at_once` how many of them in a run.
    """

    name: str
    draw: Callable[[Path], object]
    commands: Sequence[str]
    victims: Sequence[str]
    at_once: int = 1


def grey(seed: int) -> np.ndarray:
    """Draw a picture of 16 bits, of which 12 are used: a breast at the left with texture."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, : SIDE - 16] / SIDE
    inside = (rows - 0.5) ** 2 / 0.2 + columns**2 / 0.3 < 1
    texture = cv2.GaussianBlur(rng.normal(0, 1, rows.shape).astype(np.float32), (0, 0), 2) * 900
    return np.where(inside, (2000 + texture).clip(1, 4095), 0).astype(np.uint16)


def draw_pictures(home: Path) -> None:
    """Draw a folder of images in every format that is read, a box on each."""
    raw, shots = home / "raw", [grey(seed) for seed in range(20)]
    encoders: Mapping[str, Callable[[np.ndarray], bytes]] = {
        uid.JPEGBaseline8Bit: lambda a: imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8)),
        uid.JPEGLosslessSV1: lambda a: imagecodecs.jpeg_encode(a, lossless=True, bitspersample=12, predictor=1),
        uid.JPEGLSLossless: imagecodecs.jpegls_encode,
        uid.JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, codecformat="j2k", level=0, bitspersample=12),
        uid.HTJ2KLossless: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
        uid.RLELossless: _run_lengths,
    }
    for number, (syntax, encode) in enumerate(encoders.items()):
        cells = (shots[number] >> 4).astype(np.uint8) if syntax == uid.JPEGBaseline8Bit else shots[number]
        _write_compressed(raw / f"packed-{number}.dcm", cells, bytes(encode(shots[number])), syntax)
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "Modality": "MG", "Manufacturer": "Phantoms"}
    write_plain(raw / "plain-16.dcm", shots[10], attributes=window)
    write_plain(raw / "plain-8.dcm", (shots[11] >> 4).astype(np.uint8), attributes=window)
    Image.fromarray((shots[12] >> 4).astype(np.uint8)).save(raw / "grey.png")
    cv2.imwrite(str(raw / "deep.png"), shots[13] << 4)
    cv2.imwrite(str(raw / "colours.png"), cv2.merge([(shots[14] >> 4).astype(np.uint8)] * 3))
    Image.fromarray((shots[15] >> 4).astype(np.uint8)).save(raw / "photo.jpg", quality=90)
    Image.fromarray((shots[16] >> 4).astype(np.uint8)).save(raw / "scans.jpg", progressive=True)
    Image.fromarray(shots[17]).save(raw / "plain.tif")
    Image.fromarray((shots[18] >> 4).astype(np.uint8)).save(raw / "packed.tif", compression="tiff_lzw")
    (raw / "film.pgm").write_bytes(b"P5\n48 64\n255\n" + (shots[19] >> 4).astype(np.uint8).tobytes())
    names = sorted(path.name for path in raw.iterdir())
    rows = "".join(f"{name},p{n},mass,6,20,22,40\n" for n, name in enumerate(names))
    (raw / "boxes.csv").write_text("image,patient,label,x0,y0,x1,y1\n" + rows)


def _run_lengths(cells: np.ndarray) -> bytes:
    said = {"rows": cells.shape[0], "columns": cells.shape[1], "bits_allocated": 16, "bits_stored": 12}
    said |= {"samples_per_pixel": 1, "pixel_representation": 0, "number_of_frames": 1}
    return bytes(
        RLELosslessEncoder.encode(cells, encoding_plugin="pydicom", photometric_interpretation="MONOCHROME2", **said)
    )


def _write_compressed(path: Path, cells: np.ndarray, codestream: bytes, syntax: str) -> None:
    """Write compressed pixel data into a file that was written uncompressed."""
    write_plain(path, cells, attributes={"BitsStored": 8 * cells.itemsize if cells.itemsize == 1 else 12})
    content = pydicom.dcmread(path)
    content.HighBit = content.BitsStored - 1
    content.PixelData = encapsulate([codestream])
    content["PixelData"].VR, content["PixelData"].is_undefined_length = "OB", True
    content.file_meta.TransferSyntaxUID = uid.UID(syntax)
    content.save_as(path)


def draw_cdd_cesm(home: Path) -> None:
    """Draw a folder of CDD-CESM with two views of two patients."""
    raw, shapes = home / "raw", []
    sheet = openpyxl.Workbook()
    rows = sheet.worksheets[0]
    rows.title = "all"
    rows.append(
        (
            "Image_name",
            "Patient_ID",
            "Side",
            "Type",
            "BIRADS",
            "Findings",
            "View",
            "Pathology Classification/ Follow up",
        )
    )
    for number, (patient, kind) in enumerate(((1, "DM"), (1, "CM"), (2, "DM"), (2, "CM"))):
        name = f"P{patient}_L_{kind}_MLO"
        where = raw / ("Low energy images of CDD-CESM" if kind == "DM" else "Subtracted images of CDD-CESM")
        where.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(where / f"{name}.jpg"), (grey(number) >> 4).astype(np.uint8))
        rows.append((name, patient, "L", kind, 4, "Mass", "MLO", "Malignant" if patient == 1 else "Benign"))
        polygon = {"name": "polygon", "all_points_x": [5, 20, 20, 5], "all_points_y": [20, 20, 40, 38]}
        circle = {"name": "circle", "cx": 12, "cy": 30, "r": 6}
        shapes += [(f"{name}.jpg", 1, "{}", 2, n, json.dumps(s), "{}") for n, s in enumerate((polygon, circle))]
    sheet.save(raw / "Radiology manual annotations.xlsx")
    with (raw / "Radiology_hand_drawn_segmentations_v2.csv").open("w", newline="") as file:
        header = ("#filename", "file_size", "file_attributes", "region_count", "region_id")
        csv.writer(file).writerows([(*header, "region_shape_attributes", "region_attributes"), *shapes])


def draw_inbreast(home: Path, *, old: bool) -> None:
    """Draw a folder of INbreast, with its table as CSV or as a workbook of 1997."""
    inbreast.write(home / "raw", patients=2, long_side=128)
    if old:
        table = home / "raw" / "INbreast.csv"
        rows = [line.split(";") for line in table.read_text().splitlines()]
        xls.write(home / "raw" / "INbreast.xls", {"Sheet1": [[_cell(cell) for cell in row] for row in rows]})
        table.unlink()


def _cell(text: str) -> str | float:
    return float(text) if text.isdecimal() else text


def draw_workbook(home: Path) -> None:
    """Draw an own folder whose table is a workbook."""
    folder.write(home / "raw", layout="table", patients=1, long_side=128)
    table, book = home / "raw" / "lesions.csv", openpyxl.Workbook()
    for row in csv.reader(io.StringIO(table.read_text())):
        book.worksheets[0].append([_cell(cell) for cell in row])
    book.save(table.with_suffix(".xlsx"))
    table.unlink()


def draw_dataset(home: Path) -> None:
    """Draw a DATASET in `dataset`, PREDICTIONS that repeat its lesions in `predictions`, their scores in `scores`."""
    folder.write(home / "made", layout="coco", patients=4, long_side=128)
    data, told = home / "dataset", home / "predictions"
    _call(f"convert folder {home / 'made'} {data} --plain-names --workers 1")
    _call(f"folds {data} -k 2")
    shutil.copytree(data / "panoptic", told / "panoptic")
    shutil.copy(data / "panoptic.json", told / "panoptic.json")
    listed = json.loads((data / "instances.json").read_text())["annotations"]
    (told / "instances.json").write_text(json.dumps([{**each, "score": 0.5} for each in listed]))
    (told / "semantic").mkdir()
    for path in sorted((data / "panoptic").iterdir()):
        cv2.imwrite(str(told / "semantic" / path.name), cv2.imread(str(path))[..., 2])
    _call(f"evaluate {data} {told} --out {home / 'scores'} --resamples 20")
    shutil.rmtree(home / "made")


def _call(command: str) -> None:
    try:
        cli.main(command.split())
    except SystemExit as done:
        if done.code:
            raise RuntimeError(f"{command}: exit code {done.code}") from None


def _convert(reader: str, options: str = "") -> tuple[str]:
    return (f"convert {reader} {{raw}} {{out}} --workers 1 --long-side 96 {options}",)


def _phantoms(write: Callable[..., None], **options: Any) -> Callable[[Path], object]:
    return lambda home: write(home / "raw", **options)


SMALL = {"patients": 1, "long_side": 128}
OWN = "--plain-names --empty lesion-free"
OF_DATASET = ("dataset/*.json", "dataset/*.json", "dataset/*.csv", "dataset/*/*.png")
SCENES = (
    Scene("pictures", draw_pictures, _convert("folder", OWN), ["raw/*.[!c]*"], at_once=12),
    Scene("vindr", _phantoms(phantom.write, **SMALL), _convert("vindr"), ["raw/*.csv", "raw/*/*/*"]),
    Scene("cdd-cesm", draw_cdd_cesm, _convert("cdd-cesm", "--normals"), ["raw/*.csv", "raw/*.xlsx", "raw/*/*"]),
    Scene(
        "cbis-ddsm",
        _phantoms(cbis_ddsm.write, patients=2, long_side=128),
        _convert("cbis-ddsm"),
        ["raw/**/*.csv", "raw/**/*.dcm"],
    ),
    Scene(
        "cbis-ddsm jpeg",
        _phantoms(cbis_ddsm.write, patients=2, long_side=128, layout="kaggle"),
        _convert("cbis-ddsm"),
        ["raw/**/*.csv", "raw/**/*.jpg"],
    ),
    Scene(
        "inbreast",
        partial(draw_inbreast, old=False),
        _convert("inbreast", "--pectoral"),
        ["raw/*.csv", "raw/*/*.xml", "raw/*/*"],
    ),
    Scene("inbreast xls", partial(draw_inbreast, old=True), _convert("inbreast"), ["raw/*.xls"]),
    Scene("csaw-cc", _phantoms(csaw_cc.write, **SMALL), _convert("csaw-cc", "--normals"), ["raw/*.csv", "raw/**/*.*"]),
    Scene("mini-mias", _phantoms(mini_mias.write, patients=1), _convert("mini-mias"), ["raw/*"]),
    Scene(
        "cmmd",
        _phantoms(cmmd.write, **SMALL),
        _convert("cmmd", "--missing-rows normal"),
        ["raw/*.xlsx", "raw/**/*.dcm"],
    ),
    Scene("workbook", draw_workbook, _convert("folder", OWN), ["raw/*.xlsx"]),
    *(
        Scene(layout, _phantoms(folder.write, layout=layout, **SMALL), _convert("folder", OWN), victims)
        for layout, victims in {
            "table": ["raw/*.csv"],
            "masks": ["raw/**/*.png"],
            "dicom-seg": ["raw/**/*.seg.dcm"],
            "labelme": ["raw/**/*.json"],
            "cvat": ["raw/*.xml"],
            "via": ["raw/*.json"],
            "coco": ["raw/*.json"],
        }.items()
    ),
    Scene("coco reader", draw_dataset, ("convert coco {dataset} {out} --workers 1",), OF_DATASET),
    Scene(
        "dataset",
        draw_dataset,
        (
            "check {dataset} --workers 1",
            "check {dataset} --fix --workers 1",
            "folds {dataset} -k 2",
            "inspect {dataset}",
        ),
        OF_DATASET,
    ),
    Scene(
        "scores",
        draw_dataset,
        ("evaluate {dataset} {predictions} --resamples 5 --workers 1",),
        (*OF_DATASET, "predictions/*.json", "predictions/*.json", "predictions/*/*.png"),
    ),
    Scene("results", draw_dataset, ("compare {scores} {scores} --resamples 5",), ["scores/*"]),
    Scene(
        "inspect",
        _phantoms(phantom.write, **SMALL),
        ("inspect {raw} --pixels --workers 1",),
        ["raw/*/*/*", "raw/*.csv"],
    ),
)
