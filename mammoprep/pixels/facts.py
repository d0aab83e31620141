"""The facts of a DICOM header that go on into outputs: numbers, and words of the lists here and in attributes.py.

Whatever else a header says, in any element, stays in the raw folder. A word that is in no list does not go on either: a
view is then empty, a manufacturer `other`.
"""

import math
import re
from dataclasses import dataclass

from pydicom import Dataset

from mammoprep.pixels.attributes import attributes_of
from mammoprep.pixels.elements import decimals_of, items_of, text_of, texts_of

_CODED = {  # DICOM CID 4014, codes of SNOMED CT and of the older SNOMED RT
    "CC": ("399162004", "R-10242"),
    "MLO": ("399368009", "R-10226"),
    "ML": ("399260004", "R-10224"),
    "LM": ("399352003", "R-10228"),
    "LMO": ("399099002", "R-10230"),
    "XCCL": ("399192008", "R-1024A"),
    "XCCM": ("399101009", "R-1024B"),
    "FB": ("399196006", "R-10244"),
    "SIO": ("399188001", "R-102D0"),
    "ISO": ("441555000", "R-40AAA"),
}
VIEWS = frozenset({*_CODED, "XCC", "AT", "AX", "CV", "TAN", "RL", "RM", "RI", "RS", "SPECIMEN"})
"""The views that are named as they are: those that have a code, and common short names of special ones."""
_MAKERS = {
    "agfa": "Agfa",
    "canon": "Canon",
    "carestream": "Carestream",
    "fischer": "Fischer",
    "fuji": "FUJIFILM",
    "fujifilm": "FUJIFILM",
    "ge": "GE MEDICAL SYSTEMS",
    "giotto": "IMS GIOTTO",
    "hologic": "HOLOGIC",
    "ims": "IMS GIOTTO",
    "italray": "Italray",
    "kodak": "KODAK",
    "konica": "KONICA MINOLTA",
    "lorad": "LORAD",
    "medi-future": "Medi-Future",
    "metaltronica": "Metaltronica",
    "philips": "Philips",
    "planmed": "Planmed",
    "sectra": "Sectra",
    "siemens": "SIEMENS",
    "toshiba": "TOSHIBA",
}
"""Makers of mammography units by a word of what headers call them."""
_OTHER = "other"
MAKERS = frozenset({*_MAKERS.values(), _OTHER})
"""The names of manufacturers that go on."""


@dataclass(frozen=True)
class Facts:
    """What the header says of the image, "" or None where it does not. The spacing is that of the rows.

    `attributes` are those of `attributes.py`, never the file's own words.
    """

    manufacturer: str = ""
    pixel_spacing_mm: float | None = None
    laterality: str = ""
    view: str = ""
    attributes: tuple[str, ...] = ()


def facts_of(dataset: Dataset) -> Facts:
    """Take from a header what may go on."""
    laterality = text_of(dataset, "ImageLaterality") or text_of(dataset, "Laterality") or _oriented(dataset)
    spacing = decimals_of(dataset, "ImagerPixelSpacing") or decimals_of(dataset, "PixelSpacing")
    view = text_of(dataset, "ViewPosition").upper()
    return Facts(
        manufacturer=_maker(text_of(dataset, "Manufacturer")),
        pixel_spacing_mm=spacing[0] if spacing and math.isfinite(spacing[0]) and spacing[0] > 0 else None,
        laterality=laterality[:1].upper() if laterality[:1].upper() in ("L", "R") else "",
        view=view if view in VIEWS else _coded_view(dataset),
        attributes=attributes_of(dataset),
    )


def _maker(text: str) -> str:
    words = re.findall(r"[a-z-]+", text.casefold())
    return next((_MAKERS[word] for word in words if word in _MAKERS), _OTHER if text else "")


def _oriented(dataset: Dataset) -> str:
    """Give the side that the orientation tells: rows run away from the chest wall, columns to the body's midline.

    Columns that run to the right (of CC views R, of MLO views FR) show a left breast (PS3.3 C.7.6.1.1.1).
    """
    rows, columns = (*texts_of(dataset, "PatientOrientation"), "", "")[:2]
    return {("A", "R"): "L", ("P", "L"): "R"}.get((rows[:1].upper(), columns[-1:].upper()), "")


def _coded_view(dataset: Dataset) -> str:
    codes = [text_of(item, "CodeValue") for item in items_of(dataset, "ViewCodeSequence")]
    return next((view for view, known in _CODED.items() if codes and codes[0] in known), "")
