"""Synthetic INbreast raw folders: table, DICOM files, outlines of lesions and pectoral muscles as property lists."""

import plistlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.phantom import dicom, lesions, scene, studies

_FIRST = 20_586_908
_COLUMNS = ("Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
_NAMES = {lesions.CLUSTER: "Cluster", lesions.SPICULATED: "Espiculated Region", lesions.CALCIFIED: "Spiculated region"}
_GRADES = {4: "4a", 1: "1"}


def write(root: Path, *, patients: int = 4, seed: int = 0, long_side: int = 640) -> None:
    """Write a raw folder of `patients` women with four views each, as the release lies on disk.

    Outlines are the lesions' own, on the corners of pixels. The same arguments give the same bytes.
    """
    with panoptic.staged(root) as raw:
        lines = [";".join(_COLUMNS)]
        for number, view in enumerate(studies.plan(patients, seed=seed, long_side=long_side), start=_FIRST):
            shown = scene.draw(view)
            token = "ML" if view.position == "MLO" else view.position
            name = f"{number}_{view.study_id[:16]}_MG_{view.laterality}_{token}_ANON.dcm"
            stored = np.where(shown.inside, np.clip(shown.brightness, 0.004, 1) * 2970, 0).astype("<u2")
            dicom.write_plain(raw / "AllDICOMs" / name, stored, attributes={"Modality": "OT"})
            grade = _GRADES.get(view.birads, str(view.birads)) if view.kinds else "1"
            acr = "ABCD".index(view.density) + 1
            lines.append(f"removed;removed;{view.laterality};{view.position};201001;{number};{acr};{grade}")
            regions = [
                _region(_NAMES.get(kind, "Mass"), shown.ids == place) for place, kind in enumerate(view.kinds, start=1)
            ]
            if regions:
                _write_outlines(raw / "AllXML" / f"{number}.xml", regions)
            if shown.muscle.any():
                _write_outlines(raw / "PectoralMuscle" / f"{number}.xml", [_region("Pectoral Muscle", shown.muscle)])
        (raw / "AllXML").mkdir(exist_ok=True)
        (raw / "INbreast.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def _write_outlines(path: Path, regions: Sequence[dict[str, Any]]) -> None:
    numbered = [region | {"IndexInImage": index} for index, region in enumerate(regions)]
    content = {"Images": [{"ImageIndex": 0, "NumberOfROIs": len(numbered), "ROIs": numbered}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plistlib.dumps(content))


def _region(name: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Outline the largest part of a mask along the corners of its pixels, as the release's viewer stores it.

    Each pixel is seen as 2 x 2 points, of which the outer ones are moved to its corners.
    """
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ring = max(contours, key=cv2.contourArea)[:, 0]
    points = [f"({(x + x % 2) / 2:.6f}, {(y + y % 2) / 2:.6f})" for x, y in ring.tolist()]
    area = float(mask.sum())
    return {"Area": area, "Name": name, "NumberOfPoints": len(points), "Point_px": points, "Total": area, "Type": 15}
