"""Hugging Face `datasets`: an image folder, whose metadata.jsonl has a line an image."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.targets.source import Case, Lesion, Source

_SPLITS = {"": "train", "train": "train", "val": "validation"}


def write(source: Source, out: Path) -> Counter[str]:
    """Write train/*.png, train/panoptic/*.png and train/metadata.jsonl; of a fold the same in validation/.

    `datasets.load_dataset("imagefolder", data_dir=OUT)` gives columns image and panoptic, those of cases.csv, and lists
    of lesions (class, box, area, run-length code) and segments. Facts that differ from lesion to lesion are JSON text.
    """
    for part in source.parts:
        (out / _SPLITS[part] / "panoptic").mkdir(parents=True)

    def write_one(case: Case) -> str:
        name, folder = f"{case.image.name}.png", out / _SPLITS[case.part]
        source.copy_image(case, folder / name)
        panoptic.write_ids(folder / "panoptic" / name, source.content.ids_of(case.image))
        return json.dumps(_row(case, source), ensure_ascii=False, allow_nan=False)

    lines: dict[str, list[str]] = {part: [] for part in source.parts}
    for case, line in zip(source.cases, source.each(write_one), strict=True):
        lines[case.part].append(line + "\n")
    for part, found in lines.items():
        panoptic.write_bytes(out / _SPLITS[part] / "metadata.jsonl", "".join(found).encode())
    return Counter()


def check(source: Source) -> None:
    """Refuse a split without a lesion beside one with: `datasets` takes the columns of both for different ones."""
    counts = {part: sum(len(case.lesions) for case in source.cases if case.part == part) for part in source.parts}
    empty = [part for part, count in counts.items() if not count]
    if empty and any(counts.values()):
        raise MammoprepError(f"{empty[0]} has no lesion, and `datasets` cannot load that. Name another --fold.")


def _row(case: Case, source: Source) -> dict[str, Any]:
    names = {category.id: category for category in source.content.categories}
    name = f"{case.image.name}.png"
    return {
        "file_name": name,
        "panoptic_file_name": f"panoptic/{name}",
        **{key: value for key, value in case.row.items() if key and value is not None},
        "number": case.image.id,
        "height": case.image.height,
        "width": case.image.width,
        "lesions": list(map(_lesion, case.lesions)),
        "segments": [
            {
                "id": segment.id,
                "category": names[segment.category_id].name,
                "isthing": names[segment.category_id].isthing,
                "area": segment.area,
                "bbox": list(segment.bbox),
                "facts": json.dumps(dict(segment.extra), ensure_ascii=False),
            }
            for segment in case.image.segments
        ],
    }


def _lesion(lesion: Lesion) -> dict[str, Any]:
    mask = lesion.mask
    return {
        "category": lesion.category.name,
        "bbox": list(panoptic.mask_box(mask)),
        "area": int(mask.sum()),
        "counts": lesion.entry["segmentation"]["counts"],
        "attributes": json.dumps(lesion.entry.get("attributes", {}), ensure_ascii=False),
    }
