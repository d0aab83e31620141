"""Write files whole or not at all; a disk that is full or read-only is one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mammoprep.errors import MammoprepError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into the line that the user reads."""
    try:
        yield
    except OSError as error:
        raise MammoprepError(f"{path} could not be written: {error.strerror or error}. Free space there.") from error


def write(path: Path, content: bytes | memoryview) -> None:
    """Write beside and rename: a reader, and the next start, see the old file or the new one."""
    beside = path.with_name(f"{path.name}.partial")
    with writing(path):
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
