"""Files and folders that are written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mammoprep.errors import MammoprepError, MissingFileError

_OURS = ("panoptic.json", "manifest.json", "run.json", "instances.json")
"""One of these is in every folder that mammoprep writes."""


def read_json(path: Path, *, hint: str) -> Any:
    """Read a JSON file; a missing or broken one is a MammoprepError that ends with `hint`."""
    if not path.is_file():
        raise MissingFileError(path, hint=hint)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MammoprepError(f"{path} is not readable JSON ({error}). {hint}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; the same content gives the same bytes. NaN is refused."""
    write_bytes(path, (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside to write to, and rename it: a reader, and the next start, see the old file or the new one."""
    beside = path.with_name(f"{path.name}.partial")
    with writing(path):
        try:
            yield beside
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
        raise _unwritable(path, error) from error


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
def staged(out: Path, *, overwrite: bool = False, keep: bool = False) -> Iterator[Path]:
    """Build a folder beside `out` and rename it when the block ends well: whole or not at all.

    A block that fails, by Ctrl-C too, leaves nothing; with `keep` it leaves its `.partial` folder, and the next block
    finds it (resume). What `out` held before is untouched until then. A full or read-only disk is a MammoprepError.
    """
    out = out.resolve()
    partial = partial_of(out)
    try:
        check_vacant(out, overwrite=overwrite)
        if partial.exists() and not keep:
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        publish(partial, out)
    except OSError as error:
        where = Path(str(error.filename or out))
        if where.is_relative_to(out.parent) or out.is_relative_to(where):
            raise _unwritable(out, error) from error
        raise
    finally:
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> MammoprepError:
    return MammoprepError(f"{path} could not be written: {error.strerror or error}. Free space or name another folder.")


def publish(partial: Path, out: Path) -> None:
    """Rename a finished folder to its name; what `out` held before goes only when the new one is in place."""
    if not out.exists():
        os.replace(partial, out)
        return
    with TemporaryDirectory(prefix=f"{out.name}.old-", dir=out.parent, ignore_cleanup_errors=True) as aside:
        old = Path(aside) / out.name
        os.replace(out, old)
        try:
            os.replace(partial, out)
        except BaseException:
            os.replace(old, out)
            raise
