"""Synthetic CMMD raw folders: the workbook of diseased sides, DICOM files whose headers tell side and view."""

from itertools import groupby
from pathlib import Path

import numpy as np
import openpyxl
from pydicom.dataset import Dataset

from mammoprep import panoptic
from mammoprep.phantom import dicom, scene, studies
from mammoprep.phantom.studies import View

_COLUMNS = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
_VIEWS = {"CC": ("R-10242", "cranio-caudal"), "MLO": ("R-10226", "medio-lateral oblique")}


def write(root: Path, *, patients: int = 4, seed: int = 0, long_side: int = 640) -> None:
    """Write a raw folder of `patients` women with four views each. The same arguments give the same pixels.

    A side with a lesion in either view has a row of the table, a side without has none.
    """
    with panoptic.staged(root) as raw:
        book = openpyxl.Workbook()
        rows = book.worksheets[0]
        rows.title = "Sheet1"
        rows.append(_COLUMNS)
        plan = studies.plan(patients, seed=seed, long_side=long_side)
        for number, (_, group) in enumerate(groupby(plan, key=lambda view: view.study_id), start=1):
            views, patient = list(group), f"D1-{number:04}"
            folder = raw / "CMMD" / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
            for place, view in enumerate(views, start=1):
                stored = (np.clip(scene.draw(view).brightness, 0, 1) * 255).astype(np.uint8)
                dicom.write_plain(folder / f"1-{place}.dcm", stored, attributes=_attributes(view))
            for side in ("L", "R"):
                grades = [kind.birads or 0 for view in views if view.laterality == side for kind in view.kinds]
                if grades:
                    said = "Malignant" if max(grades) > 3 else "Benign"
                    rows.append((patient, side, views[0].age, 2, "mass", said, None))
        book.save(raw / "CMMD_clinicaldata_revision.xlsx")


def _attributes(view: View) -> dict[str, object]:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = _VIEWS[view.position]
    columns = {"CC": "", "MLO": "F"}[view.position] + {"L": "R", "R": "L"}[view.laterality]
    return {
        "Modality": "MG",
        "PresentationIntentType": "FOR PRESENTATION",
        "Manufacturer": "",
        "ImageLaterality": view.laterality,
        "PatientOrientation": ["A" if view.laterality == "L" else "P", columns],
        "ViewCodeSequence": [code],
        "WindowCenter": 128,
        "WindowWidth": 256,
        "VOILUTFunction": "SIGMOID",
    }
