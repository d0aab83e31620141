"""A JSON file entry by entry: of lists that grow with the data set no more than one entry is in memory."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mammoprep import strict_json
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic.folder import replacing

BLOCK = 2**18
"""Characters that are read at a time."""
_SPACE = " \t\n\r"


def write_entries(path: Path, lists: Mapping[str, Iterable[Any]]) -> None:
    """Write a JSON object of lists, the bytes of `write_json`; a list under "" alone is the whole file.

    The file is written whole or not at all.
    """
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_pieces(lists))


def _pieces(lists: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    is_object, before = "" not in lists, "{"
    for key, entries in lists.items():
        yield f"{before}{encode(key)}: [" if is_object else "["
        for place, entry in enumerate(entries):
            yield f"{', ' if place else ''}{encode(entry)}"
        yield "]"
        before = ", "
    yield "}\n" if is_object else "\n"


def read_entries(path: Path, lists: Sequence[str] = (), *, hint: str, wrong: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, entry) for each entry of the named lists of a JSON object; without names ("", entry) of a JSON list.

    All of `lists` must be there; what else the object holds is passed over. A file that is missing or no JSON is a
    MammoprepError that ends with `hint`; for JSON of another shape `wrong` is the whole of it.
    """
    if not path.is_file():
        raise MissingFileError(path, hint=hint)
    try:
        with path.open(encoding="utf-8") as file:
            text = _Text(file)
            if not text.peek():
                raise ValueError("it is empty")
            found = _of_object(text, lists) if lists else _of_list(text, "")
            yield from found
            text.end()
    except _ShapeError as error:
        raise MammoprepError(wrong) from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8
        raise MammoprepError(f"{path} is not readable JSON ({error}). {hint}") from error


class _ShapeError(Exception):
    """The JSON is no list, or no object with the lists asked for."""


def _of_object(text: "_Text", lists: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if text.peek() != "{":
        raise _ShapeError
    seen = set()
    for _ in text.items("{", "}"):
        key = text.value()
        text.take(":")
        if key in lists:
            seen.add(key)
            yield from _of_list(text, key)
        elif text.peek() == "[":
            for _ in text.items("[", "]"):
                text.value()
        else:
            text.value()
    if seen != set(lists):
        raise _ShapeError


def _of_list(text: "_Text", key: str) -> Iterator[tuple[str, Any]]:
    if text.peek() != "[":
        raise _ShapeError
    for _ in text.items("[", "]"):
        yield key, text.value()


class _Text:
    """The text of a JSON file from the place that is read next on."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._buffer, self._place = "", 0
        self._suspect = False
        self._decode = json.JSONDecoder().raw_decode

    def _more(self, size: int = BLOCK) -> bool:
        """Read on, and let go of what is behind; tell whether there was anything."""
        text = self._file.read(size)
        if text:
            self._suspect |= strict_json.SUSPECT.search(self._buffer[-strict_json.REACH :] + text) is not None
            self._buffer, self._place = self._buffer[self._place :] + text, 0
        return bool(text)

    def peek(self) -> str:
        """Give the next character that is no white space; nothing at the end."""
        while True:
            while self._place < len(self._buffer):
                if self._buffer[self._place] not in _SPACE:
                    return self._buffer[self._place]
                self._place += 1
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        """Pass over a character that must come next."""
        if self.peek() != character:
            raise ValueError(f"{character!r} expected, not {self.peek() or 'the end'!r}")
        self._place += 1

    def items(self, first: str, last: str) -> Iterator[None]:
        """Stop at each item between brackets; the caller reads it before the next."""
        self.take(first)
        if self.peek() != last:
            yield
            while self.peek() == ",":
                self.take(",")
                yield
        self.take(last)

    def value(self) -> Any:
        """Read a whole value. One that ends with the buffer may go on behind it; a broken one is tried to the end."""
        self.peek()
        size = BLOCK
        while True:
            try:
                found, place = self._decode(self._buffer, self._place)
            except ValueError:
                if not self._more(size):
                    raise
            else:
                if place < len(self._buffer) or not self._more(size):
                    self._place = place
                    if self._suspect:
                        strict_json.check(found)
                    return found
            size *= 2  # so that a long value costs no more than twice its length

    def end(self) -> None:
        """Refuse anything behind the value."""
        if self.peek():
            raise ValueError("text behind the end")
