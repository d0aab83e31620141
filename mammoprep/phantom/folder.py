"""Synthetic folders of one's own: DICOM files in folders of patients, lesions marked in any layout that is read."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import generate_uid

from mammoprep import panoptic
from mammoprep.errors import UnknownNameError
from mammoprep.panoptic import Mask
from mammoprep.phantom import dicom, scene, studies


@dataclass(frozen=True, slots=True)
class _Marked:
    """An image and its lesions (H, W), each with its class."""

    path: str
    shape: tuple[int, int]
    lesions: tuple[tuple[str, Mask], ...]


def write(root: Path, *, layout: str, patients: int = 2, seed: int = 0, long_side: int = 256) -> None:
    """Write a raw folder of `patients` with four views each. The same arguments give the same bytes.

    Every image is named in the layout, also one without lesions, but for `masks` and `dicom-seg`, which cannot.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError(layout, kind="layout", known=LAYOUTS)
    with panoptic.staged(root) as raw:
        images = []
        for view in studies.plan(patients, seed=seed, long_side=long_side):
            shown = scene.draw(view)
            path = f"{view.study_id[:6]}/{view.laterality}{view.position}-{view.image_id[:6]}.dcm"
            stored = (np.clip(shown.brightness, 0, 1) * 4095).astype("<u2")
            attributes = {"Modality": "MG", "PatientID": view.study_id, "WindowCenter": 2048, "WindowWidth": 4096}
            dicom.write_plain(raw / path, stored, attributes=attributes)
            classes = [f"BI-RADS {kind.birads or 2}" for kind in view.kinds]
            drawn = [(name, shown.ids == n) for n, name in enumerate(classes, 1) if (shown.ids == n).any()]
            images.append(_Marked(path, stored.shape, tuple(drawn)))
        LAYOUTS[layout](raw, images)


def _table(root: Path, images: Sequence[_Marked]) -> None:
    rows: list[tuple[Any, ...]] = [("image", "label", "x", "y", "width", "height")]
    for image in images:
        rows += [(image.path, name, *panoptic.mask_box(mask)) for name, mask in image.lesions]
        rows += [(image.path, "normal", "", "", "", "")] * (not image.lesions)
    with (root / "lesions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _masks(root: Path, images: Sequence[_Marked]) -> None:
    for image in images:
        for number, (name, mask) in enumerate(image.lesions, start=1):
            # The class ends in a digit, so that it stands in the folder's name, not in the file's.
            path = root / Path(image.path).parent / "masks" / name / f"{Path(image.path).stem}_mask_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            panoptic.write_png(path, mask.astype(np.uint8) * 255)


def _label_maps(root: Path, images: Sequence[_Marked]) -> None:
    """Write a map an image, whose values are the BI-RADS of its lesions."""
    for image in images:
        values = np.zeros(image.shape, dtype=np.uint8)
        for name, mask in image.lesions:
            values[mask] = int(name[-1])
        path = root / "masks" / Path(image.path).with_suffix(".png").name
        path.parent.mkdir(exist_ok=True)
        panoptic.write_png(path, values)


def _seg(root: Path, images: Sequence[_Marked]) -> None:
    for image in images:
        if image.lesions:
            source = generate_uid(entropy_srcs=[Path(image.path).name])  # as write_plain makes it
            masks = np.stack([mask for _, mask in image.lesions]).astype(np.uint8)
            attributes = {
                "Modality": "SEG",
                "SegmentationType": "BINARY",
                "NumberOfFrames": len(masks),
                "SegmentSequence": [
                    _item(SegmentNumber=n, SegmentLabel=name) for n, (name, _) in enumerate(image.lesions, 1)
                ],
                "PerFrameFunctionalGroupsSequence": [
                    _item(
                        SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=n)],
                        DerivationImageSequence=[_item(SourceImageSequence=[_item(ReferencedSOPInstanceUID=source)])],
                    )
                    for n in range(1, len(masks) + 1)
                ],
                "BitsAllocated": 1,
                "BitsStored": 1,
                "HighBit": 0,
            }
            path = (root / image.path).with_suffix(".seg.dcm")
            dicom.write_plain(path, masks[0], attributes=attributes, data=pack_bits(masks.ravel()))


def _item(**values: Any) -> Dataset:
    content = Dataset()
    for keyword, value in values.items():
        setattr(content, keyword, value)
    return content


def _ring(mask: Mask) -> NDArray[np.float64]:
    """Give the longest outline (N, 2) of a mask, an eighth of a pixel inside its border's pixels."""
    finer = cv2.resize(mask.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(finer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray((max(contours, key=len)[:, 0] + 0.5) / 4, dtype=np.float64)


def _labelme(root: Path, images: Sequence[_Marked]) -> None:
    for image in images:
        shapes = [
            {"label": name, "points": _ring(mask).tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
            for name, mask in image.lesions
        ]
        size = {"imageHeight": image.shape[0], "imageWidth": image.shape[1]}
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": Path(image.path).name, **size}
        (root / image.path).with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


def _cvat(root: Path, images: Sequence[_Marked]) -> None:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations><version>1.1</version>"]
    for number, image in enumerate(images):
        size = f'width="{image.shape[1]}" height="{image.shape[0]}"'
        lines.append(f'<image id="{number}" name={quoteattr(image.path)} {size}>')
        for name, mask in image.lesions:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in _ring(mask))
            lines.append(f'<polygon label={quoteattr(name)} occluded="0" points="{points}" z_order="0"></polygon>')
        lines.append("</image>")
    (root / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]), encoding="utf-8")


def _via(root: Path, images: Sequence[_Marked]) -> None:
    content = {}
    for image in images:
        regions = []
        for name, mask in image.lesions:
            x, y = _ring(mask).T.tolist()
            shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
            regions.append({"shape_attributes": shape, "region_attributes": {"label": name}})
        file = Path(image.path).name
        content[f"{file}-1"] = {"filename": file, "size": -1, "regions": regions, "file_attributes": {}}
    (root / "via.json").write_text(json.dumps(content), encoding="utf-8")


def _coco(root: Path, images: Sequence[_Marked]) -> None:
    names = sorted({name for image in images for name, _ in image.lesions})
    listed = [
        {"id": n, "file_name": image.path, "height": image.shape[0], "width": image.shape[1]}
        for n, image in enumerate(images, start=1)
    ]
    found = [(n, name, mask) for n, image in enumerate(images, start=1) for name, mask in image.lesions]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": names.index(name) + 1,
            "segmentation": panoptic.encode_rle(mask),
            "bbox": list(panoptic.mask_box(mask)),
            "area": int(mask.sum()),
            "iscrowd": 0,
        }
        for number, (image, name, mask) in enumerate(found, start=1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content), encoding="utf-8")


LAYOUTS: dict[str, Callable[[Path, Sequence[_Marked]], None]] = {
    "table": _table,
    "masks": _masks,
    "label-maps": _label_maps,
    "dicom-seg": _seg,
    "labelme": _labelme,
    "cvat": _cvat,
    "via": _via,
    "coco": _coco,
}
"""The ways of marking lesions that can be drawn."""
