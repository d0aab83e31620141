"""panoptic.json and instances.json entry by entry: what can be used, and what is wrong with the rest."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mammoprep import panoptic
from mammoprep.check.rules import Edit, Problem
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import MAX_ID, Category, Image, Rle, Segment
from mammoprep.shelf import Shelf

PANOPTIC, INSTANCES = "panoptic.json", "instances.json"
_HINT = "A DATASET is written by `mammoprep convert`."


@dataclass(frozen=True, slots=True)
class Instance:
    """An entry of instances.json; `index` is its position in the list."""

    index: int
    category_id: int
    code: Rle
    bbox: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """An image, the positions in panoptic.json of its annotation and of each segment, and its instances."""

    image: Image
    annotation: int = 0
    positions: tuple[int, ...] = ()
    instances: tuple[Instance, ...] = ()


@dataclass(slots=True)
class Brief:
    """What is kept of an image in memory; `findings` counts its thing segments, `rows` those of cases.csv."""

    id: int
    name: str
    height: int
    width: int
    findings: int = 0
    rows: int = 0
    lesion_free: bool = False


@dataclass(slots=True)
class Content:
    """What the two files say as far as it can be used, and what is wrong with them.

    `images` are by id, `names` has the same by name, `drawn` counts the segments of each class. `has_instances` says
    that instances.json is there and can be read.
    """

    categories: list[Category] = field(default_factory=list)
    images: dict[int, Brief] = field(default_factory=dict)
    names: dict[str, Brief] = field(default_factory=dict)
    drawn: Counter[int] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    has_instances: bool = False
    on_disk: Shelf[Drawn] = field(default_factory=Shelf)
    instances: Shelf[tuple[int, Instance]] = field(default_factory=Shelf)

    @property
    def things(self) -> set[int]:
        """Give the ids of the thing classes."""
        return {category.id for category in self.categories if category.isthing}

    def whole(self) -> Iterator[Drawn]:
        """Yield the images in the order of their ids, with all that the two files say of them."""
        rest = iter(self.instances)
        coming = next(rest, None)
        for drawn in self.on_disk:
            found = []
            while coming and coming[0] == drawn.image.id:
                found.append(coming[1])
                coming = next(rest, None)
            yield replace(drawn, instances=tuple(found))

    def add(self, rule: str, where: str, what: str) -> None:
        """Take a problem in."""
        self.problems.append(Problem(rule, where, what))


def _is_whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_id(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_flag(value: Any) -> bool:
    return type(value) is int and value in (0, 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value  # which no path may hold


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_whole, value))


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_whole(part) and part < 256 for part in value)


def _is_code(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("counts"), str):
        return False
    size = value.get("size")
    return isinstance(size, list) and len(size) == 2 and all(map(_is_id, size))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


Keys = Mapping[str, Callable[[Any], bool]]
_CATEGORY: Keys = {"id": _is_id, "name": _is_text, "isthing": _is_flag, "color": _is_colour}
_IMAGE: Keys = {"id": _is_id, "file_name": _is_text, "height": _is_id, "width": _is_id}
_ANNOTATION: Keys = {"image_id": _is_id, "file_name": _is_text, "segments_info": _is_list}
_SEGMENT: Keys = {"id": _is_whole, "category_id": _is_id, "area": _is_whole, "bbox": _is_box, "iscrowd": _is_flag}
_PSEUDO_MASK: Keys = {"method": _is_text, "threshold": lambda _: True, "fallback": lambda value: type(value) is bool}
_INSTANCE: Keys = {
    **{"id": _is_id, "image_id": _is_id, "category_id": _is_id, "segmentation": _is_code},
    **{"bbox": _is_box, "area": _is_whole, "iscrowd": _is_flag},
}


def _usable(entry: Any, keys: Keys, *, where: str, content: Content) -> bool:
    """Tell whether an entry has all of its keys, each of its type; take a problem in where it has not."""
    if not isinstance(entry, dict):
        content.add("entry", where, "it is no JSON object")
        return False
    wrong = [key for key, fits in keys.items() if key not in entry or not fits(entry[key])]
    if wrong:
        content.add("entry", where, f"{wrong[0]} is {'of another kind' if wrong[0] in entry else 'missing'}")
    return not wrong


def read(dataset: Path) -> Content:
    """Read both files; raises MammoprepError where panoptic.json is missing or no COCO panoptic at all."""
    content, images = Content(), sha256()
    categories = [entry for _, entry in _of(dataset, "categories")]
    _read_categories(categories, content)
    for position, (_, entry) in enumerate(_of(dataset, "images")):
        images.update(_bytes(entry))
        _read_image(position, entry, content)
    _read_annotations((entry for _, entry in _of(dataset, "annotations")), content)
    if (dataset / INSTANCES).exists():
        things = [entry for entry in categories if isinstance(entry, dict) and entry.get("isthing")]
        _read_instances(dataset, content, images=images.digest(), things=things)
    return content


def _of(dataset: Path, wanted: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of one list of panoptic.json: as the lists come in any order, each is read for itself."""
    lists = ("images", "annotations", "categories")
    wrong = f"{dataset / PANOPTIC} is not COCO panoptic: it lacks the list images, annotations or categories. {_HINT}"
    found = panoptic.read_entries(dataset / PANOPTIC, lists, hint=_HINT, wrong=wrong)
    return ((name, entry) for name, entry in found if name == wanted)


def _bytes(entry: Any) -> bytes:
    return json.dumps(entry, sort_keys=True).encode()


def _read_categories(entries: list[Any], content: Content) -> None:
    for position, entry in enumerate(entries):
        if _usable(entry, _CATEGORY, where=f"{PANOPTIC} categories[{position}]", content=content):
            content.categories.append(Category.from_json(entry))
    found = content.categories
    if [category.id for category in found] != list(range(1, len(found) + 1)):
        content.add("category", PANOPTIC, "the ids are not 1, 2, 3 … in this order")
    if sorted(found, key=lambda category: not category.isthing) != found:
        content.add("category", PANOPTIC, "a stuff class stands before a thing class")
    for name, count in Counter(category.name for category in found).items():
        if count > 1:
            content.add("category", PANOPTIC, f"{count} classes are called {name!r}")


def _read_image(position: int, entry: Any, content: Content) -> None:
    where = f"{PANOPTIC} images[{position}]"
    if not _usable(entry, _IMAGE, where=where, content=content):
        return
    image = Image.from_json(entry)
    if image.id in content.images:
        content.add("image-id", where, f"the id {image.id} is taken")
        return
    if entry["file_name"] != f"{image.name}.png" or image.name in content.names:
        taken = "is taken" if image.name in content.names else "is no name of a PNG in images/"
        content.add("file-name", where, f"{entry['file_name']!r} {taken}")
    brief = Brief(image.id, image.name, image.height, image.width)
    content.images[image.id] = content.names[image.name] = brief


def _read_annotations(entries: Iterable[Any], content: Content) -> None:
    annotated: set[int] = set()
    things = content.things
    for index, entry in enumerate(entries):
        where = f"{PANOPTIC} annotations[{index}]"
        if not _usable(entry, _ANNOTATION, where=where, content=content):
            continue
        number = entry["image_id"]
        if number not in content.images or number in annotated:
            state = "is annotated already" if number in annotated else "is not listed"
            content.add("annotation", where, f"image {number} {state}")
            continue
        annotated.add(number)
        brief = content.images[number]
        if entry["file_name"] != f"{brief.name}.png":
            content.add("file-name", where, f"{entry['file_name']!r} is not that of its image, {brief.name}.png")
        segments = tuple(_segments(entry["segments_info"], brief.name, content))
        content.drawn.update(segment.category_id for _, segment in segments)
        brief.findings = sum(segment.category_id in things for _, segment in segments)
        drawn = Drawn(_image(brief, segments), index, tuple(position for position, _ in segments))
        content.on_disk.put(drawn, number=number)
    for number in content.images.keys() - annotated:
        brief = content.images[number]
        content.add("annotation", f"{PANOPTIC} image {brief.name}", "it has no annotation")
        content.on_disk.put(Drawn(_image(brief)), number=number)


def _image(brief: Brief, segments: Iterable[tuple[int, Segment]] = ()) -> Image:
    return Image(brief.id, brief.name, brief.height, brief.width, tuple(segment for _, segment in segments))


def _segments(entries: list[Any], name: str, content: Content) -> Iterator[tuple[int, Segment]]:
    """Yield the position and the segment of each entry of an image that can be used."""
    classes, seen = {category.id for category in content.categories}, set()
    for position, entry in enumerate(entries):
        where = f"{PANOPTIC} image {name} segments_info[{position}]"
        if not _usable(entry, _SEGMENT, where=where, content=content):
            continue
        if "pseudo_mask" in entry:
            _usable(entry["pseudo_mask"], _PSEUDO_MASK, where=f"{where} pseudo_mask", content=content)
        segment = Segment.from_json(entry)
        if not 0 < segment.id <= MAX_ID or segment.id in seen:
            content.add("segment-id", where, f"the id {segment.id} {'is taken' if segment.id in seen else 'is none'}")
            continue
        if segment.category_id not in classes:
            content.add("segment-category", where, f"category {segment.category_id} is not listed")
        seen.add(segment.id)
        yield position, segment


def _read_instances(dataset: Path, content: Content, *, images: bytes, things: list[Any]) -> None:
    """Read instances.json; `images` is the hash of the images of panoptic.json, `things` are its thing classes."""
    wrong = f"{dataset / INSTANCES} lacks the list images, annotations or categories."
    lists = ("images", "annotations", "categories")
    problems, digest, categories, seen, index = len(content.problems), sha256(), list[Any](), set[int](), -1
    try:
        for name, entry in panoptic.read_entries(dataset / INSTANCES, lists, hint=_HINT, wrong=wrong):
            if name == "images":
                digest.update(_bytes(entry))
            elif name == "categories":
                categories.append(entry)
            else:
                index += 1
                where = f"{INSTANCES} annotations[{index}]"
                if _usable(entry, _INSTANCE, where=where, content=content):
                    _add_instance(index, entry, where=where, seen=seen, content=content)
    except MammoprepError:
        del content.problems[problems:]
        content.instances = Shelf()
        content.add("files", INSTANCES, "it is no readable COCO file of instances")
        return
    content.has_instances = True
    if digest.digest() != images:
        _add_list("images", [entry for _, entry in _of(dataset, "images")], content)
    if categories != things:
        _add_list("categories", things, content)


def _add_list(name: str, listed: list[Any], content: Content) -> None:
    mend = Edit(INSTANCES, (name,), listed)
    content.problems.append(Problem("instances-lists", INSTANCES, f"{name} are not those of {PANOPTIC}", mend))


def _add_instance(index: int, entry: Mapping[str, Any], *, where: str, seen: set[int], content: Content) -> None:
    if entry["id"] in seen:
        content.add("instance-id", where, f"the id {entry['id']} is taken")
    seen.add(entry["id"])
    is_listed = entry["image_id"] in content.images
    if not is_listed or entry["category_id"] not in content.things:
        what = "category_id" if is_listed else "image_id"
        content.add("instance-of", where, f"{what} {entry[what]} is {'no thing class' if is_listed else 'not listed'}")
        return
    x, y, width, height = entry["bbox"]
    made = Instance(index, entry["category_id"], entry["segmentation"], (x, y, width, height), entry["area"])
    content.instances.put((entry["image_id"], made), number=entry["image_id"])
