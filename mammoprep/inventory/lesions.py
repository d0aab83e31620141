"""The lesions of an image's findings and how far they reach, from the tables or from the files of their masks."""

from collections.abc import Iterator
from math import cos, hypot, sin
from pathlib import Path

from mammoprep import outlines, panoptic, pixels
from mammoprep.errors import MammoprepError
from mammoprep.inventory.counts import Extent, Lesion
from mammoprep.pixels import label_map, mask_file
from mammoprep.records import (
    Box,
    Ellipse,
    Finding,
    LabelMap,
    MaskFile,
    PanopticSegment,
    Polygon,
    RunLengths,
    SegmentFrames,
    Skipped,
    Stroke,
    Union,
)


def lesions_of(
    finding: Finding, *, root: Path, labels: str, size: tuple[int, int] | None
) -> Iterator[Lesion | Skipped]:
    """Yield the lesions of a finding, and what of it a conversion would leave out; an empty mask gives nothing.

    Where the image's `size` (H, W) is given, files of masks are read; else only label maps, of which nothing else says
    how many lesions there are.
    """
    if isinstance(finding.shape, LabelMap):
        for item in label_map.read(finding, finding.shape, root=root, size=size):
            if isinstance(item, Skipped):
                yield item
            else:
                height, width = item.crop.shape
                box = (item.x, item.y, item.x + width, item.y + height)
                yield _classed(item.finding, box, labels)
        return
    try:
        yield _classed(finding, None if finding.label is None else _box(finding.shape, root=root, size=size), labels)
    except MammoprepError as error:
        if not (finding.may_be_empty and isinstance(error, mask_file.EmptyMaskError)):
            yield Skipped(finding.source, "finding", str(error))


def _classed(finding: Finding, box: Extent | None, labels: str) -> Lesion | Skipped:
    if finding.label is None:
        return Skipped(finding.source, "finding", f"no class under --labels {labels}")
    return Lesion(finding.label, box)


def _box(shape: object, *, root: Path, size: tuple[int, int] | None) -> Extent | None:
    """Give the bounding box of a finding; of one in a file that is not read, None, once the file is there."""
    match shape:
        case MaskFile() if size:
            mask, _ = mask_file.read(shape, root=root, size=size)
        case MaskFile():
            mask_file.check_there(shape, root=root)
            return None
        case PanopticSegment() if size:
            mask = panoptic.read_ids(pixels.locate(root, shape.source)) == shape.id
        case SegmentFrames() if size:
            mask = pixels.read_frames(pixels.locate(root, shape.source), shape.frames)
        case _:
            return extent(shape)
    x, y, width, height = panoptic.mask_box(mask)
    return (x, y, x + width, y + height) if width else None


def extent(shape: object) -> Extent | None:
    """Give the bounding box of a box or an outline; None for what is empty, or stands in a file of its own.

    Raises MammoprepError for run lengths that are damaged.
    """
    match shape:
        case Box():
            return shape.x0, shape.y0, shape.x1, shape.y1
        case Ellipse():
            x = hypot(shape.rx * cos(shape.theta), shape.ry * sin(shape.theta))
            y = hypot(shape.rx * sin(shape.theta), shape.ry * cos(shape.theta))
            return shape.cx - x, shape.cy - y, shape.cx + x, shape.cy + y
        case Polygon() | Stroke():
            reach = shape.width / 2 if isinstance(shape, Stroke) else 0.0
            xs, ys = zip(*shape.points, strict=True)
            return min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach
        case RunLengths():
            return outlines.run_box(shape)
        case Union():
            parts = [found for part in shape.parts if (found := extent(part))]
            if len(parts) == len(shape.parts) > 0:
                x0, y0, x1, y1 = zip(*parts, strict=True)
                return min(x0), min(y0), max(x1), max(y1)
    return None
