"""The two PNGs of one image, held against what the JSON files say of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from os.path import isfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.check.duplicates import Fingerprint, fingerprint
from mammoprep.check.entries import INSTANCES, PANOPTIC, Drawn, Instance
from mammoprep.check.rules import TINY, Edit, Problem
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Runs, Segment

_COVERED_DIGITS = 6
"""Decimals that `covered` is written with."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """An image to look at; `bits` is what the manifest says of the stored images, None where it says nothing.

    `has_instances` False leaves out what needs instances.json.
    """

    root: Path
    drawn: Drawn
    things: frozenset[int]
    bits: int | None
    has_instances: bool


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What an image turned out to be: `digest` of its pixels, empty for one that cannot be read or shows nothing."""

    problems: tuple[Problem, ...]
    digest: bytes = b""
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """An instance drawn: its place, its pixels (h, w), its area."""

    instance: Instance
    box: Box
    crop: NDArray[np.bool_]
    area: int


def look(job: Job) -> Seen:
    """Read the image and its map of segments, and compare."""
    problems = list(_map_problems(job))
    path, image = job.root / "images" / f"{job.drawn.image.name}.png", job.drawn.image
    where = f"images/{image.name}.png"
    try:
        grey = panoptic.read_png(path)
    except MammoprepError:
        return Seen((*problems, Problem("image-png", where, _state(path))))
    if grey.ndim != 2 or grey.itemsize * 8 not in ((job.bits,) if job.bits else (8, 16)):
        bits = f"grey of {job.bits} bits" if job.bits else "grey"
        problems.append(Problem("image-png", where, f"it is not {bits}"))
    if grey.shape[:2] != (image.height, image.width):
        problems.append(Problem("image-png", where, _size(grey.shape, image.height, image.width)))
    if grey.ndim != 2 or grey.min() == grey.max():
        blank = [Problem("blank-image", where, "all pixels have one value")] if grey.ndim == 2 else []
        return Seen((*problems, *blank))
    digest = sha256(repr((grey.shape, grey.dtype.str)).encode())
    digest.update(np.ascontiguousarray(grey).data)
    return Seen(tuple(problems), digest.digest(), fingerprint(grey))


def killed(job: Job) -> Seen:
    """Say of an image that no worker of a cluster outlives it."""
    what = "it killed every worker that read it or its map, most likely because memory ran out"
    return Seen((Problem("image-png", f"images/{job.drawn.image.name}.png", what),))


def _state(path: Path) -> str:
    return "it cannot be read as a PNG" if isfile(path) else "it is missing"


def _size(shape: Sequence[int], height: int, width: int) -> str:
    return f"it is {shape[0]} x {shape[1]}, {PANOPTIC} says {height} x {width}"


def _map_problems(job: Job) -> Iterator[Problem]:
    image = job.drawn.image
    path, where = job.root / "panoptic" / f"{image.name}.png", f"panoptic/{image.name}.png"
    try:
        runs = panoptic.read_id_runs(path)
    except MammoprepError as error:
        state = "it is no RGB PNG of 8 bits" if "no RGB PNG" in str(error) else _state(path)
        yield Problem("panoptic-png", where, state)
        return
    if runs.shape != (image.height, image.width):
        yield Problem("panoptic-png", where, _size(runs.shape, image.height, image.width))
        return
    drawn = _measure(runs)
    if 0 in drawn:
        yield Problem("void", where, f"{drawn.pop(0)[0]} pixels are 0")
    for unlisted in drawn.keys() - {segment.id for segment in image.segments}:
        yield Problem("unlisted-segment", where, f"id {unlisted} ({drawn[unlisted][0]} pixels) is not listed")
    for position, segment in zip(job.drawn.positions, image.segments, strict=True):
        yield from _segment_problems(job, position, segment, drawn)
    if job.has_instances and (job.drawn.instances or any(s.category_id in job.things for s in image.segments)):
        yield from _lesion_problems(job, runs, drawn)


def _measure(runs: Runs) -> dict[int, tuple[int, Box]]:
    """Give the area and the bounding box of each id of a map."""
    size = runs.shape[0] * runs.shape[1]
    ends = np.append(runs.starts[1:], size)
    areas = np.bincount(runs.index, ends - runs.starts, minlength=runs.labels.size).astype(np.int64)
    (top, left), (bottom, right) = np.divmod(runs.starts, runs.shape[1]), np.divmod(ends - 1, runs.shape[1])
    goes_on = bottom > top  # over the end of its row, so that it touches both sides
    low = np.full((2, runs.labels.size), size)
    high = np.zeros((2, runs.labels.size), dtype=np.int64)
    for axis, first, last in (
        (0, top, bottom),
        (1, np.where(goes_on, 0, left), np.where(goes_on, runs.shape[1] - 1, right)),
    ):
        np.minimum.at(low[axis], runs.index, first)
        np.maximum.at(high[axis], runs.index, last)
    boxes = zip(low[1], low[0], high[1] - low[1] + 1, high[0] - low[0] + 1, strict=True)
    return {
        int(label): (int(area), (int(x), int(y), int(width), int(height)))
        for label, area, (x, y, width, height) in zip(runs.labels, areas, boxes, strict=True)
    }


def _segment_problems(
    job: Job, position: int, segment: Segment, drawn: Mapping[int, tuple[int, Box]]
) -> Iterator[Problem]:
    where = f"{PANOPTIC} image {job.drawn.image.name} segment {segment.id}"
    if segment.id not in drawn:
        yield Problem("undrawn-segment", where, "the map has no pixel of it")
        return
    area, box = drawn[segment.id]
    place = ("annotations", job.drawn.annotation, "segments_info", position)
    if segment.area != area:
        what = f"the area is {segment.area}, in the map {area}"
        yield Problem("area", where, what, Edit(PANOPTIC, (*place, "area"), area))
    if segment.bbox != box:
        what = f"the bbox is {[*segment.bbox]}, in the map {[*box]}"
        yield Problem("bbox", where, what, Edit(PANOPTIC, (*place, "bbox"), [*box]))
    if segment.category_id in job.things and area < TINY:
        yield Problem("tiny-lesion", where, f"it has {area} stored pixels; convert with a larger --long-side")


def _lesion_problems(job: Job, runs: Runs, drawn: Mapping[int, tuple[int, Box]]) -> Iterator[Problem]:
    """Hold instances, whole outlines, against the map, in which the smaller lies on the larger."""
    wholes = []
    for instance in job.drawn.instances:
        made = _draw(instance, runs.shape)
        if isinstance(made, str):
            yield Problem("rle", _where(instance), made)
        else:
            yield from _instance_problems(made)
            wholes.append(made)
    lengths = np.diff(runs.starts, append=runs.shape[0] * runs.shape[1])
    ids = np.repeat(runs.labels[runs.index].astype(np.int32), lengths).reshape(runs.shape)
    image, owners = job.drawn.image, dict[int, _Whole]()
    for position, segment in zip(job.drawn.positions, image.segments, strict=True):
        if segment.category_id not in job.things or segment.id not in drawn:
            continue
        area, where = drawn[segment.id][0], f"{PANOPTIC} image {image.name} segment {segment.id}"
        holders = [whole for whole in wholes if whole not in owners.values() and _holds(whole, ids, segment, area)]
        if not holders:
            yield Problem("instance-segment", where, f"no instance of its class in {INSTANCES} holds its pixels")
            continue
        own = owners[segment.id] = min(holders, key=lambda whole: whole.area)  # a smaller one would lie on it
        place = ("annotations", job.drawn.annotation, "segments_info", position, "covered")
        yield from _covered_problems(segment, area, own, where=where, place=place)
    for whole in wholes:
        if whole not in owners.values():
            yield Problem("instance-segment", _where(whole.instance), f"no segment of {image.name} belongs to it")
    for segment_id, whole in owners.items():
        yield from _overlap_problems(segment_id, whole, ids, owners)


def _where(instance: Instance) -> str:
    return f"{INSTANCES} annotations[{instance.index}]"


def _draw(instance: Instance, shape: tuple[int, int]) -> _Whole | str:
    """Draw an instance, or say why its code cannot be used."""
    height, width = shape
    if instance.code["size"] != [height, width]:
        return f"its size is {instance.code['size']}, the image's {[height, width]}"
    try:
        lengths = panoptic.run_lengths(instance.code)
    except ValueError as error:
        return str(error)
    if not sum(lengths[1::2]):
        return "it covers no pixel"
    full = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    x, y, box_width, box_height = box = panoptic.mask_box(full)
    return _Whole(instance, box, full[y : y + box_height, x : x + box_width], sum(lengths[1::2]))


def _instance_problems(whole: _Whole) -> Iterator[Problem]:
    instance, place = whole.instance, ("annotations", whole.instance.index)
    if instance.area != whole.area:
        what = f"the area is {instance.area}, of the RLE {whole.area}"
        yield Problem("instance-area", _where(instance), what, Edit(INSTANCES, (*place, "area"), whole.area))
    if instance.bbox != whole.box:
        what = f"the bbox is {[*instance.bbox]}, of the RLE {[*whole.box]}"
        yield Problem("instance-bbox", _where(instance), what, Edit(INSTANCES, (*place, "bbox"), [*whole.box]))


def _under(whole: _Whole, ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the ids (N,) of the map where an instance lies."""
    x, y, width, height = whole.box
    found: NDArray[np.int32] = ids[y : y + height, x : x + width][whole.crop]
    return found


def _holds(whole: _Whole, ids: NDArray[np.int32], segment: Segment, area: int) -> bool:
    """Tell whether all pixels of a segment lie in an instance of its class."""
    same = whole.instance.category_id == segment.category_id and whole.area >= area
    return same and int(np.count_nonzero(_under(whole, ids) == segment.id)) == area


def _covered_problems(
    segment: Segment, area: int, whole: _Whole, *, where: str, place: tuple[str | int, ...]
) -> Iterator[Problem]:
    covered, said = round(1 - area / whole.area, _COVERED_DIGITS), segment.extra.get("covered", 0)
    if type(said) not in (int, float) or abs(said - covered) > 10**-_COVERED_DIGITS:
        what = f"covered is {said!r}, of the RLE and the map {covered}"
        yield Problem("covered", where, what, Edit(PANOPTIC, place, covered))


def _overlap_problems(
    segment_id: int, whole: _Whole, ids: NDArray[np.int32], owners: Mapping[int, _Whole]
) -> Iterator[Problem]:
    """Find what lies on a finding without being a smaller one."""
    for other in set(np.unique(_under(whole, ids)).tolist()) - {segment_id}:
        above = owners.get(other)
        if above is None or above.area > whole.area:
            kind = "no finding" if above is None else "larger"
            yield Problem("overlap", _where(whole.instance), f"segment {other}, which lies on it, is {kind}")
