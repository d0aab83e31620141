"""Who is in a phantom folder: patients, their four views, BI-RADS, density, split and lesions."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from typing import Literal

import numpy as np

from mammoprep.errors import MammoprepError
from mammoprep.phantom import lesions
from mammoprep.phantom.breast import Density, Position
from mammoprep.phantom.detectors import DETECTORS, SPACING_MM, Detector

Laterality = Literal["L", "R"]

SMALLEST = 128
"""Shortest long side, in pixels, at which a lesion can still be drawn."""

_GRADES = (5, 4, 3, 5, 4, 3, 0)
"""The main finding's BI-RADS from patient to patient: with 7 in a row, no fold of five misses one; 0 has none."""
_LATERALITIES: tuple[Laterality, ...] = ("L", "R")
_POSITIONS: tuple[Position, ...] = ("CC", "MLO")
_DENSITIES: tuple[Density, ...] = ("A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class View:
    """One image: what the tables and the header say of it. Ids are 32 hexadecimal digits."""

    study_id: str
    series_id: str
    image_id: str
    laterality: Laterality
    position: Position
    birads: int
    density: Density
    split: Literal["training", "test"]
    age: int
    detector: Detector
    height: int
    width: int
    kinds: tuple[lesions.Kind, ...]
    stream: tuple[int, ...]
    """Seeds the image's random numbers."""

    @property
    def pixel_mm(self) -> float:
        """Give the pixel spacing: a smaller image has larger pixels, a breast keeps its size."""
        return SPACING_MM * self.detector.height / self.height


def plan(patients: int, *, seed: int, long_side: int) -> Iterator[View]:
    """Yield the views of each patient: L-CC, L-MLO, R-CC, R-MLO. `long_side` 0 is the detector's true size."""
    check(patients, long_side=long_side or SMALLEST)
    for patient in range(patients):
        yield from _study(patient, seed=seed, long_side=long_side)


def check(patients: int, *, long_side: int) -> None:
    """Refuse a number of patients or a long side (pixels) that cannot be drawn."""
    if patients < 1:
        raise MammoprepError(f"{patients} patients cannot be drawn. Ask for 1 or more.")
    if long_side < SMALLEST:
        raise MammoprepError(f"A long side of {long_side} px is too small. Ask for {SMALLEST} or more.")


def _study(patient: int, *, seed: int, long_side: int) -> Iterator[View]:
    rng = np.random.default_rng((seed, patient))
    detector = DETECTORS[patient % len(DETECTORS)]
    height = long_side or detector.height
    age, density = int(rng.integers(35, 80)), _DENSITIES[rng.choice(4, p=(0.1, 0.3, 0.45, 0.15))]
    findings = _findings(_GRADES[patient % len(_GRADES)], rng=rng)
    for side, laterality in enumerate(_LATERALITIES):
        node = (lesions.NODE,) if laterality == "L" and patient % 6 == 5 else ()
        # A finding without a BI-RADS of its own sits on a breast that is at least benign.
        benign = 2 if node else int(rng.choice((1, 2), p=(0.7, 0.3)))
        # The CC view misses some: the release has `No Finding` images of BI-RADS 3 to 5 too.
        in_cc = () if rng.random() < 0.1 else findings[side]
        for index, (position, kinds) in enumerate(zip(_POSITIONS, (in_cc, findings[side] + node), strict=True)):
            yield View(
                study_id=_uid("study", seed, patient),
                # Some studies of the release come in two series.
                series_id=_uid("series", seed, patient, side if patient % 10 == 9 else 0),
                image_id=_uid("image", seed, patient, laterality, position),
                laterality=laterality,
                position=position,
                birads=max((kind.birads or 0 for kind in findings[side]), default=benign),
                density=density,
                split="test" if patient % 5 == 4 else "training",
                age=age,
                detector=detector,
                height=height,
                width=round(height * detector.width / detector.height),
                kinds=kinds,
                stream=(seed, patient, side, index),
            )


def _findings(grade: int, *, rng: np.random.Generator) -> tuple[tuple[lesions.Kind, ...], tuple[lesions.Kind, ...]]:
    """Give what the left and the right breast show: one has the grade, the other is at times affected too."""
    if grade == 0:
        return (), ()
    second = (int(rng.integers(3, 6)),) if rng.random() < 0.2 else ()
    main = tuple(_pick(each, rng) for each in (grade, *second))
    other = (_pick(int(rng.integers(3, 6)), rng),) if rng.random() < 0.5 else ()
    return (main, other) if rng.random() < 0.5 else (other, main)


def _pick(grade: int, rng: np.random.Generator) -> lesions.Kind:
    choices = lesions.BY_BIRADS[grade]
    return choices[rng.integers(len(choices))]


def _uid(*parts: str | int) -> str:
    """Give an identifier as the release's de-identification leaves it: an MD5 digest, no valid DICOM UID."""
    return md5(" ".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
