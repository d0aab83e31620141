"""Records under pseudonyms: all that a reader says of patients, studies and files, and no word that is in no list."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from posixpath import basename
from typing import Any, get_args

from mammoprep.pixels import MAKERS, VIEWS, WORDS
from mammoprep.pseudo_mask.recipe import Method
from mammoprep.pseudonyms import Pseudonyms, listed
from mammoprep.records import Classes, Finding, LabelMap, MaskFile, Reader, Record, Skipped
from mammoprep.tables import number

_PLACE = re.compile(r"(?: (?:annotation|category|image|region|ROI|row|segment|shape|track) \d{1,6})*")
"""Where something stands in a file: the end of `lesions.csv row 17`."""
_FACTS = {
    "view": {view.casefold() for view in VIEWS},
    "density": set("abcd1234"),
    "split": {"train", "training", "val", "valid", "validation", "dev", "development", "test", "testing"},
}
"""What a record may say in words, in small letters."""
_ATTRIBUTES = {
    *("shape", "class", "name", "pathology", "severity", "tissue", "abnormality_type", "findings", "cancer_laterality"),
    *("birads", "finding_birads", "breast_birads", "finding_categories", "subtlety"),
}
_SHAPES = {
    *("box", "rect", "rectangle", "polygon", "polyline", "ellipse", "circle", "point", "points", "line", "linestrip"),
    *("mask", "label map", "dicom seg"),
}
_GRADE = re.compile(r"(?:BI-RADS )?[0-6][a-c]?|[LRFGD]|left|right", re.IGNORECASE)
_MADE = {"pseudo_mask": ("method", "threshold", "fallback"), "mask_file": ("scale_x", "scale_y", "residual")}
_METHODS = [("method", method) for method in get_args(Method)]
_MEASURES = ("native_height", "native_width", "crop_x0", "crop_y0", "scale_x", "scale_y", "pixel_spacing_mm")
_CELLS: Mapping[str, Callable[[str], bool]] = {
    **dict.fromkeys(_MEASURES, lambda cell: number(cell) is not None),
    "manufacturer": MAKERS.__contains__,
    "attributes": lambda cell: set(cell.split("; ")) <= WORDS,
}
"""The cells of an earlier conversion's cases.csv that go on, and what they may hold."""


def pseudonymised(reader: Reader, names: Pseudonyms) -> Reader:
    """Give a reader in whose outputs pseudonyms stand for patients, studies and files.

    Class names stay as they are. Of the other words that tables and annotations hold, those in the lists of this module
    and the class names go on; a view, density or split that falls away is listed. Images are numbered anew.
    """
    return replace(reader, read=partial(_read, reader=reader, names=names), called=names.of_file, key=names.fingerprint)


def _read(root: Path, *, reader: Reader, names: Pseudonyms, **options: Any) -> Iterator[Record | Skipped | Classes]:
    found = listed(root)
    paths = {basename(path): path for path in found} | {path: path for path in found}
    words = {name.casefold() for scheme in reader.labels.values() for name in scheme}
    call = _Renaming(names, paths, words | _SHAPES)
    for item in reader.read(root, **options):
        if isinstance(item, Record):
            yield from call.record(item)
        elif isinstance(item, Skipped):
            yield replace(item, source=call.place(item.source))
        else:
            call.words.update(name.casefold() for name in item.names)
            yield item


@dataclass(frozen=True, slots=True)
class _Renaming:
    """Renames what one reader yields.

    `paths` are those of the raw folder, by themselves and by their last part; `words` may stand in attributes.
    """

    names: Pseudonyms
    paths: Mapping[str, str]
    words: set[str]

    def place(self, text: str) -> str:
        """Rename a file, or a place in a file, which is kept where it is a number of a row, a shape ….

        Also where blanks are in the path: what is longest and is there counts.
        """
        path = text
        while path and path not in self.paths and basename(path) not in self.paths:
            path = path.rpartition(" ")[0]
        rest = text[len(path) :]
        if not path or not rest:
            return self.names.of_file(text)
        found = self.paths.get(path) or self.paths[basename(path)]
        return self.names.of_file(found) + (rest if _PLACE.fullmatch(rest) else "")

    def record(self, record: Record) -> Iterator[Record | Skipped]:
        """Rename an image; before it comes what falls away of it."""
        shown = self.names.of_file(record.source)
        facts = {name: getattr(record, name) for name in _FACTS}
        for name, word in facts.items():
            if word and word.casefold() not in _FACTS[name]:
                facts[name] = ""
                yield Skipped(shown, "table", f"its {name} is no word that is known, and might be a name: left out")
        given = {name: cell for name, cell in record.given.items() if name in _CELLS and _CELLS[name](cell)}
        yield replace(
            record,
            **facts,
            image_id=shown,
            patient_id=self.names.of("patient", record.patient_id),
            study_id=self.names.of("study", record.study_id),
            findings=tuple(map(self._finding, record.findings)),
            number=0,
            given={**given, "source": shown},
        )

    def _finding(self, finding: Finding) -> Finding:
        shape = finding.shape
        if isinstance(shape, MaskFile):
            shape = replace(shape, shown=tuple(map(self.names.of_file, shape.sources)))
        elif isinstance(shape, LabelMap):
            shape = replace(shape, shown=self.names.of_file(shape.source))
        return replace(
            finding,
            shape=shape,
            source=self.place(finding.source),
            attributes={name: value for name, value in finding.attributes.items() if self._may_say(name, value)},
            made={name: made for name, facts in finding.made.items() if (made := self._made(name, facts))},
        )

    def _may_say(self, name: str, value: object) -> bool:
        words = map(str, value if isinstance(value, list) else [value])
        return name in _ATTRIBUTES and all(word.casefold() in self.words or _GRADE.fullmatch(word) for word in words)

    def _made(self, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Give how a mask was made in numbers and methods' names, its file renamed; nothing where other words are."""
        kept = {key: facts.get(key, "") for key in _MADE.get(name, ())}
        if not all(_is_number(value) or (key, value) in _METHODS for key, value in kept.items()):
            return {}
        return kept | ({"source": self.place(str(facts["source"]))} if "source" in facts else {})


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)
