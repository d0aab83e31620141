"""How the three manufacturers of VinDr-Mammo store an image: size, photometry, windows and padding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.phantom.breast import Floats

SPACING_MM = 0.085
"""Pixel spacing at the true size."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A line of the release's metadata; `padding_limit` is the end of a padding range that starts at `padding`."""

    manufacturer: str
    model: str
    height: int
    width: int
    photometric: str
    bits: int
    centres: tuple[int, ...]
    widths: tuple[int, ...]
    explanations: tuple[str, ...]
    padding: int
    padding_limit: int | None = None
    implicit: bool = False
    """Whether the transfer syntax is Implicit VR Little Endian."""


SIEMENS = Detector(
    manufacturer="SIEMENS",
    model="Mammomat Inspiration",
    height=3518,
    width=2800,
    photometric="MONOCHROME2",
    bits=12,
    centres=(1636,),
    widths=(1500,),
    explanations=("linear LUT",),
    padding=0,
)
PLANMED = Detector(
    manufacturer="Planmed",
    model="Planmed Nuance",
    height=2812,
    width=2012,
    photometric="MONOCHROME1",
    bits=14,
    centres=(3638,),
    widths=(7276,),
    explanations=("Default W/L",),
    padding=10000,
    implicit=True,
)
GIOTTO = Detector(
    manufacturer="IMS GIOTTO",
    model="GIOTTO IMAGE 3DL",
    height=3580,
    width=2812,
    photometric="MONOCHROME2",
    bits=14,
    centres=(10482, 10647, 10482, 10317, 10482),
    widths=(10482, 10647, 8200, 12600, 10482),
    explanations=("CURRENT", "STANDARD", "CONTRAST", "SMOOTH", "CUSTOM"),
    padding=0,
    padding_limit=1294,
)
DETECTORS = (SIEMENS, PLANMED, SIEMENS, GIOTTO)
"""Studies take turns, so that a few patients show all three; SIEMENS is the most frequent, as in the release."""


def store(brightness: Floats, inside: NDArray[np.bool_], *, detector: Detector) -> NDArray[np.uint16]:
    """Give the stored values that the first window renders as `brightness` in [0, 1]; padding where not `inside`.

    The LINEAR window solved for x: y = (x - (c - 0.5)) / (w - 1) + 0.5 (DICOM PS3.3 C.11.2.1.2.1).
    """
    shown = 1 - brightness if detector.photometric == "MONOCHROME1" else brightness
    values = (np.clip(shown, 0.004, 0.996) - 0.5) * (detector.widths[0] - 1) + detector.centres[0] - 0.5
    stored = np.full(brightness.shape, detector.padding, np.uint16)
    if detector.padding_limit is not None:
        # Scatter outside the breast, falling off to the image's edge, stays within the padding range.
        ramp = np.linspace(detector.padding_limit, detector.padding, brightness.shape[0])
        stored[:] = ramp[:, None].astype(np.uint16)
    stored[inside] = np.rint(values[inside]).astype(np.uint16)
    return stored
