"""A journal of finished work, one checked line an entry, so that a run which was stopped goes on where it was."""

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mammoprep.errors import MammoprepError
from mammoprep.panoptic.folder import (
    LOCK,
    UnwritableError,
    check_vacant,
    lock_of,
    locked,
    partial_of,
    publish,
    restore,
    writing,
)

Existing = Literal["refuse", "resume", "overwrite"]
"""What becomes of an OUT, or an interrupted run, that is there already."""


class Journal:
    """An append-only file whose first line, the header, says what the work was started with.

    A line is the CRC-32 of its JSON, a space, and the JSON. Lines at the end that a killed process or a dying machine
    left torn are cut off when the journal is opened again; a damaged line before a whole one is refused.
    """

    def __init__(self, file: BinaryIO, path: Path, *, header: Mapping[str, Any]) -> None:
        """Go on with an open file, or begin it; a header other than the one it began with is refused."""
        self._file, self._path = file, path
        os.truncate(path, _whole_bytes(path))
        before = next(_lines(path), None)
        if before is None:
            self.append(header)
        else:
            refuse_other(before, header, where=path.with_name(path.name.removesuffix(LOCK)))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry; it outlives this process as soon as this returns."""
        content = json.dumps(entry, allow_nan=False).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(content), content))
        self._file.flush()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what was appended, in this run and those before it."""
        lines = _lines(self._path)
        next(lines, None)
        yield from lines


def refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], *, where: Path) -> None:
    """Raise a MammoprepError that names the first difference between two headers."""
    difference = next(_differences(before, json.loads(json.dumps(now))), None)
    if difference:
        raise MammoprepError(
            f"{where} was made with {difference}. Say the same again with --resume, or begin anew without --resume"
            " (--overwrite replaces what is there)."
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], *, prefix: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys(), key=lambda key: (key == "inputs", key)):  # the options name inputs
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, prefix=f"{prefix}{key} ")
        elif old != new:
            yield f"{prefix}{key} = {old}, now {new}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the content of each line up to the first that is torn."""
    with path.open("rb") as file:
        for line in file:
            if not _is_whole(line):
                return
            yield json.loads(line[9:])


def _is_whole(line: bytes) -> bool:
    return line.endswith(b"\n") and line[:9] == b"%08x " % zlib.crc32(line[9:-1])


def _whole_bytes(path: Path) -> int:
    """Give the bytes up to the first torn line; a whole one behind it is refused."""
    size, damaged = 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not _is_whole(line):
                damaged = damaged or number
            elif damaged:
                raise MammoprepError(
                    f"{path} is damaged in line {damaged}, before lines that are whole. Begin anew with --overwrite, on"
                    " another disk if this one is failing."
                )
            else:
                size += len(line)
    return size


@contextmanager
def journaled(out: Path, *, header: Mapping[str, Any], existing: Existing) -> Iterator[tuple[Path, Journal]]:
    """Build `out` in steps that outlive the process: give the folder in which it is built, and its journal.

    When the block ends well the folder gets its name; what `out` held before is untouched until then. When it fails,
    and when the process is killed, folder and journal stay for `existing="resume"`, if an entry says what became of an
    `image`; else nothing is left. Two processes cannot build the same `out`.
    """
    out = out.resolve()
    partial, path = partial_of(out), lock_of(out)
    with locked(path) as file:
        restore(out)
        check_free(out, existing=existing)
        resumes = existing == "resume" and partial.is_dir() and os.path.getsize(path) > 0
        journal = _begin(file, path, header=header, resumes=resumes)
        try:
            yield partial, journal
            publish(partial, out)
        except BaseException as error:
            kept = _is_worth_keeping(partial, path)
            if not kept:
                shutil.rmtree(partial, ignore_errors=True)
                with suppress(OSError):
                    os.truncate(path, 0)
            if isinstance(error, OSError | UnwritableError):
                raise _interrupted(error, out=out, kept=kept) from error
            raise
        os.truncate(path, 0)


def check_free(out: Path, *, existing: Existing) -> None:
    """Refuse an OUT that `journaled` would refuse, before anything costs time."""
    partial = partial_of(out)
    check_vacant(out, overwrite=existing == "overwrite" or (existing == "resume" and partial.is_dir()))
    if partial.exists() and existing == "refuse":
        raise MammoprepError(
            f"{partial} holds an interrupted run. Say --resume to go on with it, or --overwrite to begin anew."
        )


def has_entries(path: Path) -> bool:
    """Tell whether a journal says of an image that it is done."""
    return any(entry.get("image") for entry in _lines(path))


def _begin(file: BinaryIO, path: Path, *, header: Mapping[str, Any], resumes: bool) -> Journal:
    """Open the journal; whatever moment the process is killed at, a folder beside it belongs to its header."""
    partial = path.with_name(path.stem)
    with writing(partial):
        if not resumes:
            shutil.rmtree(partial, ignore_errors=True)
            os.truncate(path, 0)
        try:
            journal = Journal(file, path, header=header)
            partial.mkdir(exist_ok=True)
        except OSError:
            if not resumes:
                os.truncate(path, 0)
            raise
    return journal


def tidy(out: Path) -> None:
    """Put right what a process left that was killed while it gave `out` its name, or just after."""
    with locked(lock_of(out)):
        restore(out.resolve())
        if not partial_of(out).exists():
            os.truncate(lock_of(out), 0)


def _is_worth_keeping(partial: Path, path: Path) -> bool:
    """Tell whether an image was finished; where the disk is gone, whatever may be there stays."""
    try:
        return partial.is_dir() and has_entries(path)
    except OSError:
        return True


def _interrupted(error: OSError | UnwritableError, *, out: Path, kept: bool) -> MammoprepError:
    path = Path(str(getattr(error, "filename", None) or out))
    own = path in (out, lock_of(out)) or path.is_relative_to(partial_of(out))
    reason = error.reason if isinstance(error, UnwritableError) else error.strerror or error
    what = f"{out} could not be written" if own else "A file could not be read"  # whose name may be a patient's
    rest = "What is done is kept: when that is mended, say --resume" if kept else "Free space or name another folder"
    return MammoprepError(f"{what}: {reason}. {rest}.")
