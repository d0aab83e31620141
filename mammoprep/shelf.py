"""Things in the order of their keys, kept on disk: memory does not grow with their number."""

import pickle
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import gettempdir
from typing import Generic, TypeVar

from mammoprep.errors import MammoprepError

CACHE = 16 * 2**20
"""Bytes that are kept in memory."""

_Thing = TypeVar("_Thing")


class Shelf(Generic[_Thing]):
    """Things under a number and a text; going through them gives them by number, then by text, then as they came.

    On a shelf with `one_each` a thing takes the place of that with the same key. The file is temporary, has no name
    that another process could open, and goes with the shelf; it is begun when CACHE is full.
    """

    def __init__(self, *, one_each: bool = False) -> None:
        self._base = sqlite3.connect("", check_same_thread=False)  # a temporary file
        weakref.finalize(self, self._base.close)
        with spilling():
            self._base.execute(f"PRAGMA cache_size = -{CACHE // 1024}")
            self._base.execute("CREATE TABLE shelf (number INTEGER, text BLOB, thing BLOB)")
            self._base.execute(f"CREATE {'UNIQUE' if one_each else ''} INDEX place ON shelf (number, text)")

    def __len__(self) -> int:
        return int(self._base.execute("SELECT COUNT(*) FROM shelf").fetchone()[0])

    def __iter__(self) -> Iterator[_Thing]:
        for (thing,) in self._base.execute("SELECT thing FROM shelf ORDER BY number, text, rowid"):
            yield pickle.loads(thing)  # written by `put`

    def put(self, thing: _Thing, *, number: int = 0, text: str = "") -> None:
        """Add a thing."""
        row = (number, text.encode(errors="surrogatepass"), pickle.dumps(thing, pickle.HIGHEST_PROTOCOL))
        with spilling():
            self._base.execute("INSERT OR REPLACE INTO shelf VALUES (?, ?, ?)", row)


@dataclass(frozen=True, slots=True)
class Again(Generic[_Thing]):
    """What `begin` yields, each time that it is gone through."""

    begin: Callable[[], Iterable[_Thing]]

    def __iter__(self) -> Iterator[_Thing]:
        return iter(self.begin())


@contextmanager
def spilling() -> Iterator[None]:
    """Turn a full disk, where temporary files lie, into the line that the user reads."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise MammoprepError(
            f"A temporary file in {gettempdir()} could not be written: {error}. Free space, or set TMPDIR to a folder."
        ) from error
