"""Synthetic VinDr-Mammo raw folders in the release's own layout, true masks beside them: for the demo and tests.

The modules named after other data sets write theirs.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.phantom import detectors, dicom, scene, studies, tables
from mammoprep.records import Box

SMALLEST = 128
"""Shortest long side, in pixels, at which a lesion can still be drawn."""


def write(root: Path, *, patients: int = 40, seed: int = 0, long_side: int = 640, truth: Path | None = None) -> None:
    """Write a raw folder of `patients` studies with four views each, as PhysioNet's VinDr-Mammo 1.0.0 lies on disk.

    Images are `long_side` pixels high (0: the detector's true size) and show 24 to 30 cm at any size. `truth`
    (default: `<root>-truth` beside it) gets `<image_id>.png`: 8 bit, 0 or n where the image's n-th row in
    finding_annotations.csv lies. The same arguments give the same bytes.
    """
    if patients < 1:
        raise MammoprepError(f"{patients} patients cannot be drawn. Ask for 1 or more.")
    if long_side != 0 and long_side < SMALLEST:
        raise MammoprepError(
            f"A long side of {long_side} px is too small. Ask for {SMALLEST} or more, or 0 (true size)."
        )
    with panoptic.staged(truth or root.with_name(f"{root.name}-truth")) as masks, panoptic.staged(root) as raw:
        views = []
        for view in studies.plan(patients, seed=seed, long_side=long_side):
            pixels, ids, boxes = draw(view)
            study = raw / "images" / view.study_id
            study.mkdir(parents=True, exist_ok=True)
            dicom.write(study / f"{view.image_id}.dicom", pixels, view=view)
            panoptic.write_png(masks / f"{view.image_id}.png", ids)
            views.append((view, boxes))
        tables.write(raw, views)


def draw(view: studies.View) -> tuple[NDArray[np.uint16], NDArray[np.uint8], tuple[Box, ...]]:
    """Draw one image: stored values (H, W), true lesion numbers (H, W) and the radiologist's box of each lesion."""
    rng = np.random.default_rng(view.stream)
    shown = scene.draw(view, rng=rng)
    pixels = detectors.store(shown.brightness, shown.inside, detector=view.detector)
    boxes = tuple(_box(shown.ids == number, rng=rng) for number in range(1, len(view.kinds) + 1))
    return pixels, shown.ids, boxes


def _box(mask: panoptic.Mask, *, rng: np.random.Generator) -> Box:
    """Draw a box as a reader does: about 5 % wider on each side, never exact, at times over the image's edge."""
    x, y, width, height = panoptic.mask_box(mask)
    left, top, right, bottom = rng.normal(0.05, 0.02, size=4) * (width, height, width, height)
    edges = (x - left, y - top, x + width + right, y + height + bottom)
    return Box(*(round(float(edge), 4) for edge in edges))
