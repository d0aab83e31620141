"""COCO-panoptic on disk: id <-> RGB, write, load; the only file that knows the format."""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from mammoprep.errors import MammoprepError, MissingFileError

Ids = NDArray[np.int32]
"""A map of segment ids (H, W); 0 is VOID."""
Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""

STUFF = ("breast", "background")
MAX_ID = 256**3 - 1
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
_STUFF_COLOURS = {"breast": (120, 120, 120), "background": (20, 20, 20)}


class Rle(TypedDict):
    """COCO's compressed run-length code: `size` is [height, width], `counts` ASCII text."""

    size: list[int]
    counts: str


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
    rows += [(name, False, _STUFF_COLOURS.get(name, (60, 60, 60))) for name in stuff]
    return tuple(Category(i, name, thing, colour) for i, (name, thing, colour) in enumerate(rows, start=1))


def write_ids(path: Path, ids: Ids) -> None:
    """Write a map of segment ids (H, W), 0 … 2^24 - 1, as an RGB PNG: id = R + 256·G + 65536·B."""
    if ids.min(initial=0) < 0 or ids.max(initial=0) > MAX_ID:
        raise MammoprepError(f"{path}: segment ids must lie in 0 … {MAX_ID}.")
    channels = [(ids >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    write_png(path, np.stack(channels, axis=-1))


def read_ids(path: Path) -> Ids:
    """Read the map of segment ids (H, W) that `write_ids` wrote."""
    blue_green_red = read_png(path)
    if blue_green_red.ndim != 3 or blue_green_red.shape[2] != 3 or blue_green_red.dtype != np.uint8:
        raise MammoprepError(f"{path} is no RGB PNG with 8 bits a channel. A panoptic PNG holds R + 256·G + 65536·B.")
    blue, green, red = (blue_green_red[..., channel].astype(np.int32) for channel in range(3))
    ids: Ids = red | green << 8 | blue << 16
    return ids


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write a grey (H, W) or BGR (H, W, 3) array of 8 or 16 bits as PNG."""
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise MammoprepError(f"{path} could not be encoded as PNG.")
    path.write_bytes(data.tobytes())


def read_png(path: Path) -> NDArray[Any]:
    """Read an image file as it is stored: grey (H, W) or BGR (H, W, 3)."""
    if not path.is_file():
        raise MissingFileError(path, hint="panoptic.json names it; was the folder copied whole?")
    data = np.fromfile(path, dtype=np.uint8)
    pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if pixels is None:
        raise MammoprepError(f"{path} is not a readable PNG. Write it again.")
    return pixels


def encode_rle(mask: Mask) -> Rle:
    """Give COCO's compressed run-length code of a mask (H, W)."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decode_rle(code: Rle) -> Mask:
    """Give the mask (H, W) of a compressed run-length code."""
    mask: Mask = coco_mask.decode({"size": code["size"], "counts": code["counts"].encode("ascii")}).astype(bool)
    return mask


def mask_box(mask: Mask) -> tuple[int, int, int, int]:
    """Give a mask's bounding box [x, y, w, h] in pixels; all 0 where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return (0, 0, 0, 0)
    y, x = int(rows[0]), int(columns[0])
    return (x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


def write_panoptic(root: Path, *, categories: Sequence[Category], images: Iterable[Image]) -> None:
    """Write panoptic.json."""
    listed = list(images)
    annotations = [
        {"file_name": f"{image.name}.png", "image_id": image.id, "segments_info": [s.to_json() for s in image.segments]}
        for image in listed
    ]
    write_json(
        root / "panoptic.json",
        {
            "images": [image.to_json() for image in listed],
            "annotations": annotations,
            "categories": [category.to_json() for category in categories],
        },
    )


def load(root: Path) -> Panoptic:
    """Load panoptic.json of a DATASET or a PREDICTIONS folder."""
    path = root / "panoptic.json"
    content = read_json(path, hint="A DATASET is written by `mammoprep convert`, PREDICTIONS by `mammoprep predict`.")
    try:
        categories = tuple(_category(entry) for entry in sorted(content["categories"], key=lambda entry: entry["id"]))
        segments = {
            entry["image_id"]: tuple(_segment(info) for info in entry["segments_info"])
            for entry in content["annotations"]
        }
        images = tuple(
            Image(
                id=entry["id"],
                name=Path(entry["file_name"]).stem,
                height=entry["height"],
                width=entry["width"],
                segments=segments.get(entry["id"], ()),
            )
            for entry in sorted(content["images"], key=lambda entry: entry["id"])
        )
    except (KeyError, TypeError) as error:
        raise MammoprepError(f"{path} is not COCO panoptic: {error!s} is missing or of another type.") from error
    return Panoptic(root, categories, images)


def _category(entry: Mapping[str, Any]) -> Category:
    color = tuple(entry.get("color", (60, 60, 60)))
    return Category(entry["id"], entry["name"], bool(entry["isthing"]), (color[0], color[1], color[2]))


def _segment(entry: Mapping[str, Any]) -> Segment:
    known = {"id", "category_id", "area", "bbox", "iscrowd", "score"}
    x, y, width, height = entry["bbox"]
    return Segment(
        id=entry["id"],
        category_id=entry["category_id"],
        area=entry["area"],
        bbox=(x, y, width, height),
        iscrowd=bool(entry.get("iscrowd", 0)),
        score=entry.get("score"),
        extra={key: value for key, value in entry.items() if key not in known},
    )


def load_instances(root: Path) -> Any:
    """Load instances.json: COCO's dictionary for a DATASET, a COCO result list for PREDICTIONS."""
    return read_json(root / "instances.json", hint="It holds the COCO instances.")


def load_cases(root: Path) -> list[dict[str, str]]:
    """Read cases.csv: one dictionary of texts an image, in the order of the file."""
    path = root / "cases.csv"
    if not path.is_file():
        raise MissingFileError(path, hint="A DATASET is written by `mammoprep convert`.")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load_fold(root: Path, fold: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the integer image ids (train, val) of one fold of folds.json."""
    content = read_json(root / "folds.json", hint=f"Type `mammoprep folds {root}` first.")
    folds = content["folds"]
    if not 0 <= fold < len(folds):
        raise MammoprepError(f"{root / 'folds.json'} has no fold {fold}. Folds: 0 … {len(folds) - 1}.")
    return tuple(folds[fold]["train"]), tuple(folds[fold]["val"])


def read_json(path: Path, *, hint: str) -> Any:
    """Read a JSON file; a missing or broken one is a MammoprepError that ends with `hint`."""
    if not path.is_file():
        raise MissingFileError(path, hint=hint)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MammoprepError(f"{path} is not readable JSON ({error}). {hint}") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; the same content gives the same bytes. NaN is refused."""
    beside = path.with_name(f"{path.name}.partial")
    beside.write_text(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def partial_of(out: Path) -> Path:
    """Give the folder in which `out` is built before it is renamed."""
    return out.with_name(f"{out.name}.partial")


def check_vacant(out: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that holds something, or one that `overwrite` must not touch (nothing of ours in it)."""
    if out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise MammoprepError(f"{out} is not empty. Name another folder, or say --overwrite.")
    if not any((out / name).is_file() for name in ("panoptic.json", "manifest.json", "run.json", "instances.json")):
        raise MammoprepError(
            f"{out} was not written by mammoprep, so --overwrite leaves it alone. Name another folder."
        )


@contextmanager
def staged(out: Path, *, overwrite: bool = False, keep: bool = False) -> Iterator[Path]:
    """Build a folder beside `out` and rename it when the block ends well: whole or not at all.

    With `keep` a block that fails leaves its `.partial` folder behind, and the next one finds it (resume).
    """
    check_vacant(out, overwrite=overwrite)
    partial = partial_of(out)
    if partial.exists() and not keep:
        shutil.rmtree(partial)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        yield partial
        publish(partial, out)
    except OSError as error:
        raise MammoprepError(
            f"{out} could not be written: {error.strerror or error}. Free space or name another."
        ) from error
    finally:
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, out: Path) -> None:
    """Rename a finished folder to its name; what `out` held before goes only when the new one is in place."""
    old = out.with_name(f"{out.name}.old")
    if out.exists():
        os.replace(out, old)
    os.replace(partial, out)
    shutil.rmtree(old, ignore_errors=True)
