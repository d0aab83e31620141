"""Files and folders that are written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mammoprep import strict_json
from mammoprep.errors import MammoprepError, MissingFileError


class Written(NamedTuple):
    """What was written to a file: its length in bytes and its SHA-256."""

    size: int
    sha256: str


_OURS = ("panoptic.json", "manifest.json", "run.json", "instances.json", "export.json", "gallery.json", "pretrain.json")
"""One of these is in every folder that mammoprep writes."""
LOCK = ".partial.journal"
"""What the file is called beyond its folder's name that a process holds while it writes there."""


def read_json(path: Path, *, hint: str) -> Any:
    """Read a JSON file; a missing or broken one is a MammoprepError that ends with `hint`."""
    if not path.is_file():
        raise MissingFileError(path, hint=hint)
    try:
        return strict_json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, no UTF-8
        raise MammoprepError(f"{path} is not readable JSON ({error}). {hint}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; the same content gives the same bytes. NaN is refused.

    Of a file's name that is not UTF-8, Python's stand-ins for its bytes are written as JSON's escapes.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(content)


class UnwritableError(MammoprepError):
    """The disk refuses: it is full, read-only, or a share that is gone."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} could not be written: {error.strerror or error}. Free space or name another folder.")
        self.reason = error.strerror or str(error)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside to write to, and rename it: a reader, and the next start, see the old file or the new one."""
    beside = path.with_name(f"{path.name}.partial")
    with writing(path):
        try:
            yield beside
            sync(beside)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses while `path` is written into the line that the user reads."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(path, error) from error


def file_hash(path: Path) -> str:
    """Give a file's SHA-256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MammoprepError(
            f"{path} cannot be read: {error.strerror}. Check that it is a file you may read."
        ) from error


def partial_of(out: Path) -> Path:
    """Give the folder in which `out` is built before it is renamed."""
    out = out.resolve()
    return out.with_name(f"{out.name}.partial")


def lock_of(out: Path) -> Path:
    """Give the file that the process holds which writes `out`: its journal, or empty."""
    out = out.resolve()
    return out.with_name(f"{out.name}{LOCK}")


def check_vacant(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds something, or one that `overwrite` must not touch (nothing of ours in it)."""
    if out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    if os.path.ismount(out):
        raise MammoprepError(f"{out} is a mount point, which cannot be renamed into place. Name a folder inside it.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise MammoprepError(f"{out} is not empty. Name another folder, or say --overwrite.")
    if not any((out / name).is_file() for name in _OURS):
        raise MammoprepError(
            f"{out} was not written by mammoprep, so --overwrite leaves it alone. Name another folder."
        )


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Hold a file alone, made where it is not, as long as the block runs; give it open for reading and appending.

    The lock ends with the process, however that ends: none is ever stale. On leaving, a file without content goes, and
    folders that were made for nothing else. A file system that knows no locks gives none, and two runs there are not
    kept apart.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_alone(path)
    try:
        yield file
    finally:
        with suppress(OSError):
            if os.path.getsize(path) == 0:
                path.unlink()  # while it is held, so that nobody loses what he waits for
                for folder in made:
                    folder.rmdir()
        with suppress(OSError):
            file.close()


def _open_alone(path: Path) -> BinaryIO:
    from fcntl import LOCK_EX, LOCK_NB, flock  # Windows has none

    while True:
        file = path.open("ab+")
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            file.close()
            what = path.with_name(path.name.removesuffix(LOCK))
            raise MammoprepError(f"Another process is writing {what}. Wait for it, or name another folder.") from error
        except OSError:  # a network share without locks
            return file
        with suppress(FileNotFoundError):  # which another process deleted meanwhile
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk: a rename must not outlive what it names."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def staged(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Build a folder beside `out` and rename it when the block ends well: whole or not at all.

    A block that fails, by Ctrl-C too, leaves nothing. What `out` held before is untouched until then. A full or
    read-only disk is a MammoprepError.
    """
    out = out.resolve()
    partial = partial_of(out)
    try:
        restore(out)
        check_vacant(out, overwrite=overwrite)
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        yield partial
        publish(partial, out)
    except OSError as error:
        where = Path(str(error.filename or out))
        if where.is_relative_to(out.parent) or out.is_relative_to(where):
            raise UnwritableError(out, error) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, out: Path) -> None:
    """Rename a finished folder to its name; what `out` held before goes only when the new one is in place.

    A process that is killed in between leaves what `restore` puts right.
    """
    for folder, _, names in os.walk(partial):
        for name in (*names, "."):
            sync(Path(folder, name))
    old = _old_of(out)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(partial, out)
    except BaseException:
        restore(out)
        raise
    sync(out.parent)
    discard(old)


def discard(folder: Path) -> None:
    """Delete a folder that may be there; half of it is never to be seen under its name."""
    gone = folder.with_name(f"{folder.name}.partial-gone")
    with writing(folder):
        if gone.exists():
            shutil.rmtree(gone)
        if folder.exists():
            os.replace(folder, gone)
            shutil.rmtree(gone)


def restore(out: Path) -> None:
    """Undo a `publish` that was killed half-way, or delete what it was about to delete."""
    old = _old_of(out)
    if old.exists() and not out.exists():
        os.replace(old, out)
    discard(old)


def _old_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial-old")
