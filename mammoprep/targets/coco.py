"""COCO as its authors lay it out: instances and panoptic segments; all that a DATASET holds of an image."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mammoprep import panoptic
from mammoprep.errors import MissingFileError
from mammoprep.targets.source import Case, Source


def write(source: Source, out: Path) -> Counter[str]:
    """Write annotations/instances.json, panoptic.json and panoptic/*.png, images/*.png, and cases.csv.

    Of a fold there is one of each for train and for val: train/*.png, annotations/instances_train.json …
    `mammoprep convert coco` reads it back.
    """
    (out / "annotations").mkdir()
    for part in source.parts:
        (out / (part or "images")).mkdir()
        (out / "annotations" / _named("panoptic", part)).mkdir()

    def copy(case: Case) -> None:
        name = f"{case.image.name}.png"
        ids = source.root / "panoptic" / name
        if not ids.is_file():
            raise MissingFileError(ids, hint="Type `mammoprep check` for what is wrong with it.")
        source.copy_image(case, out / (case.part or "images") / name)
        shutil.copyfile(ids, out / "annotations" / _named("panoptic", case.part) / name)

    for _ in source.each(copy):
        pass
    for part in source.parts:
        _write_lists(source, [case for case in source.cases if case.part == part], out / "annotations", part=part)
    shutil.copyfile(source.root / "cases.csv", out / "cases.csv")
    return Counter()


def _named(kind: str, part: str) -> str:
    return f"{kind}_{part}" if part else kind


def _write_lists(source: Source, cases: Sequence[Case], folder: Path, *, part: str) -> None:
    things = [category.to_json() for category in source.content.things]
    instances = {
        "images": [case.image.to_json() for case in cases],
        "annotations": [dict(lesion.entry) for case in cases for lesion in case.lesions],
        "categories": things,
    }
    panoptic.write_json(folder / f"{_named('instances', part)}.json", instances)
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
        folder / f"{_named('panoptic', part)}.json",
        {"images": instances["images"], "annotations": segments, "categories": [*things, *others]},
    )
