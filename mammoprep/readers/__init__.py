"""One file a data set: tables in, `Record`s out."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.readers import cbis_ddsm, cdd_cesm, cmmd, csaw_cc, inbreast, mini_mias, vindr
from mammoprep.records import Reader
from mammoprep.tables import find

READERS: Mapping[str, Reader] = MappingProxyType(
    {module.READER.name: module.READER for module in (vindr, cdd_cesm, cbis_ddsm, inbreast, csaw_cc, mini_mias, cmmd)}
)
"""The data sets known, by the name that `mammoprep convert` takes."""

_OTHERS = {
    "RSNA Screening Mammography": ("train_images",),
}
"""Data sets that have no reader, and names by which their folders can be told."""


def recognise(root: Path) -> Reader | None:
    """Give the reader of the data set that a raw folder looks like, by the names in it; None where it is none known."""
    return next((reader for reader in READERS.values() if _has_any(root, reader.markers)), None)


def check_root(reader: Reader, root: Path) -> None:
    """Check that a folder can be the reader's raw folder.

    Raises:
        MammoprepError: it is missing, a file, empty or not the data set; the text says what it looks like.
    """
    wanted = f"Name the folder of {reader.title} that holds {reader.markers[0]}."
    if not root.exists():
        raise MissingFileError(root, hint=wanted)
    if not root.is_dir():
        raise MammoprepError(f"{root} is a file. {wanted}")
    if _has_any(root, reader.markers):
        return
    other = recognise(root)
    if other is not None:
        raise MammoprepError(f"{root} looks like {other.title}; use `mammoprep convert {other.name}`.")
    if find(root, "panoptic.json"):
        raise MammoprepError(f"{root} was written by mammoprep and is no raw folder. {wanted}")
    for title, markers in _OTHERS.items():
        if _has_any(root, markers):
            raise MammoprepError(f"{root} looks like {title}, which has no reader yet. {wanted}")
    visible = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    inner = next((entry for entry in visible if entry.is_dir() and _has_any(entry, reader.markers)), None)
    if inner is not None:
        raise MammoprepError(f"{root} holds {reader.title} one folder down. Name {inner}.")
    state = f"does not look like {reader.title}" if visible else "is empty"
    raise MammoprepError(f"{root} {state}. {wanted}")


def _has_any(root: Path, names: tuple[str, ...]) -> bool:
    return any(find((root / name).parent, Path(name).name) is not None for name in names)
