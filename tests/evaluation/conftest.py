"""Scenes drawn as text, written as a DATASET and PREDICTIONS."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mammoprep import panoptic

CATEGORIES = panoptic.make_categories(["mass", "calc"], ["background"])
CLASS_OF = {**dict.fromkeys("mnopM", 1), **dict.fromkeys("cdC", 2), ".": 3}
"""One letter a segment: m n o p are masses, c d calcifications, capitals crowds, `.` background; `_` is void."""


@dataclass
class Scene:
    """One image: the true and the predicted map, a letter a pixel; `scores` of the predicted letters."""

    truth: Sequence[str]
    predicted: Sequence[str]
    scores: Mapping[str, float] = field(default_factory=dict)


def letters(rows: Sequence[str]) -> np.ndarray:
    return np.array([list(row) for row in rows])


def ids_of(rows: Sequence[str]) -> np.ndarray:
    """The id of a letter is its code point, shifted so that all three channels are used; void is 0."""
    codes = np.vectorize(ord)(letters(rows)).astype(np.int32)
    return np.where(letters(rows) == "_", 0, codes * 257 * 64)


def segments_of(rows: Sequence[str]) -> tuple[panoptic.Segment, ...]:
    grid, ids = letters(rows), ids_of(rows)
    return tuple(
        panoptic.Segment(
            id=int(ids[grid == letter][0]),
            category_id=CLASS_OF[letter],
            area=int((grid == letter).sum()),
            bbox=panoptic.mask_box(grid == letter),
            iscrowd=letter.isupper(),
        )
        for letter in sorted(set(grid.ravel()) - {"_"})
    )


def instances_of(rows: Sequence[str], image_id: int) -> list[dict[str, Any]]:
    grid = letters(rows)
    return [
        {
            "image_id": image_id,
            "category_id": CLASS_OF[letter],
            "segmentation": panoptic.encode_rle(grid == letter),
            "iscrowd": int(letter.isupper()),
            "letter": letter,
        }
        for letter in sorted(set(grid.ravel()) - {"_", "."})
    ]


def write_side(root: Path, maps: Sequence[Sequence[str]]) -> None:
    (root / "panoptic").mkdir(parents=True)
    images = []
    for number, rows in enumerate(maps, start=1):
        name = f"case-{number}"
        panoptic.write_ids(root / "panoptic" / f"{name}.png", ids_of(rows))
        images.append(panoptic.Image(number, name, len(rows), len(rows[0]), segments_of(rows)))
    panoptic.write_panoptic(root, categories=CATEGORIES, images=images)


def write_dataset(root: Path, scenes: Sequence[Scene]) -> Path:
    write_side(root, [scene.truth for scene in scenes])
    annotations = [entry for number, s in enumerate(scenes, start=1) for entry in instances_of(s.truth, number)]
    content = {"images": [], "annotations": [{"id": i, **entry} for i, entry in enumerate(annotations, start=1)]}
    (root / "instances.json").write_text(json.dumps(content))
    rows = [f"case-{number},patient-{number // 2}" for number in range(1, len(scenes) + 1)]
    (root / "cases.csv").write_text("\n".join(["image_id,patient_id", *rows, ""]))
    return root


def write_predictions(root: Path, scenes: Sequence[Scene]) -> Path:
    write_side(root, [scene.predicted for scene in scenes])
    results = []
    (root / "semantic").mkdir()
    for number, scene in enumerate(scenes, start=1):
        for entry in instances_of(scene.predicted, number):
            results.append({**entry, "score": scene.scores.get(entry.pop("letter"), 0.5)})
        classes = np.vectorize({**CLASS_OF, "_": 0}.get)(letters(scene.predicted)).astype(np.uint8)
        panoptic.write_classes(root / "semantic" / f"case-{number}.png", classes)
    (root / "instances.json").write_text(json.dumps(results))
    return root


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write scenes; give DATASET and PREDICTIONS."""

    def write_both(*scenes: Scene) -> tuple[Path, Path]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        return write_dataset(place / "dataset", scenes), write_predictions(place / "predictions", scenes)

    return write_both


@pytest.fixture
def scene() -> type[Scene]:
    return Scene


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change a JSON file in place."""

    def change(path: Path, how: Callable[[Any], Any]) -> None:
        content = json.loads(path.read_text())
        changed = how(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return change
