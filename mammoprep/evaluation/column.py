"""Rows of numbers on disk that are read a block at a time, as an array would be: memory does not grow with them."""

import weakref
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mammoprep.shelf import spilling

BLOCK = 4096
"""Rows that are looked at at a time."""
_IN_MEMORY = 2**17
"""Bytes up to which a column needs no file."""


class Column:
    """N rows of one shape and type, (N, …), that are added at the end.

    An index is what NumPy's would be for the first axis (all rows, a slice, or a mask (N,)), with any for the others.
    """

    def __init__(self, dtype: DTypeLike, shape: Sequence[int] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self._row = tuple(shape)
        self._size = self.dtype.itemsize * int(np.prod(self._row, dtype=np.int64))
        self._rows = 0
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  as long as the column
        weakref.finalize(self, self._file.close)

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the shape (N, …)."""
        return (self._rows, *self._row)

    def __len__(self) -> int:
        return self._rows

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows (n, …)."""
        with spilling():
            self._file.seek(self._rows * self._size)
            self._file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self._rows += len(rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        rows, others = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self._rows)
            places = [slice(at, min(at + BLOCK, stop)) for at in range(start, stop, BLOCK)]
            parts = [self._read(place)[(slice(None), *others)] for place in places]
        else:
            parts = [self._read(place)[(rows[place], *others)] for place in blocks(self)]
        return np.concatenate(parts) if parts else np.zeros((0, *self._row), self.dtype)[(slice(None), *others)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def _read(self, rows: slice) -> NDArray[Any]:
        self._file.seek(rows.start * self._size)
        content = self._file.read((rows.stop - rows.start) * self._size)
        return np.frombuffer(content, self.dtype).reshape(-1, *self._row)


Rows = Column | NDArray[Any]
"""A column, or an array that is used as one."""


def blocks(column: Rows) -> Iterator[slice]:
    """Yield slices that cover a column, each of which is read at once."""
    for start in range(0, len(column), BLOCK):
        yield slice(start, min(start + BLOCK, len(column)))
