"""The tables of a DATASET, written when all of its images are there."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.convert.case import COLUMNS, Case
from mammoprep.panoptic import Category
from mammoprep.records import Skipped
from mammoprep.shelf import Again

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
"""Control characters, a carriage return among them, which csv writes without quotation marks before Python 3.13."""


def write(
    out: Path,
    cases: Iterable[Case],
    *,
    categories: Sequence[Category],
    skipped: Iterable[Skipped],
    manifest: Mapping[str, Any],
) -> None:
    """Write panoptic.json, instances.json, cases.csv, skipped.csv, the SHA-256 of every file, and manifest.json.

    The cases, in the order of their numbers, are gone through several times and never held; `skipped` is sorted.
    """
    done = Again(lambda: (case for case in cases if case.image))
    images = Again(lambda: (case.image for case in cases if case.image))
    panoptic.write_panoptic(out, categories=categories, images=images)
    annotations = enumerate(chain.from_iterable(case.instances for case in done), start=1)
    panoptic.write_entries(
        out / "instances.json",
        {
            "images": (image.to_json() for image in images),
            "annotations": ({"id": i, **annotation} for i, annotation in annotations),
            "categories": (category.to_json() for category in categories if category.isthing),
        },
    )
    _write_csv(out / "cases.csv", COLUMNS, (case.row.values() for case in done))
    lines = ((item.source, item.stage, item.reason) for item in skipped)
    _write_csv(out / "skipped.csv", ("source", "stage", "reason"), lines)
    sums = panoptic.write_sums(out, _hashes(out, done))
    panoptic.write_json(out / "manifest.json", {**manifest, "outputs": {panoptic.SUMS: sums}})


def _hashes(out: Path, done: Iterable[Case]) -> Iterator[tuple[str, str]]:
    """Yield each file and its SHA-256: those of the images as they were written, those of the tables read again."""
    for case in done:
        for folder, written in zip(("images", "panoptic"), case.files, strict=True):
            yield f"{folder}/{case.row['image_id']}.png", written.sha256
    for path in sorted(out.iterdir()):
        if path.is_file() and path.name != "manifest.json" and not path.name.startswith(panoptic.SUMS):
            yield path.name, panoptic.file_hash(path)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table: bytes of a file's name that are not UTF-8 as escapes, control characters as blanks."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_CONTROL.sub(" ", cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
