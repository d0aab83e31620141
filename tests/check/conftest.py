"""A DATASET of six images that keeps every rule: textured pictures, two of its lesions overlapping, three folds."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep.convert import Options, Work, convert
from mammoprep.folds import make
from mammoprep.records import Finding, Polygon, Reader, Record, Skipped

HEIGHT, WIDTH = 60, 40


def square(x, y, side, label, row):
    corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    return Finding(Polygon(corners), label, f"table.csv row {row}")


RECORDS = (
    Record("a/1.png", "one", "p1", findings=(square(2, 10, 20, "benign", 2), square(12, 20, 15, "benign", 3))),
    Record("a/2.png", "two", "p1", lesion_free=True),
    Record("b/1.png", "three", "p2", findings=(square(4, 30, 6, "malignant", 4),)),
    Record("b/2.png", "four", "p2", findings=(square(4, 4, 4, None, 5),)),
    Record("c/1.png", "five", "p3", findings=(square(6, 6, 10, "malignant", 6),)),
    Record("c/2.png", "six", "p3", lesion_free=True),
)


def picture(seed):
    """Blotches of a few pixels: no two pictures are alike."""
    noise = np.random.default_rng(seed).normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 4) * 400 + 120).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def clean(tmp_path_factory) -> Path:
    """The DATASET itself, which nobody changes."""
    home = tmp_path_factory.mktemp("clean")
    for seed, record in enumerate(RECORDS):
        path = home / "raw" / record.source
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(seed))
    (home / "raw" / "table.csv").write_text("rows")
    skipped = Skipped("table.csv row 7", "table", "no image has that name")
    reader = Reader(
        name="six",
        title="Six",
        labels={"pathology": ("benign", "malignant")},
        markers=("table.csv",),
        tables=lambda root: (root / "table.csv",),
        read=lambda root, *, labels: iter((*RECORDS, skipped)),
    )
    convert(reader, home / "raw", out=home / "dataset", options=Options(labels="pathology"), work=Work(workers=1))
    make(home / "dataset", k=3)
    return home / "dataset"


@pytest.fixture
def broken(clean, tmp_path) -> Path:
    """A copy of it to break, without hashes, which any change would break too."""
    copied = Path(shutil.copytree(clean, tmp_path / "broken"))
    (copied / "SHA256SUMS").unlink()
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["outputs"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    return copied


@pytest.fixture
def change_json():
    """Change the content of a JSON file."""

    def change_file(path, change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return change_file


@pytest.fixture
def change_csv():
    """Change the rows, dictionaries, of a CSV file."""

    def change_file(path, change):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        change(rows)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    return change_file
