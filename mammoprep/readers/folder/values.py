"""What the values of label maps mean: `--values 1=benign,2=malignant`, or the labels in nnU-Net's dataset.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname, join

from mammoprep.errors import MammoprepError
from mammoprep.records import LabelMap

BACKGROUND = "background"
DATASET_JSON = "dataset.json"
"""Where nnU-Net says what its label maps mean, beside the folder of the maps."""
_IGNORE = "ignore"  # nnU-Net's name of what nobody labelled: it has no class, so that it is listed
_LARGEST, _WHITE = 0xFFFF, 0xFFFFFF


@dataclass(frozen=True, slots=True)
class Values:
    """The classes of values, as LabelMap has them."""

    classes: Mapping[int, str]
    in_colour: bool = False

    def of(self, source: str) -> LabelMap:
        """Give a label map of these values."""
        return LabelMap(source, self.classes, self.in_colour)


@dataclass(frozen=True, slots=True)
class Meanings:
    """What the user says of all maps, else what the dataset.json says in whose folder `labelsTr` one lies."""

    said: Values | None
    files: Mapping[str, Values]

    def of(self, path: str) -> Values | None:
        """Give what is known of a mask's values; None where it is an ordinary mask."""
        return self.said or self.files.get(join(dirname(dirname(path)), DATASET_JSON))


def meanings(root: Path, exports: tuple[str, ...], *, said: str) -> Meanings:
    """Give what `--values` says, and what the dataset.json of nnU-Net among the files of a raw folder say."""
    found = {path: _nnunet(root / path) for path in exports if basename(path) == DATASET_JSON}
    return Meanings(_parse(said) if said else None, {path: each for path, each in found.items() if each})


def _parse(text: str) -> Values:
    """Take apart `1=benign,2=malignant` or `ff0000=malignant`: six hexadecimal digits are a colour."""
    classes: dict[int, str] = {}
    kinds = set()
    for part in text.split(","):
        value, equals, name = (each.strip() for each in part.partition("="))
        value, in_colour = value.removeprefix("#"), len(value.removeprefix("#")) == len("rrggbb")
        try:
            number = int(value, 16 if in_colour else 10)
        except ValueError:
            number = -1
        if not (equals and name and value.isalnum() and 0 <= number <= (_WHITE if in_colour else _LARGEST)):
            raise MammoprepError(f"--values {part} is not VALUE=CLASS, such as 1=benign or ff0000=malignant.")
        if number in classes or (number == 0 and name.casefold() != BACKGROUND):
            why = "is there twice" if number else "is always background"
            raise MammoprepError(f"--values {part}: the value {value} {why}. Take it out.")
        classes[number] = _named(name)
        kinds.add(in_colour)
    if len(kinds) > 1:
        raise MammoprepError("--values has numbers and colours (six hexadecimal digits). Say one kind.")
    return Values(classes, kinds.pop())


def _nnunet(path: Path) -> Values | None:
    """Read the labels of nnU-Net 2 (`{"mass": 1}`) or 1 (`{"1": "mass"}`); None for other files, and for regions."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not {"channel_names", "modality"} & content.keys():
        return None
    pairs = [(key, value) if str(key).isdecimal() else (value, key) for key, value in labels.items()]
    try:
        classes = {int(value): _named(str(name)) for value, name in pairs if str(name).casefold() != _IGNORE}
    except (TypeError, ValueError):
        return None
    return Values(classes)


def _named(name: str) -> str:
    return "" if name.casefold() == BACKGROUND else name
