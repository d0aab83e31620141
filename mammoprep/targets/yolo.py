"""YOLO segmentation: a text file an image, a line a lesion, a polygon of fractions of width and height."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from mammoprep.targets import lost
from mammoprep.targets.rings import join, rings_of
from mammoprep.targets.source import PARTS, Case, Lesion, Source


def write(source: Source, out: Path) -> Counter[str]:
    """Write data.yaml, images/train/*.png, labels/train/*.txt and the same for val. Classes count from 0.

    A line is one polygon: holes and parts of a lesion are tied by bridges that have no width, so that a lesion stays
    one and a reader that fills by the even-odd rule gets its very pixels. An image without lesions has an empty file.
    """
    numbers = {category.id: place for place, category in enumerate(source.content.things)}
    for part in PARTS:
        for kind in ("images", "labels"):
            (out / kind / part).mkdir(parents=True)

    def write_one(case: Case) -> Counter[str]:
        deep = source.write_8_bit(case, out / "images" / case.part / f"{case.image.name}.png")
        lines = [f"{numbers[lesion.category.id]} {_line(case, lesion)}\n" for lesion in case.lesions]
        path = out / "labels" / case.part / f"{case.image.name}.txt"
        path.write_text("".join(lines), encoding="ascii", newline="\n")
        return lost.bits(deep) + lost.stuff(source, case) + lost.attributes(case) + lost.polygons(case, one_each=True)

    counts = sum(source.each(write_one), Counter[str]())
    names = [f"  {place}: {json.dumps(category.name)}\n" for place, category in enumerate(source.content.things)]
    text = "".join(["train: images/train\n", "val: images/val\n", "names:\n", *names])  # JSON's strings are YAML's
    (out / "data.yaml").write_text(text, encoding="utf-8", newline="\n")
    return counts


def _line(case: Case, lesion: Lesion) -> str:
    ring = join(rings_of(lesion.mask)) / (case.image.width, case.image.height)
    return " ".join(f"{number:.6f}" for number in np.clip(ring, 0, 1).ravel())
