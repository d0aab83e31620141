"""A raw folder of four small images with hand-drawn findings, and the Reader of it."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mammoprep.records import Finding, Polygon, Reader, Record, Skipped


def square(x: float, y: float, side: float, *, label: str | None = "small", source: str = "row 2") -> Finding:
    """A square outline; it covers exactly side x side pixels when its corners are whole numbers."""
    points = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    return Finding(Polygon(points), label, source, {"note": "hand-drawn"})


def write_image(path: Path, *, height: int = 60, width: int = 40) -> None:
    """A grey breast in the left half, black on the right."""
    pixels = np.zeros((height, width), dtype=np.uint16)
    pixels[:, : width // 2] = 30_000
    pixels[height // 4 : height // 2, 2 : width // 4] = 60_000
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def records() -> list[Record]:
    """Four images of three patients, out of order: two lesions that overlap, none, one of no class, one alone."""
    return [
        Record("b/4.png", "four", "p3", findings=(square(4, 30, 6, label="large", source="row 5"),)),
        Record("a/1.png", "one", "p1", findings=(square(2, 10, 20, label="large"), square(12, 20, 10, source="row 3"))),
        Record("a/2.png", "two", "p1", lesion_free=True),
        Record("b/3.png", "three", "p2", findings=(square(2, 2, 8, label=None, source="row 4"),)),
    ]


@pytest.fixture
def raw(tmp_path: Path, records: Sequence[Record]) -> Path:
    root = tmp_path / "raw"
    for record in records:
        write_image(root / record.source)
    (root / "table.json").write_text(json.dumps({"rows": 5}))
    return root


@pytest.fixture
def reader(records: list[Record]) -> Reader:
    def read(root: Path, *, labels: str, extra: bool = False) -> Iterator[Record | Skipped]:
        yield from records
        yield Skipped("table.json row 6", "table", "no image has that name")

    return Reader(
        name="tiny",
        title="Tiny",
        labels={"size": ("small", "large"), "none": ()},
        markers=("table.json",),
        tables=lambda root: (root / "table.json",),
        read=read,
    )


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Give every file below a folder with its bytes."""

    def read(folder: Path) -> dict[str, Any]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
