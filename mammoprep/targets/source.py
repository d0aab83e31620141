"""A DATASET as the writers of other formats take it: image by image, with its lesions, its row and its part."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mammoprep import panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic import Category, Image, Mask, Panoptic
from mammoprep.parallel import Workers, each

PARTS = ("train", "val")
_DEPTH = 24
"""The byte of a PNG that says the bits a channel (clause 11.2.1)."""
_AGAIN = "Type `mammoprep check` for what is wrong with it."
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Lesion:
    """A finding: its class, and its `entry` of instances.json, which holds its whole outline."""

    category: Category
    entry: Mapping[str, Any]

    @property
    def mask(self) -> Mask:
        """Draw it as (H, W)."""
        return panoptic.decode_rle(self.entry["segmentation"])


@dataclass(frozen=True, slots=True)
class Case:
    """One image: its lesions in the order of instances.json, its `row` of cases.csv, its `part` of a fold, else ""."""

    image: Image
    lesions: tuple[Lesion, ...]
    row: Mapping[str, str]
    part: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported, and the number of images that are written at a time. `raw` is the raw folder, if named."""

    content: Panoptic
    cases: tuple[Case, ...]
    workers: int = 1
    raw: Path | None = None
    on_progress: Callable[[int, int], None] | None = None

    @property
    def root(self) -> Path:
        """Give the DATASET's folder."""
        return self.content.root

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the parts of the fold; one without a name where there is none."""
        return PARTS if any(case.part for case in self.cases) else ("",)

    def stuff_of(self, case: Case) -> int:
        """Count an image's segments of stuff."""
        things = {category.id for category in self.content.things}
        return sum(segment.category_id not in things for segment in case.image.segments)

    def each(self, write: Callable[[Case], _Result]) -> Iterator[_Result]:
        """Write each image; yield what `write` gives for it, in the order of the images."""
        for done, result in enumerate(each(write, self.cases, workers=Workers(self.workers)), start=1):
            if self.on_progress:
                self.on_progress(done, len(self.cases))
            yield result

    def copy_image(self, case: Case, to: Path) -> None:
        """Copy an image as it is stored."""
        shutil.copyfile(self._stored(case), to)

    def write_8_bit(self, case: Case, to: Path) -> bool:
        """Copy an image; one of 16 bits becomes one of 8. Tell whether it was."""
        stored = self._stored(case)
        with stored.open("rb") as file:
            is_deep = file.read(_DEPTH + 1)[_DEPTH:] == b"\x10"
        if is_deep:
            panoptic.write_png(to, (panoptic.read_png(stored) >> 8).astype(np.uint8))
        else:
            shutil.copyfile(stored, to)
        return is_deep

    def _stored(self, case: Case) -> Path:
        path = self.root / "images" / f"{case.image.name}.png"
        if not path.is_file():
            raise MissingFileError(path, hint=_AGAIN)
        return path


def load(root: Path, *, fold: int | None = None) -> tuple[Panoptic, tuple[Case, ...]]:
    """Load a DATASET's tables; with a `fold` only the images in one of its parts. Raises MammoprepError."""
    content = panoptic.load(root)
    if len({image.name for image in content.images}) < len(content.images):
        raise MammoprepError(f"{root / 'panoptic.json'} gives one file name to two images. {_AGAIN}")
    rows = {row.get("image_id", ""): row for row in panoptic.read_cases(root)}
    lesions = _lesions(content)
    parts = _parts(content, fold)
    cases = []
    for image in content.images:
        if image.name not in rows:
            raise MammoprepError(f"{root / 'cases.csv'} has no row of the image {image.name}. {_AGAIN}")
        if image.id in parts:
            cases.append(Case(image, tuple(lesions.get(image.id, ())), rows[image.name], parts[image.id]))
    if not cases:
        raise MammoprepError(f"{root} holds no image to export.")
    return content, tuple(cases)


def _parts(content: Panoptic, fold: int | None) -> dict[int, str]:
    if fold is None:
        return dict.fromkeys((image.id for image in content.images), "")
    sides = zip(PARTS, panoptic.load_fold(content.root, fold), strict=True)
    return {number: part for part, numbers in sides for number in numbers}


def _lesions(content: Panoptic) -> dict[int, list[Lesion]]:
    """Give the entries of instances.json by image; one that cannot be drawn is an error."""
    path = content.root / "instances.json"
    things = {category.id: category for category in content.things}
    sizes = {image.id: [image.height, image.width] for image in content.images}
    found: dict[int, list[Lesion]] = {}
    wrong = f"{path} is not COCO instances. {_AGAIN}"
    entries = panoptic.read_entries(path, ("annotations",), hint="It holds the lesions' whole outlines.", wrong=wrong)
    for number, (_, entry) in enumerate(entries, start=1):
        try:
            image, category = entry["image_id"], things[entry["category_id"]]
            if entry["segmentation"]["size"] != sizes[image]:
                raise ValueError("its run-length code is of another size than the image")
            if not any(panoptic.run_lengths(entry["segmentation"])[1::2]):
                raise ValueError("it has no pixel")
        except (KeyError, TypeError, ValueError) as error:
            raise MammoprepError(f"{path}: annotation {number} cannot be drawn ({error}). {_AGAIN}") from error
        found.setdefault(image, []).append(Lesion(category, entry))
    return found
