"""How well the masks of a converted phantom agree with the true lesions."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic


def dice(dataset: Path, truth: Path) -> dict[str, list[float]]:
    """Give the Dice of each lesion that the DATASET shows, by class, with the true lesion that it covers most of.

    `truth` is the folder that `phantom.write` filled; its maps are brought to the stored size. 0 where a mask covers
    no lesion.
    """
    content = panoptic.load(dataset)
    found: dict[str, list[float]] = {category.name: [] for category in content.things}
    names = {category.id: category.name for category in content.things}
    for image in content.images:
        native = panoptic.read_png(truth / f"{image.name}.png")
        lesions = cv2.resize(native, (image.width, image.height), interpolation=cv2.INTER_NEAREST_EXACT)
        ids = content.ids_of(image)
        for segment in image.segments:
            if segment.category_id in names:
                found[names[segment.category_id]].append(_dice(ids == segment.id, lesions))
    return found


def _dice(mask: panoptic.Mask, lesions: NDArray[Any]) -> float:
    covered = np.bincount(lesions[mask], minlength=2)[1:]
    number = int(covered.argmax()) + 1
    return float(2 * covered[number - 1] / (mask.sum() + (lesions == number).sum()))
