"""What other people's readers see of an export, as JSON: run by the Python that `make witnesses` makes for them."""

import json
import os
import sys
from pathlib import Path

import numpy as np


def datumaro(folder, kind):
    """Give the class names, and by image the class number (from 1) and mask of each lesion."""
    from datumaro import AnnotationType, Dataset

    loaded = Dataset.import_from(folder, kind)
    lesions = {item.id.split("/")[-1]: [] for item in loaded}
    for item in loaded:
        masks = [each for each in item.annotations if each.type == AnnotationType.mask]
        lesions[item.id.split("/")[-1]] += [(each.label + 1, np.asarray(each.image, dtype=bool)) for each in masks]
    return {"classes": [label.name for label in loaded.categories()[AnnotationType.label].items], "lesions": lesions}


def datasets(folder, cache):
    """Give the rows of each split as they are, the panoptic map as ids."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    from datasets import load_dataset

    loaded = load_dataset("imagefolder", data_dir=folder, cache_dir=cache)
    for rows in loaded.values():
        assert all(row["image"].size == (row["width"], row["height"]) for row in rows)
    read = {split: [{**row, "image": None} for row in rows] for split, rows in loaded.items()}
    for row in (row for rows in read.values() for row in rows):
        row["panoptic"] = np.asarray(row["panoptic"]).astype(int) @ (1, 256, 65536)
    return read


def supervision(folder, _):
    """Give the class names, and by image the class number (from 1) and mask of each lesion."""
    from supervision import DetectionDataset

    lesions, classes = {}, []
    for part in ("train", "val"):
        loaded = DetectionDataset.from_yolo(
            images_directory_path=f"{folder}/images/{part}",
            annotations_directory_path=f"{folder}/labels/{part}",
            data_yaml_path=f"{folder}/data.yaml",
            force_masks=True,
        )
        classes = loaded.classes
        for path, _, found in loaded:
            masks = [] if found.mask is None else found.mask
            lesions[Path(path).stem] = list(zip((found.class_id + 1).tolist(), masks, strict=True))
    return {"classes": classes, "lesions": lesions}


if __name__ == "__main__":
    reader, *arguments = sys.argv[1:]
    seen = {"datumaro": datumaro, "datasets": datasets, "supervision": supervision}[reader](*arguments)
    json.dump(seen, sys.stdout, default=lambda array: array.tolist())
