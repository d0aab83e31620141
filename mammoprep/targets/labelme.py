"""LabelMe: a JSON file beside each image, lesions as polygons."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.targets import lost
from mammoprep.targets.rings import rings_of
from mammoprep.targets.source import Case, Source

VERSION = "5.5.0"
"""LabelMe's, whose layout this is."""


def write(source: Source, out: Path) -> Counter[str]:
    """Write images/*.png with a *.json each, and cases.csv.

    Parts of one lesion are polygons of one group, as LabelMe's own converters take them; holes are tied to their
    outline by bridges that have no width. `mammoprep convert folder` reads it back; patients and lesion-free images
    come from cases.csv.
    """
    (out / "images").mkdir()

    def write_one(case: Case) -> Counter[str]:
        path = out / "images" / f"{case.image.name}.png"
        deep = source.write_8_bit(case, path)
        panoptic.write_json(path.with_name(f"{case.image.name}.json"), _content(case))
        holes = lost.polygons(case, one_each=False)
        return lost.bits(deep) + lost.stuff(source, case) + lost.attributes(case) + holes

    counts = sum(source.each(write_one), Counter[str]())
    shutil.copyfile(source.root / "cases.csv", out / "cases.csv")
    return counts


def _content(case: Case) -> dict[str, Any]:
    return {
        "version": VERSION,
        "flags": {},
        "shapes": list(_shapes(case)),
        "imagePath": f"{case.image.name}.png",
        "imageData": None,
        "imageHeight": case.image.height,
        "imageWidth": case.image.width,
    }


def _shapes(case: Case) -> Iterator[dict[str, Any]]:
    for number, lesion in enumerate(case.lesions, start=1):
        rings = rings_of(lesion.mask)
        for ring in rings:
            yield {
                "label": lesion.category.name,
                "points": ring.tolist(),
                "group_id": number if len(rings) > 1 else None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
            }
