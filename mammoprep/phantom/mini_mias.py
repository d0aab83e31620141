"""Synthetic mini-MIAS raw folders: films as PGM, and the table with a circle about each lesion."""

from pathlib import Path

import cv2
import numpy as np

from mammoprep import panoptic
from mammoprep.phantom import lesions, scene, studies

SIDE = 1024
_TISSUES = {"A": "F", "B": "G", "C": "G", "D": "D"}
_CLASSES = {lesions.ROUND: "CIRC", lesions.CLUSTER: "CALC", lesions.SPICULATED: "SPIC", lesions.CALCIFIED: "SPIC"}


def write(root: Path, *, patients: int = 4, seed: int = 0) -> None:
    """Write a raw folder of two films, right and left, of each of `patients` women.

    A lesion has a row with the smallest circle about it, whose Y counts from the lower edge; a film without one is
    NORM. The same arguments give the same bytes.
    """
    with panoptic.staged(root) as raw:
        lines = []
        views = [view for view in studies.plan(patients, seed=seed, long_side=SIDE) if view.position == "MLO"]
        for number, view in enumerate(
            sorted(views, key=lambda each: (each.stream[1], each.laterality == "L")), start=1
        ):
            shown = scene.draw(scene.squared(view, SIDE))
            name = f"mdb{number:03}"
            stored = (np.clip(shown.brightness, 0, 1) * 255).astype(np.uint8)
            (raw / f"{name}.pgm").write_bytes(b"P5\n%d %d\n255\n" % (SIDE, SIDE) + stored.tobytes())
            start = f"{name} {_TISSUES[view.density]}"
            for place, kind in enumerate(view.kinds, start=1):
                (x, y), radius = cv2.minEnclosingCircle(np.argwhere(shown.ids == place)[:, ::-1].astype(np.float32))
                severity = "M" if (kind.birads or 0) > 3 else "B"
                lines.append(
                    f"{start} {_CLASSES.get(kind, 'MISC')} {severity} {round(x)} {round(SIDE - y)} {round(radius)}"
                )
            if not view.kinds:
                lines.append(f"{start} NORM ")
        (raw / "Info.txt").write_text("REFNUM BG CLASS SEVERITY X Y RADIUS\n\n" + "\n".join(lines) + "\n")
