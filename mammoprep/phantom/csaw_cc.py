"""Synthetic CSAW-CC raw folders: table of images, DICOM files, mask images and their table."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mammoprep import panoptic
from mammoprep.phantom import dicom, scene, studies
from mammoprep.phantom.studies import View

_IMAGES = (
    *("anon_patientid", "exam_year", "anon_filename", "x_age", "x_case", "x_cancer_laterality", "x_type"),
    *("x_lymphnode_met", "rad_timing", "rad_r1", "rad_r2", "rad_recall", "rad_recall_type_right"),
    *("rad_recall_type_left", "imagelaterality", "viewposition", "libra_breastarea", "libra_densearea"),
    "libra_percentdensity",
)
_MASKS = ("left", "upper", "right", "bottom", "mask_filename")
_SIDES = {"L": "Left", "R": "Right"}


def write(root: Path, *, patients: int = 4, seed: int = 0, long_side: int = 640) -> None:
    """Write a raw folder of `patients` women with four views each. The same arguments give the same bytes.

    Of an image with lesions the first is the cancer: 255 in the mask image, its box in the table. A woman is a case
    where any of her images has one.
    """
    with panoptic.staged(root) as raw:
        images, masks = [], []
        plan = list(studies.plan(patients, seed=seed, long_side=long_side))
        cases = {view.study_id for view in plan if view.kinds}
        numbers = {study: number for number, study in enumerate(dict.fromkeys(view.study_id for view in plan), start=1)}
        for view in plan:
            patient = f"{numbers[view.study_id]:05}"
            name = f"{patient}_20990909_{view.laterality}_{view.position}_1"
            shown = scene.draw(view)
            stored = (np.clip(shown.brightness, 0, 1) * 4095).astype("<u2")
            attributes = {"Modality": "MG", "WindowCenter": 2048, "WindowWidth": 4096}
            dicom.write_plain(raw / "images" / f"{name}.dcm", stored, attributes=attributes)
            images.append(_row(view, patient, name=name, case=view.study_id in cases))
            if view.kinds:
                mask = shown.ids == 1
                x, y, width, height = panoptic.mask_box(mask)
                masks.append((x, y, x + width, y + height, f"{name}_mask.png"))
                (raw / "masks").mkdir(exist_ok=True)
                panoptic.write_png(raw / "masks" / f"{name}_mask.png", mask.astype(np.uint8) * 255)
        _write_csv(raw / "CSAW-CC_breast_cancer_screening_data.csv", _IMAGES, images)
        _write_csv(raw / "CSAW-CC_mask_annotations.csv", _MASKS, masks)


def _row(view: View, patient: str, *, name: str, case: bool) -> tuple[str | int, ...]:
    side = _SIDES[view.laterality]
    known = (patient, 2012, f"{name}.dcm", view.age, int(case), side if case else "NA", "NA")
    return (*known, *["NA"] * 4, 0, "NA", "NA", side, view.position, "NA", "NA", "NA")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
