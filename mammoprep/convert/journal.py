"""A journal of finished work, one JSON line an entry, so that a run which was stopped goes on where it was."""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mammoprep.errors import MammoprepError


class Journal:
    """An append-only file whose first line, the header, says what the work was started with.

    A line that a killed process left torn is cut off when the journal is opened again.
    """

    def __init__(self, path: Path, *, header: dict[str, Any]) -> None:
        """Open the journal, or begin it; a header other than the one it began with is refused."""
        self.path = path
        began = _cut_torn_line(path)
        if began:
            refuse_other(read_header(path), header, where=path.parent)
        self._file = path.open("a", encoding="utf-8", newline="\n")
        if not began:
            self.append(header)

    def append(self, entry: dict[str, Any]) -> None:
        """Add an entry; it outlives this process as soon as this returns."""
        self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what was appended, in this run and those before it."""
        with self.path.open(encoding="utf-8") as file:
            for line in islice(file, 1, None):
                if line.endswith("\n"):  # else the disk was full
                    yield json.loads(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_header(path: Path) -> dict[str, Any]:
    """Read what the work was started with."""
    with path.open(encoding="utf-8") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header


def refuse_other(before: dict[str, Any], now: dict[str, Any], *, where: Path) -> None:
    """Raise a MammoprepError that names the first difference between two headers."""
    difference = next(_differences(before, now), None)
    if difference:
        raise MammoprepError(
            f"{where} was made with {difference}. Say the same again with --resume, or begin anew with --overwrite."
        )


def _differences(before: dict[str, Any], now: dict[str, Any], *, prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, prefix=f"{prefix}{key} ")
        elif old != new:
            yield f"{prefix}{key} = {old}, now {new}"


def _cut_torn_line(path: Path) -> bool:
    """Cut what follows the last line end; tell whether a whole line is left."""
    if not path.is_file():
        return False
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return whole > 0
