"""A DATASET with all that is hard to hand over: holes, parts, single pixels, overlaps, odd names, 16 bits."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic

HEIGHT, WIDTH = 24, 20
CATEGORIES = panoptic.make_categories(["BI-RADS 3", "müll & <b>"])
NAMES = ("a b", "größe", "free", "<x>&'\"")


def block(*boxes: tuple[int, int, int, int], without: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """A mask of boxes (x, y, width, height), less one."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = True
    if without:
        x, y, width, height = without
        mask[y : y + height, x : x + width] = False
    return mask


LESIONS: dict[str, list[tuple[int, np.ndarray]]] = {
    "a b": [
        (1, block((2, 3, 6, 5), without=(4, 5, 2, 1))),  # a hole
        (2, block((9, 10, 2, 2), (11, 12, 1, 1), (0, 20, 3, 4))),  # three parts: one only touches at a corner
    ],
    "größe": [(1, block((4, 4, 8, 8))), (2, block((6, 6, 2, 1))), (1, block((19, 23, 1, 1)))],  # one lies on another
    "free": [],
    "<x>&'\"": [(2, block((0, 0, 20, 24), without=(5, 5, 1, 1)))],  # the whole image but for a pixel
}


@pytest.fixture
def lesions() -> dict[str, list[tuple[int, np.ndarray]]]:
    """Give the class and mask of each lesion by the image's name."""
    return LESIONS


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Give a writer of the DATASET."""

    def write(*, bits: int = 8) -> Path:
        root = tmp_path / "DATASET"
        for folder in ("images", "panoptic"):
            (root / folder).mkdir(parents=True)
        images, annotations = [], []
        for number, name in enumerate(NAMES, start=1):
            image, found = _write_image(root, number, name, bits=bits)
            images.append(image)
            annotations += found
        panoptic.write_panoptic(root, categories=CATEGORIES, images=images)
        _write_tables(root, images, annotations)
        return root

    return write


@pytest.fixture
def dataset(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset()


def _write_image(root: Path, number: int, name: str, *, bits: int) -> tuple[panoptic.Image, list[dict]]:
    grey = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * (130 if bits == 16 else 1) % 2**bits
    panoptic.write_png(root / "images" / f"{name}.png", grey.astype(np.uint16 if bits == 16 else np.uint8))
    ids, segments, annotations = np.zeros((HEIGHT, WIDTH), np.int32), [], []
    for place, (label, mask) in enumerate(LESIONS[name], start=1):
        ids[mask] = place
        annotations.append(
            {
                "image_id": number,
                "category_id": label,
                "segmentation": panoptic.encode_rle(mask),
                "bbox": list(panoptic.mask_box(mask)),
                "area": int(mask.sum()),
                "iscrowd": 0,
                "attributes": {"birads": "3"},
            }
        )
    for place, (label, mask) in enumerate(LESIONS[name], start=1):
        seen = ids == place
        covered = {} if (seen == mask).all() else {"covered": 1 - seen.sum() / mask.sum()}
        facts = {**covered, "source": f"table.csv row {place + 1}", "attributes": {"birads": "3"}}
        segments.append(panoptic.Segment(place, label, int(seen.sum()), panoptic.mask_box(seen), extra=facts))
    for label, mask in ((3, (ids == 0) & (np.arange(WIDTH) < 10)), (4, (ids == 0) & (np.arange(WIDTH) >= 10))):
        if mask.any():
            segment = panoptic.Segment(len(segments) + 1, label, int(mask.sum()), panoptic.mask_box(mask))
            segments.append(segment)
            ids[mask] = segment.id
    panoptic.write_ids(root / "panoptic" / f"{name}.png", ids)
    return panoptic.Image(number, name, HEIGHT, WIDTH, tuple(segments)), annotations


def _write_tables(root: Path, images: list[panoptic.Image], annotations: list[dict]) -> None:
    listed = {
        "images": [image.to_json() for image in images],
        "annotations": [{"id": place, **each} for place, each in enumerate(annotations, start=1)],
        "categories": [category.to_json() for category in CATEGORIES if category.isthing],
    }
    panoptic.write_json(root / "instances.json", listed)
    with (root / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, panoptic.CASE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for image in images:
            count = len(LESIONS[image.name])
            row = {"image_id": image.name, "patient_id": f"p{image.id}", "laterality": "L", "view": "CC"}
            row |= {"native_height": HEIGHT, "native_width": WIDTH, "crop_x0": 0, "crop_y0": 0}
            row |= {"scale_x": 1, "scale_y": 1, "n_findings": count, "lesion_free": int(not count)}
            writer.writerow(row | {"source": f"{image.id}.dcm"})
    folds = [{"train": [1, 3], "val": [2, 4]}, {"train": [2, 4], "val": [1, 3]}]
    (root / "folds.json").write_text(json.dumps({"k": 2, "folds": folds}))
    panoptic.write_json(root / "manifest.json", {"format": panoptic.FORMAT})


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Give every file below a folder with its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
