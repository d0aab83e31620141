"""One file a data set: tables in, `Record`s out; further ones by entry points of other packages."""

import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.readers import cbis_ddsm, cdd_cesm, cmmd, coco, csaw_cc, folder, inbreast, mini_mias, vindr
from mammoprep.records import Reader
from mammoprep.tables import find

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        module.READER.name: module.READER
        for module in (vindr, cdd_cesm, cbis_ddsm, inbreast, csaw_cc, mini_mias, cmmd, folder, coco)
    }
)
"""The data sets known, by the name that `mammoprep convert` takes."""

_OTHERS = {
    "RSNA Screening Mammography": ("train_images",),
}
"""Data sets that have no reader, and names by which their folders can be told."""

GROUP = "mammoprep.readers"
"""The entry points by which another package adds readers: `my-data = "my_package.my_reader:READER"`."""


def plugins() -> dict[str, EntryPoint]:
    """Give the entry points of readers of other packages by their names; a name of READERS is taken already."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in READERS}


def load_plugin(point: EntryPoint) -> Reader:
    """Load the reader of another package. Raises MammoprepError for what is no Reader of the name it is known by."""
    hint = f"Ask the makers of {point.value.partition(':')[0]}, or uninstall it."
    try:
        reader = point.load()
    except Exception as error:  # it is another package's code that runs here
        raise MammoprepError(f"The reader {point.name} cannot be loaded ({type(error).__name__}). {hint}") from error
    if not isinstance(reader, Reader) or reader.name != point.name:
        raise MammoprepError(f"The entry point {point.name} is no Reader of that name. {hint}")
    return reader


def sheet(reader: Reader) -> str:
    """Give a reader's data sheet, the docstring of the module that reads it."""
    return (sys.modules[reader.read.__module__].__doc__ or "").strip()


def recognise(root: Path) -> Reader | None:
    """Give the reader of the data set that a raw folder looks like, by the names in it; None where it is none known."""
    return next((reader for reader in READERS.values() if _has_any(root, reader.markers)), None)


def check_root(reader: Reader, root: Path) -> None:
    """Check that a folder can be the reader's raw folder.

    Raises:
        MammoprepError: it is missing, a file, empty or not the data set; the text says what it looks like.
    """
    wanted = "Name the folder that holds the images."
    if reader.markers:
        wanted = f"Name the folder of {reader.title} that holds {reader.markers[0]}."
    if not root.exists():
        raise MissingFileError(root, hint=wanted)
    if not root.is_dir():
        raise MammoprepError(f"{root} is a file. {wanted}")
    if _has_any(root, reader.markers) or (not reader.markers and any(root.iterdir())):
        return
    other = recognise(root)
    if other is not None:
        raise MammoprepError(f"{root} looks like {other.title}; use `mammoprep convert {other.name}`.")
    if find(root, "panoptic.json"):
        raise MammoprepError(f"{root} was written by mammoprep and is no raw folder; use `mammoprep convert coco`.")
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
