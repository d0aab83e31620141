"""Files damaged on purpose, as disks, transfers, broken exporters and malice damage them."""

from collections.abc import Mapping
from random import Random

from mammoprep.phantom.poison import binary, dicom, markup, pictures, tables
from mammoprep.phantom.poison.binary import Poison

KINDS: Mapping[str, Mapping[str, Poison]] = {
    "dicom": {**binary.POISONS, **dicom.POISONS},
    "csv": {**binary.POISONS, **tables.TEXT},
    "xlsx": {**binary.POISONS, **tables.WORKBOOK},
    "xls": binary.POISONS,
    "json": {**binary.POISONS, **markup.JSON},
    "xml": {**binary.POISONS, **markup.XML},
    "png": {**binary.POISONS, **pictures.PNG},
    "jpeg": {**binary.POISONS, **pictures.JPEG},
    "tiff": {**binary.POISONS, **pictures.TIFF},
    "pgm": {**binary.POISONS, **pictures.PGM},
}
"""What can be done to a file of each kind, by name. Each gives the damaged bytes of whole ones; chance is a seed's."""

_ENDINGS = {"dcm": "dicom", "jpg": "jpeg", "tif": "tiff"}


def kind_of(name: str) -> str:
    """Give the kind of a file by its ending; `xls` for what has no kind of its own: bytes are damaged alone."""
    ending = name.rpartition(".")[2].lower()
    kind = _ENDINGS.get(ending, ending)
    return kind if kind in KINDS else "xls"


def poison(data: bytes, kind: str, *, rng: Random) -> tuple[str, bytes]:
    """Damage a file in one way drawn from those of its kind; give the way's name and the bytes."""
    name = rng.choice(sorted(KINDS[kind]))
    return name, KINDS[kind][name](data, rng)


__all__ = ["KINDS", "Poison", "kind_of", "poison"]
