"""What a reviewer said of a DATASET's images and findings: marks in a JSON file, and the raw data that they are of."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mammoprep import strict_json
from mammoprep.errors import MammoprepError, MissingFileError

REVIEW = "review.json"
"""The review that a DATASET was converted with, in its folder."""
FORMAT = 1
Word = Literal["accept", "reject", ""]
_HINT = "Save it from the pages of `mammoprep gallery`."


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of an image, or of its finding that stands at `finding` in the annotation files ("" for the image)."""

    image: str
    finding: str
    mark: Word
    comment: str


@dataclass(frozen=True, slots=True)
class Review:
    """A review file as it was read: of whose raw data it is (`identity_of`), and its marks."""

    path: Path
    content: bytes
    identity: str
    marks: tuple[Mark, ...]

    @property
    def sha256(self) -> str:
        """Give the SHA-256 of the file."""
        return hashlib.sha256(self.content).hexdigest()


def identity_of(manifest: Mapping[str, Any]) -> str:
    """Give the SHA-256 of what manifest.json says of the raw data: the reader and its annotation files' hashes.

    Another size or recipe keeps it, so that a review outlives them.
    """
    told = {"dataset": manifest.get("dataset"), "inputs": manifest.get("inputs")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def load_review(path: Path) -> Review:
    """Load a review file."""
    if not path.is_file():
        raise MissingFileError(path, hint=_HINT)
    try:
        data = path.read_bytes()
        content = strict_json.loads(data.decode())
        if content["format"] != FORMAT:
            raise ValueError("its format is another one")
        marks, identity = tuple(_mark(entry) for entry in content["marks"]), content["dataset"]
        if not isinstance(identity, str):
            raise TypeError("it names no data set")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise MammoprepError(f"{path} cannot be read as a review ({error}). {_HINT}") from error
    twice = [place for place, count in Counter((mark.image, mark.finding) for mark in marks).items() if count > 1]
    if twice:
        raise MammoprepError(f"{path} marks {' '.join(twice[0]).strip()} twice. {_HINT}")
    return Review(path, data, identity, marks)


def _mark(entry: Mapping[str, Any]) -> Mark:
    image, finding, comment = (entry.get(name) or "" for name in ("image", "finding", "comment"))
    mark: Any = entry.get("mark") or ""
    if not (image and all(isinstance(text, str) for text in (image, finding, comment)) and mark in get_args(Word)):
        raise ValueError("a mark has no image, or is neither accept nor reject")
    return Mark(image, finding, mark, comment)
