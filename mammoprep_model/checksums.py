"""What is known of the SHA-256 of pretrained files, and whether the files on disk agree."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mammoprep import panoptic
from mammoprep.errors import MammoprepError

SUMS = "SHA256SUMS"
"""Hashes of the files below a folder, as `sha256sum -c` reads them; `mammoprep weights` writes them."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check(files: Iterable[Path]) -> None:
    """Refuse a file whose SHA-256 is another than the one that is known of it.

    It is known from SHA256SUMS in the file's folder or up to three folders above, or from the Hugging Face hub: its
    cache names a large file by its SHA-256, and beside a download into a folder it leaves a note. A file is read once.
    """
    for path in files:
        wanted, told_by = _known(path)
        facts = path.stat()
        if wanted and (found := _hash(path, facts.st_size, facts.st_mtime_ns)) != wanted:
            raise MammoprepError(
                f"{path} is damaged or another file: its SHA-256 begins with {found[:12]}, but with {wanted[:12]}"
                f" according to {told_by}. Delete it and get it again."
            )


def _known(path: Path) -> tuple[str | None, str]:
    """Give the SHA-256 that a file must have, where one is known, and who says so."""
    path, hub = path.absolute(), "the Hugging Face hub"
    for folder in path.parents[:4]:
        name = path.relative_to(folder).as_posix()
        if listed := _listed(folder / SUMS, name):
            return listed, str(folder / SUMS)
        if noted := _noted(folder, name):
            return noted, hub
    blob = path.resolve()
    return (blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None), hub


def _listed(sums: Path, name: str) -> str | None:
    if not sums.is_file():
        return None
    lines = (line.split(maxsplit=1) for line in sums.read_text("utf-8", errors="replace").splitlines())
    return next((line[0] for line in lines if len(line) == 2 and line[1].lstrip("*") == name), None)


def _noted(folder: Path, name: str) -> str | None:
    """Read the hub client's note on a file: its commit, its hash (a SHA-256 for large files only), the time."""
    note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
    lines = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    return lines[1] if len(lines) > 1 and _SHA256.fullmatch(lines[1]) else None


@cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Hash a file; `size` in bytes and `changed` in nanoseconds tell it from a later one of its name."""
    return panoptic.file_hash(path)
