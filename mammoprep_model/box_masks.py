"""Masks of boxes by Segment Anything: the recipe `sam` of `mammoprep convert`."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import tensors, weights
from mammoprep_model.promptable import sam
from mammoprep_model.promptable.config import SamConfig

PART = "sam-vit-l"
MAKER = "mammoprep_model.box_masks:outliner"
"""What makes an outliner, as whoever cannot import this package names it."""
_COPIES = 3
"""Times the size of its weights that a SAM takes on a CPU: ViT-L 3.8 GiB in all, with what is imported."""

Window = tuple[int, int, int, int]
"""Pixels (x0, y0, x1, y1), half-open."""
Outliner = Callable[[NDArray[np.uint16], Window], NDArray[np.bool_]]


@dataclass(frozen=True)
class Facts:
    """A SAM at hand: its files as `sha256sum` lists them, what runs it and where, the bytes that it takes."""

    place: Path
    weights: tuple[str, ...]
    libraries: str
    device: str
    memory: int


def at_hand(places: Mapping[str, str]) -> Facts:
    """Find the SAM that `places` names, or that the hub's cache holds; nothing is downloaded."""
    if PART not in places and weights.cached(PART) is None:
        raise MammoprepError(f"--recipe sam needs Segment Anything, which is not at hand. {weights.needs(PART)}")
    place = weights.locate(PART, places).resolve()
    files = weights.files_of(PART, place)
    return Facts(
        place=place,
        weights=tuple(f"{panoptic.file_hash(file)}  {file.name}" for file in files),
        libraries=_libraries(),
        device="cuda" if torch.cuda.is_available() else "cpu",
        memory=_COPIES * sum(file.stat().st_size for file in files),
    )


def _libraries() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))


def outliner(place: str, *, device: str, libraries: str) -> Outliner:
    """Load a SAM of any sizes; give what outlines in an image (H, W) of 16 bits what a window shows, as (h, w).

    One thread computes on a CPU, so that the number of processes changes no byte. Raises MammoprepError where this
    process, which may be a cluster's, has no GPU or other `libraries` than the run began with.
    """
    if libraries != (here := _libraries()):
        raise MammoprepError(f"--recipe sam began with {libraries}; a worker has {here}. Install the same on both.")
    if device == "cuda" and not torch.cuda.is_available():
        raise MammoprepError("--recipe sam began on a GPU, and torch sees none here. Go on where there is one.")
    if device == "cpu":
        torch.set_num_threads(1)
    with tensors.reading(PART, Path(place)):
        config = replace(SamConfig(backbone_frozen=True), **sam.sizes_of(Path(place)))
    try:
        network = sam.make(config, {PART: place}).eval().to(device)
        if device == "cuda":  # what lacks is better known before the first image
            _look(network, torch.zeros(1, 3, config.size, config.size, device=device))
    except torch.OutOfMemoryError as error:
        raise MammoprepError("The GPU has no room for so many copies of SAM. Say --resume --workers 1.") from error
    return _Outliner(network, device=device)


@torch.inference_mode()
def _look(network: sam.Sam, images: Tensor) -> Tensor:
    """Encode one image: (1, 3, S, S) to (D, S/16, S/16)."""
    return network.encode(images)[0]


class _Outliner:
    """A SAM that looks at an image once, however many windows of it are asked for one after another."""

    def __init__(self, network: sam.Sam, *, device: str) -> None:
        self._network, self._device = network, device
        self._seen: Callable[[], Any] = lambda: None
        self._embedding = torch.empty(0)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint16], window: Window) -> NDArray[np.bool_]:
        """Give the mask that says it is the best of the three, in the window alone; it may be empty."""
        if self._seen() is not pixels:
            self._embedding = _look(self._network, self._image(pixels))
            self._seen = weakref.ref(pixels)
        height, width = pixels.shape
        box = torch.tensor([window], dtype=torch.float32) / torch.tensor([width, height, width, height])
        masks, qualities = self._network.outline_boxes(self._embedding, box.to(self._device))
        best = masks[0, int(qualities[0].argmax())].float().cpu().numpy()
        return sampled(best, window, size=(height, width)) > 0

    def _image(self, pixels: NDArray[np.uint16]) -> Tensor:
        """Stretch an image to the square that SAM sees (1, 3, S, S), in [0, 1]."""
        side = self._network.size
        height, width = (min(each, side) for each in pixels.shape)
        smaller = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 65535
        square: NDArray[Any] = cv2.resize(smaller, (side, side), interpolation=cv2.INTER_LINEAR)
        grey = torch.from_numpy(square).to(self._device)
        return grey.expand(1, 3, side, side)


def sampled(logits: NDArray[np.float32], window: Window, *, size: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate logits (s, s) of an image of `size` (H, W) at each pixel's centre of a window: (h, w)."""
    (height, width), (x0, y0, x1, y1) = size, window
    across, down = logits.shape[1] / width, logits.shape[0] / height
    centres = np.array([[across, 0, (x0 + 0.5) * across - 0.5], [0, down, (y0 + 0.5) * down - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found: Any = cv2.warpAffine(logits, centres, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32)
