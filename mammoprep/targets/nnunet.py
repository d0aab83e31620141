"""nnU-Net: a data set of its raw layout, a label map an image."""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.targets import lost
from mammoprep.targets.source import Case, Source

SPLITS = "splits_final.json"
_MOST_LABELS = 255


def write(source: Source, out: Path) -> Counter[str]:
    """Write imagesTr/*_0000.png, labelsTr/*.png, dataset.json and, of all folds of folds.json, splits_final.json.

    Labels are the DATASET's class ids without gaps, with background as 0: the stuff class of that name, and void.
    """
    labels = _labels(source)
    for folder in ("imagesTr", "labelsTr"):
        (out / folder).mkdir()
    lookup = np.zeros(max(category.id for category in source.content.categories) + 1, dtype=np.uint8)
    for category in source.content.categories:
        lookup[category.id] = labels.get(category.name, 0)

    def write_one(case: Case) -> Counter[str]:
        source.copy_image(case, out / "imagesTr" / f"{case.image.name}_0000.png")
        ids = source.content.ids_of(case.image)
        classes = np.zeros(int(ids.max(initial=0)) + 1, dtype=np.uint8)
        for segment in case.image.segments:
            if segment.id < classes.size:
                classes[segment.id] = lookup[segment.category_id]
        panoptic.write_classes(out / "labelsTr" / f"{case.image.name}.png", classes[ids])
        return _lost(case) + lost.attributes(case)

    counts = sum(source.each(write_one), Counter[str]())
    panoptic.write_json(
        out / "dataset.json",
        {
            "channel_names": {"0": "mammogram"},
            "labels": {"background": 0, **labels},
            "numTraining": len(source.cases),
            "file_ending": ".png",
            "overwrite_image_reader_writer": "NaturalImage2DIO",
        },
    )
    if (source.root / "folds.json").is_file():
        _write_splits(source, out / SPLITS)
    return counts


def check_name(out: Path) -> None:
    """Refuse a folder that nnU-Net would not find."""
    if not re.fullmatch(r"Dataset\d{3}_[\w.-]+", out.resolve().name):
        raise MammoprepError(f"nnU-Net finds data sets by their folder's name. Call {out.name} like Dataset001_NAME.")


def _labels(source: Source) -> dict[str, int]:
    names = [category.name for category in source.content.categories if category.name != "background"]
    if len(names) > _MOST_LABELS:
        raise MammoprepError(f"A label map of 8 bits holds {_MOST_LABELS} classes; {source.root} has {len(names)}.")
    return {name: place for place, name in enumerate(names, start=1)}


def _lost(case: Case) -> Counter[str]:
    """Count what a label map, which has classes and no instances, cannot tell."""
    covered = sum("covered" in segment.extra for segment in case.image.segments)
    counts = Counter({"lesions become pixels of their class, no longer told apart": len(case.lesions)})
    counts["lesions lie in part under a smaller one"] = covered
    return +counts


def _write_splits(source: Source, path: Path) -> None:
    names = {case.image.id: case.image.name for case in source.cases}

    def named(numbers: tuple[int, ...]) -> list[str]:
        return [names[number] for number in numbers if number in names]

    folds = panoptic.load_folds(source.root)
    panoptic.write_json(path, [{"train": named(train), "val": named(val)} for train, val in folds])
