"""Other people's readers load what is exported; `make witnesses` installs them, apart from our own packages."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic, targets

ROOT = Path(__file__).resolve().parents[2]
WITNESSES = ROOT / ".venv" / "witnesses"
CLASSES = ["BI-RADS 3", "müll & <b>"]

pytestmark = pytest.mark.skipif(
    not (WITNESSES / "made").is_file(), reason="other tools' readers are not there: make witnesses"
)


@pytest.fixture
def export(dataset: Path, tmp_path: Path):
    def write(to: str, **options: int) -> Path:
        targets.export(dataset, tmp_path / to, options=targets.Options(to, **options))
        return tmp_path / to

    return write


def seen_by(reader: str, folder: Path, how: object = ""):
    """Give what a reader makes of an export."""
    call = [
        WITNESSES / "bin" / "python",
        "-W",
        "ignore",
        ROOT / "tests" / "targets" / "foreign.py",
        reader,
        folder,
        how,
    ]
    done = subprocess.run([str(word) for word in call], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def in_order(shapes):
    return sorted((label, np.asarray(mask, dtype=bool).tobytes()) for label, mask in shapes)


@pytest.mark.parametrize(("to", "kind"), [("coco", "coco_instances"), ("cvat", "cvat")])
def test_datumaro_sees_every_pixel(export, lesions, to, kind):
    seen = seen_by("datumaro", export(to), kind)
    assert seen["classes"] == CLASSES
    assert {name: in_order(shapes) for name, shapes in seen["lesions"].items()} == {
        name: in_order(shapes) for name, shapes in lesions.items()
    }


def test_hugging_face_datasets_sees_every_pixel(export, lesions, tmp_path):
    seen = seen_by("datasets", export("hf", fold=0), tmp_path / "cache")
    assert {split: len(rows) for split, rows in seen.items()} == {"train": 2, "validation": 2}
    for row in (row for rows in seen.values() for row in rows):
        codes = [{"size": [row["height"], row["width"]], "counts": each["counts"]} for each in row["lesions"]]
        drawn = [panoptic.decode_rle(code) for code in codes]
        assert all((one == mask).all() for one, (_, mask) in zip(drawn, lesions[row["image_id"]], strict=True))
        ids = np.asarray(row["panoptic"])
        assert [int((ids == each["id"]).sum()) for each in row["segments"]] == [
            each["area"] for each in row["segments"]
        ]
        assert all(json.loads(each["attributes"]) == {"birads": "3"} for each in row["lesions"])


def test_supervision_reads_yolo_to_its_rounding(export, lesions):
    """It cuts corners down to whole pixels, so that a lesion may be a pixel larger at its far sides."""
    seen = seen_by("supervision", export("yolo", fold=0))
    assert seen["classes"] == CLASSES
    assert {name: [label for label, _ in shapes] for name, shapes in seen["lesions"].items()} == {
        name: [label for label, _ in expected] for name, expected in lesions.items()
    }
    square, drawn = lesions["größe"][0][1], np.asarray(seen["lesions"]["größe"][0][1])
    assert drawn[square].all()
    assert drawn.sum() <= 9 * 9
