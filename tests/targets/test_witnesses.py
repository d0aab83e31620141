"""Other people's readers load what is exported; `pip install datumaro datasets supervision` brings them."""

import json
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic, targets

pytestmark = pytest.mark.filterwarnings("ignore")
CLASSES = ["BI-RADS 3", "müll & <b>"]


@pytest.fixture
def export(dataset: Path, tmp_path: Path):
    def write(to: str, **options: int) -> Path:
        targets.export(dataset, tmp_path / to, options=targets.Options(to, **options))
        return tmp_path / to

    return write


def found(loaded, kind) -> dict[str, list]:
    """Give class number and mask of each lesion that datumaro sees, by image."""
    masks = {item.id.split("/")[-1]: [] for item in loaded}
    for item in loaded:
        shapes = [each for each in item.annotations if each.type == kind]
        masks[item.id.split("/")[-1]] += [(each.label + 1, np.asarray(each.image, dtype=bool)) for each in shapes]
    return masks


@pytest.mark.parametrize(("to", "kind"), [("coco", "coco_instances"), ("cvat", "cvat")])
def test_datumaro_sees_every_pixel(export, lesions, to, kind):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    loaded = datumaro.Dataset.import_from(str(export(to)), kind)
    seen = found(loaded, datumaro.AnnotationType.mask)
    assert [label.name for label in loaded.categories()[datumaro.AnnotationType.label].items] == CLASSES
    assert seen.keys() == lesions.keys()
    assert {name: in_order(shapes) for name, shapes in seen.items()} == {
        name: in_order(shapes) for name, shapes in lesions.items()
    }


def in_order(shapes):
    return sorted((label, mask.tobytes()) for label, mask in shapes)


def test_hugging_face_datasets_sees_every_pixel(export, lesions, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    folder = export("hf", fold=0)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 2, "validation": 2}
    for row in (row for rows in loaded.values() for row in rows):
        codes = [{"size": [row["height"], row["width"]], "counts": each["counts"]} for each in row["lesions"]]
        drawn = [panoptic.decode_rle(code) for code in codes]
        assert all((one == mask).all() for one, (_, mask) in zip(drawn, lesions[row["image_id"]], strict=True))
        ids = np.asarray(row["panoptic"]).astype(int) @ (1, 256, 65536)
        assert [int((ids == each["id"]).sum()) for each in row["segments"]] == [
            each["area"] for each in row["segments"]
        ]
        assert all(json.loads(each["attributes"]) == {"birads": "3"} for each in row["lesions"])


def test_supervision_reads_yolo_to_its_rounding(export, lesions):
    """It cuts corners down to whole pixels, so that a lesion may be a pixel larger at its far sides."""
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    folder = export("yolo", fold=0)
    seen = {}
    for part in ("train", "val"):
        loaded = supervision.DetectionDataset.from_yolo(
            images_directory_path=str(folder / "images" / part),
            annotations_directory_path=str(folder / "labels" / part),
            data_yaml_path=str(folder / "data.yaml"),
            force_masks=True,
        )
        assert loaded.classes == CLASSES
        seen |= {Path(path).stem: detections for path, _, detections in loaded}
    assert {name: (each.class_id + 1).tolist() for name, each in seen.items()} == {
        name: [label for label, _ in expected] for name, expected in lesions.items()
    }
    square, drawn = lesions["größe"][0][1], seen["größe"].mask[0]
    assert drawn[square].all()
    assert drawn.sum() <= 9 * 9
