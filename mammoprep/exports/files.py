"""The files of a raw folder, and which of them a name in an annotation file means."""

import os
import re
from collections.abc import Iterable
from os.path import realpath
from pathlib import Path
from posixpath import basename, dirname, join, normpath, splitext

from mammoprep.errors import MammoprepError

LEAVES = "the path leaves the raw folder"
_LONGEST = 200
"""Characters of an id: file systems take names of 255 bytes."""


def walk(root: Path) -> tuple[list[str], list[str]]:
    """Give the files below a folder as sorted POSIX paths relative to it, and those that are links out of it.

    Hidden files and folders are passed over; links to folders are not followed. Raises MammoprepError for what is there
    but no file, such as a pipe: whoever opens it may wait for ever.
    """
    inside: list[str] = []
    outside: list[str] = []
    home = root.resolve()

    def fail(error: OSError) -> None:
        raise MammoprepError(f"{error.filename} cannot be listed ({error.strerror}). Check its access rights.")

    for folder, folders, names in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith((".", "~$")):
                continue
            path = Path(folder, name)
            if path.is_fifo() or path.is_socket() or path.is_block_device() or path.is_char_device():
                raise MammoprepError(f"{path} is no file, but a pipe or a device. Take it out of the folder.")
            leaves = path.is_symlink() and not Path(realpath(path)).is_relative_to(home)
            (outside if leaves else inside).append(path.relative_to(root).as_posix())
    return sorted(inside), sorted(outside)


class Files:
    """Files, looked up by path, by the end of a path, or by name without ending, whatever the case."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(self.paths):
            name = basename(path).casefold()
            for key in {name, splitext(name)[0]}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str, *, beside: str = "") -> str:
        """Give the one file that a name means, said in the folder `beside`; a LookupError says why there is none."""
        name = name.strip().replace("\\", "/")
        near, far = normpath(join(beside, name)), normpath(name)
        if near in self.paths:
            return near
        if not name or name.startswith("/") or name[1:2] == ":" or far.startswith(".."):
            raise LookupError(LEAVES if name else "no image is named")
        if far in self.paths:
            return far
        tail = far.casefold()
        found = [path for path in self._by_name.get(basename(tail), []) if _ends(path.casefold(), tail)]
        here = [path for path in found if dirname(path) == beside]
        found = here if len(here) == 1 else found
        if len(found) != 1:
            raise LookupError("several files have that name" if found else "no image file has that name")
        return found[0]


def _ends(path: str, tail: str) -> bool:
    return any(f"/{form}".endswith(f"/{tail}") for form in (path, splitext(path)[0]))


def image_ids(paths: Iterable[str]) -> dict[str, str]:
    """Give each image a readable id that is safe as a file name: its name, or its whole path where names repeat.

    Where one of these is empty or too long for a file's name, all are numbers.
    """
    listed = sorted(paths)
    for parts in (basename, str):
        ids = {path: re.sub(r"[^A-Za-z0-9._-]+", "_", parts(splitext(path)[0])).strip("._") for path in listed}
        fit = all(0 < len(image_id) <= _LONGEST for image_id in ids.values())
        if fit and len(set(map(str.casefold, ids.values()))) == len(ids):
            return ids
    return {path: f"{number:06}" for number, path in enumerate(listed, start=1)}


def patient_pattern(text: str) -> re.Pattern[str] | None:
    """Compile what tells the patient from an image's path; None for nothing."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise MammoprepError(f"--patient {text} is no regular expression ({error}).") from error


def patient_of(pattern: re.Pattern[str] | None, path: str) -> str:
    """Give the pattern's first group in a path, all that matches where it has no group, "" where nothing does."""
    match = pattern.search(path) if pattern else None
    return "" if match is None else match[1 if match.re.groups else 0] or ""
