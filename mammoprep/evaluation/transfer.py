"""A RUN on another collection: who is in both, and how well lesions are overlapped, images without any apart."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.evaluation.pixel_overlap import Measure, dice, iou, of_images
from mammoprep.evaluation.table import Table
from mammoprep.panoptic import Panoptic

MEASURES: dict[str, Measure] = {"IoU": iou, "Dice": dice}
_ANY = ("folder", "coco", None)
"""Readers whose patients may be those of any collection."""


def shared_patients(trained: Panoptic, seen: Collection[int], other: Panoptic) -> set[str]:
    """Give the patients of `other` who are among the images `seen` of `trained`, as `other` calls them.

    They have the same patient_id, where ids of the two can mean the same: not in two collections with readers of their
    own. Or they have an image with the same bytes. An image without a patient stands for one.
    """
    pictures = {image.id: image.name for image in trained.images if image.id in seen}
    theirs, ours = _patients(trained), _patients(other)
    shared: set[str] = set()
    if _may_share_ids(trained.root, other.root):
        known = {theirs[name] for name in pictures.values() if name in theirs}
        shared |= known & {*ours.values()}
    hashes = {code for _, code in _hashes(trained.root, pictures.values())}
    names = [image.name for image in other.images]
    return shared | {ours.get(name, name) for name, code in _hashes(other.root, names) if code in hashes}


def _patients(dataset: Panoptic) -> dict[str, str]:
    if not (dataset.root / "cases.csv").is_file():
        return {}
    rows = panoptic.read_cases(dataset.root)
    return {row["image_id"]: row["patient_id"] for row in rows if row.get("image_id") and row.get("patient_id")}


def _may_share_ids(*roots: Path) -> bool:
    first, second = (_reader(root) for root in roots)
    return first == second or first in _ANY or second in _ANY


def _reader(root: Path) -> str | None:
    path = root / "manifest.json"
    content = panoptic.read_json(path, hint="Convert the data set again.") if path.is_file() else {}
    name = content.get("dataset") if isinstance(content, dict) else None
    return name if isinstance(name, str) else None


def _hashes(root: Path, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield images by name with the SHA-256 of their PNGs, from SHA256SUMS where that lists them."""
    listed = dict(panoptic.read_sums(root)) if (root / panoptic.SUMS).is_file() else {}
    for name in names:
        path = f"images/{name}.png"
        yield name, listed.get(path) or panoptic.file_hash(root / path)


def overlaps(tables: Sequence[Table]) -> dict[str, dict[str, Any]] | None:
    """Give IoU and Dice of all lesions as one map, mean over images; None without semantic predictions.

    Empty on empty is 1, so on images without a lesion both are the share with nothing predicted. `std` is that over the
    tables, one a network, where there are several.
    """
    first = tables[0]
    if first.confusion is None:
        return None
    lesions = first.annotated[:, first.things].sum(axis=1) > 0
    kinds = {"all": np.ones_like(lesions), "with lesions": lesions, "lesion-free": first.lesion_free}
    values = {name: [of_images(table, measure) for table in tables] for name, measure in MEASURES.items()}
    return {
        kind: {"images": int(chosen.sum()), **{name: _spread(each, chosen) for name, each in values.items()}}
        for kind, chosen in kinds.items()
    }


def _spread(values: Sequence[NDArray[np.float64]], chosen: panoptic.Mask) -> dict[str, float | None]:
    if not chosen.any():
        return {"value": None, "std": None}
    means = [float(each[chosen].mean()) for each in values]
    return {"value": fmean(means), "std": stdev(means) if len(means) > 1 else None}
