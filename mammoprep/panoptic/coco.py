"""COCO panoptic: classes, images and their segments, and the other tables of a DATASET."""

import csv
import gc
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.panoptic.folder import read_json
from mammoprep.panoptic.png import Ids, read_ids
from mammoprep.panoptic.stream import read_entries, write_entries

FORMAT = 1
"""The version of a DATASET's layout, which manifest.json names."""
STUFF = ("breast", "background")
CASE_COLUMNS = (
    *("image_id", "patient_id", "study_id", "laterality", "view", "density", "split", "native_height", "native_width"),
    *("crop_x0", "crop_y0", "scale_x", "scale_y", "pixel_spacing_mm", "manufacturer", "n_findings", "lesion_free"),
    "source",
)
"""The columns that cases.csv has; more may follow."""
LEFT_OUT = -1
"""The area of a segment of which only the PNG tells it, as other tools write predictions."""
_THING_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (213, 94, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (0, 114, 178),
    (148, 103, 189),
    (140, 86, 75),
    (23, 190, 207),
)
_STUFF_COLOURS = {"pectoral muscle": (90, 60, 60), "breast": (120, 120, 120), "background": (20, 20, 20)}
_GREY = (60, 60, 60)
_LARGEST = 2**31
"""No number of pixels reaches it."""
_SEGMENT_KEYS = frozenset({"id", "category_id", "area", "bbox", "iscrowd", "score"})


@dataclass(frozen=True, slots=True)
class Category:
    """A class: id from 1, things before stuff."""

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """Give COCO's dictionary."""
        return {"id": self.id, "name": self.name, "isthing": int(self.isthing), "color": list(self.color)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Category":
        """Read COCO's dictionary; a class without a colour becomes grey."""
        red, green, blue = entry.get("color", _GREY)
        return cls(entry["id"], entry["name"], bool(entry["isthing"]), (red, green, blue))


@dataclass(frozen=True, slots=True)
class Segment:
    """One entry of `segments_info`: area in pixels, bbox [x, y, w, h]; `extra` holds the keys that are not COCO's."""

    id: int
    category_id: int
    area: int
    bbox: tuple[int, int, int, int]
    iscrowd: bool = False
    score: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give COCO's dictionary, with `score` where there is one."""
        score = {} if self.score is None else {"score": self.score}
        return {
            "id": self.id,
            "category_id": self.category_id,
            "area": self.area,
            "bbox": list(self.bbox),
            "iscrowd": int(self.iscrowd),
            **score,
            **self.extra,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Segment":
        """Read COCO's dictionary; what COCO does not know goes to `extra`. A left-out `area` is LEFT_OUT."""
        x, y, width, height = entry.get("bbox", (0, 0, 0, 0))
        return cls(
            id=entry["id"],
            category_id=entry["category_id"],
            area=entry.get("area", LEFT_OUT),
            bbox=(x, y, width, height),
            iscrowd=bool(entry.get("iscrowd", 0)),
            score=entry.get("score"),
            extra={key: value for key, value in entry.items() if key not in _SEGMENT_KEYS},
        )


@dataclass(frozen=True, slots=True)
class Image:
    """One image with its segments. `name` is the readable id: the file name without its ending."""

    id: int
    name: str
    height: int
    width: int
    segments: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give COCO's dictionary of the image itself."""
        return {"id": self.id, "file_name": f"{self.name}.png", "height": self.height, "width": self.width}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], segments: Sequence[Mapping[str, Any]] = ()) -> "Image":
        """Read COCO's dictionary of an image and its `segments_info`."""
        return cls(
            id=entry["id"],
            name=os.path.splitext(os.path.basename(entry["file_name"]))[0],  # ten times as fast as Path.stem
            height=entry["height"],
            width=entry["width"],
            segments=tuple(map(Segment.from_json, segments)),
        )


@dataclass(frozen=True, slots=True)
class Panoptic:
    """What panoptic.json says: categories and images, each in the order of their ids."""

    root: Path
    categories: tuple[Category, ...]
    images: tuple[Image, ...]

    @property
    def things(self) -> tuple[Category, ...]:
        """Give the thing classes."""
        return tuple(category for category in self.categories if category.isthing)

    def ids_of(self, image: Image) -> Ids:
        """Read an image's map of segment ids (H, W)."""
        return read_ids(self.root / "panoptic" / f"{image.name}.png")


def make_categories(things: Sequence[str], stuff: Sequence[str] = STUFF) -> tuple[Category, ...]:
    """Give the classes ids from 1, things first, and a colour each."""
    rows = [(name, True, _THING_COLOURS[i % len(_THING_COLOURS)]) for i, name in enumerate(things)]
    rows += [(name, False, _STUFF_COLOURS.get(name, _GREY)) for name in stuff]
    return tuple(Category(i, name, thing, colour) for i, (name, thing, colour) in enumerate(rows, start=1))


def write_panoptic(root: Path, *, categories: Sequence[Category], images: Iterable[Image]) -> None:
    """Write panoptic.json; images that can be gone through twice are held in memory one at a time."""
    listed = list(images) if isinstance(images, Iterator) else images
    annotations = (
        {"file_name": f"{image.name}.png", "image_id": image.id, "segments_info": [s.to_json() for s in image.segments]}
        for image in listed
    )
    write_entries(
        root / "panoptic.json",
        {
            "images": (image.to_json() for image in listed),
            "annotations": annotations,
            "categories": (category.to_json() for category in categories),
        },
    )


@dataclass(frozen=True, slots=True)
class Listed:
    """The `segments_info` of one image, whose id it names."""

    image_id: int
    segments: tuple[Segment, ...]


def read(root: Path) -> Iterator[Category | Image | Listed]:
    """Yield what panoptic.json of a DATASET or a PREDICTIONS folder holds, entry by entry in the order of the file.

    Images come without their segments. No more than an entry is in memory.
    """
    path = root / "panoptic.json"
    entries = read_entries(
        path,
        ("images", "annotations", "categories"),
        hint="A DATASET is written by `mammoprep convert`, PREDICTIONS by `mammoprep predict`.",
        wrong=f"{path} is not COCO panoptic: it lacks the list images, annotations or categories.",
    )
    for key, entry in entries:
        try:
            found = _parse(key, entry)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MammoprepError(f"{path} is not COCO panoptic: {error!s} is missing or of another type.") from error
        yield found


def _parse(key: str, entry: Mapping[str, Any]) -> Category | Image | Listed:
    if key == "categories":
        return Category.from_json(entry)
    if key == "images":
        return Image.from_json(entry)
    return Listed(entry["image_id"], tuple(map(Segment.from_json, entry["segments_info"])))


def load(root: Path) -> Panoptic:
    """Load panoptic.json of a DATASET or a PREDICTIONS folder."""
    categories: list[Category] = []
    images: list[Image] = []
    segments: dict[int, tuple[Segment, ...]] = {}
    with no_collection():
        for found in read(root):
            if not _is_typed(found):
                raise MammoprepError(
                    f"{root / 'panoptic.json'} is not COCO panoptic: a number or a name is of another type."
                )
            if isinstance(found, Category):
                categories.append(found)
            elif isinstance(found, Image):
                images.append(found)
            elif segments.setdefault(found.image_id, found.segments) is not found.segments:
                raise not_one_each(root)
        if segments.keys() - {image.id for image in images}:
            raise not_one_each(root)
        images = [replace(image, segments=segments.get(image.id, ())) for image in images]
    by_id = attrgetter("id")
    return Panoptic(root, tuple(sorted(categories, key=by_id)), tuple(sorted(images, key=by_id)))


def _is_typed(found: Category | Image | Listed) -> bool:
    """Tell whether ids, sizes and names are what they are used as."""
    if isinstance(found, Category):
        return isinstance(found.name, str) and all(type(number) is int for number in (found.id, *found.color))
    if isinstance(found, Image):
        return type(found.id) is int and all(
            type(side) is int and 0 < side < _LARGEST for side in (found.height, found.width)
        )
    numbers = (number for segment in found.segments for number in (segment.area, *segment.bbox))
    ids = (number for segment in found.segments for number in (segment.id, segment.category_id))
    return all(type(number) is int for number in (found.image_id, *ids)) and all(
        isinstance(number, int | float) and abs(number) < _LARGEST for number in numbers
    )


def not_one_each(root: Path) -> MammoprepError:
    """Give the error for segments that belong to no image, or are not the only ones of theirs."""
    return MammoprepError(
        f"{root / 'panoptic.json'} annotates an image twice, or one that it does not list. Write it again."
    )


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the garbage collector: where much is made and nothing dropped, it takes more than half of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def load_instances(root: Path) -> Any:
    """Load instances.json: COCO's dictionary for a DATASET, a COCO result list for PREDICTIONS."""
    return read_json(root / "instances.json", hint="It holds the COCO instances.")


def load_cases(root: Path) -> list[dict[str, str]]:
    """Load cases.csv: one dictionary of texts an image, in the order of the file."""
    return list(read_cases(root))


def read_cases(root: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of cases.csv, as `load_cases`."""
    path = root / "cases.csv"
    if not path.is_file():
        raise MissingFileError(path, hint="A DATASET is written by `mammoprep convert`.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, restval=""):
                yield {column: cell for column, cell in row.items() if column is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MammoprepError(f"{path} cannot be read as CSV in UTF-8. Write it again, or convert again.") from error


def load_fold(root: Path, fold: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the integer image ids (train, val) of one fold of folds.json."""
    folds = load_folds(root)
    if not 0 <= fold < len(folds):
        raise MammoprepError(f"{root / 'folds.json'} has no fold {fold}. Folds: 0 … {len(folds) - 1}.")
    return folds[fold]


def load_folds(root: Path) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Give the integer image ids (train, val) of each fold of folds.json."""
    path, hint = root / "folds.json", f"Type `mammoprep folds {root}` first."
    content = read_json(path, hint=hint)
    try:
        return tuple((tuple(fold["train"]), tuple(fold["val"])) for fold in content["folds"])
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} does not list folds of image ids. {hint}") from error
