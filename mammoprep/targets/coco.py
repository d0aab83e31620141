"""COCO as its authors lay it out: instances and panoptic segments; all that a DATASET holds of an image."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mammoprep import panoptic
from mammoprep.errors import MissingFileError
from mammoprep.targets.source import Case, Source

WHOLE = "default"
"""The subset that tools such as CVAT expect where there is but one."""


def write(source: Source, out: Path) -> Counter[str]:
    """Write images/default/*.png and annotations/: instances_default.json, panoptic_default.json, and its folder.

    Of a fold there are train and val in place of default. `mammoprep convert coco` reads it back; patients come from
    cases.csv.
    """
    for part in source.parts:
        (out / "images" / (part or WHOLE)).mkdir(parents=True)
        (out / "annotations" / f"panoptic_{part or WHOLE}").mkdir(parents=True)

    def copy(case: Case) -> None:
        name = f"{case.image.name}.png"
        ids = source.root / "panoptic" / name
        if not ids.is_file():
            raise MissingFileError(ids, hint="Type `mammoprep check` for what is wrong with it.")
        source.copy_image(case, out / "images" / (case.part or WHOLE) / name)
        shutil.copyfile(ids, out / "annotations" / f"panoptic_{case.part or WHOLE}" / name)

    for _ in source.each(copy):
        pass
    for part in source.parts:
        cases = [case for case in source.cases if case.part == part]
        _write_lists(source, cases, out / "annotations", subset=part or WHOLE)
    shutil.copyfile(source.root / "cases.csv", out / "cases.csv")
    return Counter()


def _write_lists(source: Source, cases: Sequence[Case], folder: Path, *, subset: str) -> None:
    things = [category.to_json() for category in source.content.things]
    instances = {
        "images": [case.image.to_json() for case in cases],
        "annotations": [dict(lesion.entry) for case in cases for lesion in case.lesions],
        "categories": things,
    }
    panoptic.write_json(folder / f"instances_{subset}.json", instances)
    segments = [
        {
            "file_name": f"{case.image.name}.png",
            "image_id": case.image.id,
            "segments_info": [segment.to_json() for segment in case.image.segments],
        }
        for case in cases
    ]
    others = [category.to_json() for category in source.content.categories if not category.isthing]
    panoptic.write_json(
        folder / f"panoptic_{subset}.json",
        {"images": instances["images"], "annotations": segments, "categories": [*things, *others]},
    )
