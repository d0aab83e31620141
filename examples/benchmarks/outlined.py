"""The radiologists' free-hand outlines of a CDD-CESM folder, with images and tight boxes, for the scripts beside.

Ellipses and circles are left out: they are drawn around a lesion, not along it, and their boxes' ellipse is right by
construction. So are open polylines and points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep import anatomy, outlines, panoptic, pixels
from mammoprep.records import Box, Polygon, Record

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels (H, W), the breast's mask (H, W), whose it is (the phantom's: all one), and DM, CM or phantom."""

    pixels: NDArray[np.uint16]
    breast: NDArray[np.bool_]
    patient: str
    kind: str


@dataclass(frozen=True, slots=True)
class Lesion:
    """A lesion's mask within its tight box (x0, y0, x1, y1), half-open, in pixels of its image."""

    image: Image
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]

    @property
    def side(self) -> float:
        """Give the box's mean side in pixels."""
        return float(np.sqrt(self.mask.size))

    def truth(self) -> NDArray[np.bool_]:
        """Give the mask (H, W) of the whole image."""
        full = np.zeros(self.image.pixels.shape, dtype=np.bool_)
        x0, y0, x1, y1 = self.box
        full[y0:y1, x0:x1] = self.mask
        return full


def lesion_of(image: Image, mask: NDArray[np.bool_]) -> Lesion:
    """Cut a mask (H, W) to its box."""
    x, y, width, height = panoptic.mask_box(mask)
    return Lesion(image, (x, y, x + width, y + height), mask[y : y + height, x : x + width].copy())


def read(root: Path) -> list[Lesion]:
    """Read every free-hand outline of a CDD-CESM raw folder."""
    from mammoprep.readers import READERS

    lesions = []
    for record in READERS["cdd-cesm"].read(root):
        if isinstance(record, Record) and (root / record.source).is_file():
            grey = pixels.read(root / record.source).pixels
            image = Image(grey, anatomy.breast(grey), record.patient_id, record.image_id.split("_")[2])
            for finding in record.findings:
                if isinstance(finding.shape, Polygon):
                    height, width = grey.shape
                    lesions.append(lesion_of(image, outlines.draw(finding.shape, height=height, width=width)))
    return lesions


def folds(lesions: Sequence[Lesion]) -> NDArray[np.intp]:
    """Give each lesion the number of its fold; a patient's lesions share one."""
    patients = sorted({lesion.image.patient for lesion in lesions})
    order = np.random.default_rng(0).permutation(len(patients))
    fold = {patients[place]: number % FOLDS for number, place in enumerate(order)}
    return np.array([fold[lesion.image.patient] for lesion in lesions])


def jittered(lesion: Lesion, *, share: float, rng: np.random.Generator) -> Box:
    """Move each side of the box by a normal number of its length, sigma `share`, at most twice that."""
    x0, y0, x1, y1 = lesion.box
    sides = np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    moves = np.clip(rng.normal(0, share, 4), -2 * share, 2 * share) * sides
    edges = np.round(np.array(lesion.box) + moves).tolist()
    return Box(*edges) if edges[0] < edges[2] and edges[1] < edges[3] else Box(*lesion.box)


def dice(mask: NDArray[Any], truth: NDArray[Any]) -> float:
    """Give the Dice of two masks of one shape, of which one is not empty."""
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
