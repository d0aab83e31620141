"""A mask in an image file, chosen by its content and brought to the image's size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import pixels
from mammoprep.pixels import PixelError
from mammoprep.records import MaskFile

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""
MOST_RESIDUAL = 0.01
"""Image and mask show one film, digitised at pitches whose ratio is the same along both sides unless the film was
trimmed in between. A residual r moves a pixel by up to r of the film's side: at 0.01 by 2 mm of 200, a sixth of a
12 mm mass. Above, the file is likely to be a crop, a rotated mask or another film's."""
MOST_CLASSES = 32
"""Several values that are none above it are numbers of classes; the grey edges of a mask lie below a brighter value."""
MOST_GREY = 0.02
"""How far values may lie from both 0 and the largest, on average and as a share of it, in a file that is a mask. Of 528
lesions of real CDD-CESM images, masks kept as JPEG (quality 50, 90) reach 0.003, crops are at 0.129 or more."""


EMPTY = "its mask is empty, and nothing says lesion-free; --empty lesion-free says it"
"""Why an image is left out whose masks may be empty, and are."""


class EmptyMaskError(PixelError):
    """A mask of no pixel."""


def read(mask: MaskFile, *, root: Path, size: tuple[int, ...]) -> tuple[Mask, dict[str, Any]]:
    """Give the mask (H, W) at the image's `size`, and where it comes from.

    The facts are `source`, the factors `scale_x` and `scale_y` (image / mask file), and `residual`, their difference as
    a share of the larger one. Raises PixelError where no file can be used.
    """
    reasons = []
    for source, shown in zip(mask.sources, mask.shown or mask.sources, strict=True):
        try:
            values = pixels.read_values(pixels.locate(root, source))
            facts = fit(values.shape, size)
            if not mask.values:
                _check_binary(values)
        except PixelError as error:
            reasons.append(str(error))
        else:
            return resize(_inside(values, mask.values), size), {"source": shown, **facts}
    raise PixelError(_why(reasons))


def check_there(mask: MaskFile, *, root: Path) -> None:
    """Raise PixelError where none of a mask's files is there, which is all that can be told without pixels."""
    reasons = []
    for source in mask.sources:
        try:
            pixels.locate(root, source)
        except PixelError as error:
            reasons.append(str(error))
        else:
            return
    raise PixelError(_why(reasons))


def fit(found: tuple[int, ...], size: tuple[int, ...]) -> dict[str, float]:
    """Give the factors from a mask's size to the image's; refuse those that no common film can have."""
    scale_y, scale_x = size[0] / found[0], size[1] / found[1]
    residual = abs(scale_x - scale_y) / max(scale_x, scale_y)
    if residual > MOST_RESIDUAL:
        raise PixelError(
            f"its {found[0]}x{found[1]} pixels do not have the shape of the image's {size[0]}x{size[1]} "
            f"(residual {residual:.3f}, at most {MOST_RESIDUAL})"
        )
    return {"scale_x": round(scale_x, 6), "scale_y": round(scale_y, 6), "residual": round(residual, 6)}


def _check_binary(values: NDArray[Any]) -> None:
    """Refuse what is no mask: a map of several small values, and an image."""
    if values.max() <= MOST_CLASSES and len(found := np.unique(values[values > 0])) > 1:
        listed = ", ".join(map(str, found))
        raise PixelError(f"a label map of the values {listed}; `convert folder --values` gives them classes")
    if _greyness(values) > MOST_GREY:
        raise PixelError("an image, not a mask")


def _greyness(values: NDArray[Any]) -> float:
    """Give how far values lie from 0 and the largest: 0 where there are no others, 0.25 where all are as frequent."""
    largest = int(values.max()) or 1
    return float(np.minimum(values, largest - values).mean()) / largest


def _inside(values: NDArray[Any], chosen: Sequence[int]) -> Mask:
    mask: Mask = np.isin(values, chosen) if chosen else values > int(values.max()) / 2
    if not mask.any():
        raise EmptyMaskError("the mask is empty")
    return mask


def resize(mask: Mask, size: tuple[int, ...]) -> Mask:
    """Bring a mask that is not empty to a size (H, W); it does not become empty."""
    if mask.shape == size:
        return mask
    resized = cv2.resize(mask.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.bool_)
    if not resized.any():  # smaller than a pixel of the image
        row, column = np.argwhere(mask)[0] * size // mask.shape
        resized[row, column] = True
    return resized


def _why(reasons: Sequence[str]) -> str:
    """Give the reason of the only file, or the different ones of several."""
    different = "; ".join(dict.fromkeys(reasons))
    prefix = "mask file" if len(reasons) == 1 else f"none of {len(reasons)} files is the mask"
    return f"{prefix}: {different}"
