"""One phantom view as light, before a detector: breast, lesions and muscle as the reader of the image sees them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mammoprep.phantom import breast, lesions
from mammoprep.phantom.breast import Floats
from mammoprep.phantom.studies import View


@dataclass(frozen=True, slots=True)
class Scene:
    """A view (H, W): brightness in [0, 1], numbers of the lesions, whether breast, whether pectoral muscle."""

    brightness: Floats
    ids: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    muscle: NDArray[np.bool_]


def draw(view: View, *, rng: np.random.Generator | None = None) -> Scene:
    """Draw a view by `rng`, or by its own seed. The chest wall of a right breast is on the right."""
    rng = np.random.default_rng(view.stream) if rng is None else rng
    healthy = breast.draw((view.height, view.width), position=view.position, density=view.density, rng=rng)
    brightness, ids = lesions.add(healthy, view.kinds, pixel_mm=view.pixel_mm, rng=rng)
    scene = Scene(brightness, ids, healthy.skin < 1, (healthy.muscle > 0.5) & (healthy.skin < 1))
    return _turned(scene) if view.laterality == "R" else scene


def squared(view: View, side: int) -> View:
    """Give the view on a film of `side` x `side` pixels."""
    return replace(view, height=side, width=side)


def _turned(scene: Scene) -> Scene:
    return Scene(
        brightness=np.ascontiguousarray(scene.brightness[:, ::-1]),
        ids=np.ascontiguousarray(scene.ids[:, ::-1]),
        inside=np.ascontiguousarray(scene.inside[:, ::-1]),
        muscle=np.ascontiguousarray(scene.muscle[:, ::-1]),
    )
