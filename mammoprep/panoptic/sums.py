"""SHA256SUMS: the hash of every file of a folder, as `sha256sum -c` reads it, a line a file."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mammoprep.errors import MammoprepError
from mammoprep.panoptic.folder import Written, file_hash, replacing, sync

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n")


def write_sums(root: Path, hashes: Iterable[tuple[str, str]]) -> str:
    """Write (path relative to `root`, SHA-256) line by line; give the SHA-256 of the list itself."""
    digest = hashlib.sha256()
    with replacing(root / SUMS) as beside, beside.open("wb") as file:
        for name, code in hashes:
            line = f"{code}  {name}\n".encode()
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


def read_sums(root: Path) -> Iterator[tuple[str, str]]:
    """Yield what `write_sums` wrote, in that order."""
    path = root / SUMS
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                found = _LINE.fullmatch(line)
                if not found or ".." in Path(found[2]).parts or Path(found[2]).is_absolute():
                    raise MammoprepError(f"{path} line {number} is no SHA-256 and path. Write the folder again.")
                yield found[2], found[1]
    except (OSError, UnicodeDecodeError) as error:
        raise MammoprepError(f"{path} cannot be read. Write the folder again.") from error


def wrong_files(root: Path) -> Iterator[str]:
    """Yield the name of each listed file that is missing, cannot be read or has another hash."""
    for name, code in read_sums(root):
        try:
            right = _reread(root / name) == code
        except MammoprepError:
            right = False
        if not right:
            yield name


def is_as_written(path: Path, written: Written, *, verify: bool) -> bool:
    """Tell whether a file is there that was written: a file that a machine lost in going down has another length.

    `verify` compares all of its bytes.
    """
    if not path.is_file() or path.stat().st_size != written.size:
        return False
    return not verify or _reread(path) == written.sha256


def _reread(path: Path) -> str:
    """Give the SHA-256 of what the disk holds; what memory still holds of the file is let go, where the system can."""
    try:
        sync(path)
        with path.open("rb") as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:  # read-only: nothing of it waits to be written
        pass
    return file_hash(path)
