"""Poisoned files: each way of damage does what it says, some have a known fate, and a short run of the long fuzz."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import openpyxl
import psutil
import pytest
from PIL import Image
from pydicom import dcmread

from mammoprep import cli, exports
from mammoprep.errors import MammoprepError
from mammoprep.phantom.dicom import write_plain
from mammoprep.phantom.poison import KINDS, kind_of, poison
from mammoprep.pixels import PixelError, identify, read, read_segments
from mammoprep.readers.inbreast import _regions
from mammoprep.tables import load

BENCHMARKS = Path(__file__).resolve().parents[1] / "examples" / "benchmarks"
GREY = np.random.default_rng(0).integers(0, 4096, (24, 16)).astype(np.uint16)


@pytest.fixture(scope="module")
def fuzz():
    """The long run's own module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("fuzz", BENCHMARKS / "fuzz.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["fuzz"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))
        sys.modules.pop("fuzz", None)


def picture(form: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray((GREY >> 4).astype(np.uint8)).save(written, form)
    return written.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole file of each kind."""
    home = tmp_path_factory.mktemp("whole")
    write_plain(home / "a.dcm", GREY, attributes={"PatientID": "p", "WindowCenter": 2000, "WindowWidth": 3000})
    book = openpyxl.Workbook()
    for row in (("image", "x0"), ("a.png", 1), ("b.png", 2)):
        book.worksheets[0].append(row)
    book.save(home / "a.xlsx")
    outlined = {"imagePath": "a.png", "imageHeight": 24, "imageWidth": 16, "shapes": [{"points": [[0, 1], [2, 3]]}]}
    return {
        "dicom": (home / "a.dcm").read_bytes(),
        "csv": b"image,x0,x1\na.png,1,2\nb.png,3,4\n",
        "xlsx": (home / "a.xlsx").read_bytes(),
        "xls": b"\xd0\xcf\x11\xe0" + Random(0).randbytes(2000),
        "json": json.dumps(outlined).encode(),
        "xml": b'<?xml version="1.0"?><annotations><image name="a.png" width="16"><v>1</v></image></annotations>',
        **{form: picture(form) for form in ("png", "jpeg", "tiff")},
        "pgm": b"P5\n16 24\n255\n" + bytes(range(192)) * 2,
    }


def ways():
    return [(kind, way) for kind, poisons in KINDS.items() for way in poisons]


@pytest.mark.parametrize(("kind", "way"), ways(), ids=" ".join)
def test_each_way_damages_a_file_alike_for_one_seed(whole, kind, way):
    damaged = (KINDS[kind][way](whole[kind], Random(seed)) for seed in range(20))
    seed, first = next((seed, made) for seed, made in enumerate(damaged) if made != whole[kind])
    assert KINDS[kind][way](whole[kind], Random(seed)) == first


def test_a_way_is_drawn_from_those_of_the_kind(whole):
    drawn = {poison(whole["pgm"], "pgm", rng=Random(seed))[0] for seed in range(200)}
    assert drawn == set(KINDS["pgm"])
    assert [kind_of(name) for name in ("a.b.DCM", "a.tif", "b.xls", "Info.txt")] == ["dicom", "tiff", "xls", "xls"]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("65535 rows of 65535", "65535 rows and 65535 columns"),
        ("deflated bomb", "grows to more than"),
        ("encrypted", "encrypted"),
        ("encrypted pixel data", "encrypted"),
        ("empty", "empty"),
        ("another transfer syntax", "transfer syntax|damaged|bytes"),
    ],
)
def test_a_poisoned_dicom_file_gives_its_reason(whole, tmp_path, way, reason):
    path = tmp_path / "a.dcm"
    path.write_bytes(KINDS["dicom"][way](whole["dicom"], Random(3)))
    with pytest.raises(PixelError, match=reason):
        read(path)


def test_a_million_frames_are_refused(whole, tmp_path):
    path, damage = tmp_path / "a.dcm", KINDS["dicom"]["frames without number"]
    damaged = next(made for seed in range(50) if b"1000000" in (made := damage(whole["dicom"], Random(seed))))
    path.write_bytes(damaged)
    assert dcmread(path).NumberOfFrames == 1_000_000
    with pytest.raises(PixelError, match="more than one frame"):
        read(path)


@pytest.mark.parametrize("seed", range(6))
def test_sequences_1000_deep_end_in_one_reason_or_the_image(whole, tmp_path, seed):
    path = tmp_path / "a.dcm"
    path.write_bytes(KINDS["dicom"]["sequences 1,000 deep"](whole["dicom"], Random(seed)))
    reasons = [reason_of(use, path) for use in (read, identify, read_segments)]
    assert set(reasons[:2]) <= {"", "the DICOM header is damaged or cut off", "the pixel data is cut off", NO_TABLE}
    assert reasons[2] in ("the DICOM header is damaged or cut off", "the DICOM SEG is neither binary nor fractional")


NO_TABLE = "a look-up table has no descriptor of three numbers"


def reason_of(use, path):
    try:
        use(path)
    except PixelError as error:
        return str(error)
    return ""


def test_a_deflated_bomb_is_not_inflated_for_its_identity(whole, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(KINDS["dicom"]["deflated bomb"](whole["dicom"], Random(0)))
    assert path.stat().st_size < 4_000_000
    for use in (identify, read_segments):
        with pytest.raises(PixelError, match="grows to more than"):
            use(path)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("zip bomb", "unpacks to more than 256 MiB"),
        ("rows of 16,384 cells", "more than 1048576 rows or 20000000 cells"),
        ("billion laughs", "neither CSV nor XLSX"),
        ("encrypted parts", "neither CSV nor XLSX"),
    ],
)
def test_a_poisoned_workbook_gives_its_reason(whole, tmp_path, way, reason):
    path = tmp_path / "a.xlsx"
    seeds = (KINDS["xlsx"][way](whole["xlsx"], Random(seed)) for seed in range(20))
    path.write_bytes(next(made for made in seeds if way != "billion laughs" or laughs(made)))
    with pytest.raises(MammoprepError, match=reason):
        load(path, columns=("image", "x0"))


def laughs(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        return any(b"&l11;" in parts.read(name) and "sheet1" in name for name in parts.namelist())


@pytest.mark.parametrize("way", ["billion laughs", "quadratic blow-up", "external entity"])
def test_entities_are_refused(whole, tmp_path, way):
    path = tmp_path / "a.xml"
    path.write_bytes(KINDS["xml"][way](whole["xml"], Random(0)))
    assert [item.reason for item in exports.read(path, name="a.xml")] == [
        "the file is not readable JSON or XML, or not in UTF-8"
    ]
    with pytest.raises(ValueError, match="no property list"):
        _regions(path)


@pytest.mark.parametrize("seed", range(4))
def test_json_100000_deep_is_refused(whole, tmp_path, seed):
    path = tmp_path / "a.json"
    path.write_bytes(KINDS["json"]["100,000 deep"](whole["json"], Random(seed)))
    assert [item.reason for item in exports.read(path, name="a.json")] == [
        "the file is not readable JSON or XML, or not in UTF-8"
    ]


def test_pixels_beside_a_bomb_in_a_text_are_read_or_refused(whole, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(KINDS["png"]["a text of 100 MB"](whole["png"], Random(0)))
    assert path.stat().st_size < 10**6
    assert reason_of(read, path) in ("", "the PNG data is damaged or cut off")


# --- the long run, and whether it sees what it should ----------------------------------------------------------------


def test_a_short_run_finds_nothing():
    call = [sys.executable, str(BENCHMARKS / "fuzz.py"), "--files", "120", "--workers", "1", "--seed", "6"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " runs: 0 failed" in done.stdout


def bug(arguments):
    raise IndexError("a bug")


def two_lines(arguments):
    os.write(2, b"mammoprep: wrong\nand more\n")
    sys.exit(2)


def half_written(arguments):
    Path(arguments[-1]).mkdir()
    os.write(2, b"mammoprep: wrong\n")
    sys.exit(2)


def too_much(arguments):
    assert np.ones(2**27 + 2**25).sum()  # 1.25 GiB
    sys.exit(1)


def too_long(arguments):
    start = time.process_time()
    while time.process_time() < start + 0.3:
        pass
    sys.exit(0)


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (bug, "traceback: .*IndexError: a bug"),
        (two_lines, "exit 2, 2 lines"),
        (half_written, r"left \['out'\]"),
        (lambda arguments: sys.exit(3), "exit code 3"),
        (too_much, r"\d{4} MiB"),
        (too_long, r"0\.\d s"),
    ],
)
def test_the_run_sees_what_goes_wrong(fuzz, tmp_path, monkeypatch, command, wrong):
    monkeypatch.setattr(cli, "main", command)
    monkeypatch.setattr(fuzz, "SECONDS", 0.25 if command is too_long else 60)
    left_by_earlier_tests = psutil.Process().memory_info().rss
    monkeypatch.setattr(fuzz, "MEMORY", left_by_earlier_tests + 2**30)
    made = fuzz.Result(0, "pictures", f"convert {{out}} {tmp_path / 'out'}")
    fuzz._measure_call(made)
    assert re.search(wrong, made.wrong or fuzz._judge(made, tmp_path, tmp_path))


def test_a_worker_that_dies_or_hangs_is_told_of_and_replaced(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "HANGS", 2.0)
    worker = fuzz.Worker(0, {}, "")  # there is nothing drawn, so the first run ends it
    try:
        worker.ask(7)
        worker.process.join()
        assert worker.answer().wrong == "the worker died: exit code 1"
        worker.number, worker.since = 8, time.monotonic() - 3
        assert worker.answer().wrong == "nothing came back in 2 s"
    finally:
        worker.process.kill()
