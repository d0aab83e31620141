"""CVAT for images 1.1: one XML file for all images of a task."""

import math
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError, fromstring

from mammoprep.exports.entry import LINE_WIDTH, POINT_DIAMETER, UNCLEAR, Entry, finite, points_of, run_lengths, size_of
from mammoprep.records import Box, Ellipse, Finding, Outline, Polygon, RunLengths, Skipped, Stroke, Union

_KINDS = ("box", "polygon", "polyline", "points", "ellipse", "mask")
_OTHERS = ("cuboid", "skeleton")


def parse(text: str) -> Element | None:
    """Give the root of a CVAT file, None for XML of another kind; a ValueError says why it cannot be read.

    Entities, of which a few lines can make gigabytes, are refused: CVAT writes none.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type or entities is not read")
    try:
        root = fromstring(text)
    except ParseError as error:
        raise ValueError(f"it is not XML ({error})") from None
    known = any(root.find(part) is not None for part in ("image", "meta", "track"))
    return root if root.tag == "annotations" and known else None


def read(root: Element, *, name: str) -> Iterator[Entry | Skipped]:
    """Yield an Entry for each image of the file, and a Skipped for each shape that cannot be drawn."""
    for track in root.iter("track"):
        yield Skipped(f"{name} track {track.get('id', '')}", "finding", "a track of a video")
    for number, image in enumerate(root.iter("image"), start=1):
        size, findings = size_of(_whole(image, "height"), _whole(image, "width")), []
        facts: Mapping[str, str] = {}
        for place, shape in enumerate(shape for shape in image if shape.tag in (*_KINDS, *_OTHERS)):
            where = f"{name} image {number} shape {place + 1}"
            try:
                findings.append(Finding(_outline(shape, size), shape.get("label", ""), where, {"shape": shape.tag}))
            except ValueError as error:
                yield Skipped(where, "finding", str(error))
                facts = UNCLEAR
        yield Entry(image.get("name", ""), f"{name} image {number}", tuple(findings), size, facts)


def _outline(shape: Element, size: tuple[int, int] | None) -> Box | Outline:
    match shape.tag:
        case "box":
            box = Box(*(_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr")))
            if _number(shape, "rotation", "0"):
                raise ValueError("a turned box cannot become a mask: draw a polygon")
            if box.x0 >= box.x1 or box.y0 >= box.y1:
                raise ValueError("the box is empty or inverted")
            return box
        case "ellipse":
            cx, cy, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
            if min(rx, ry) <= 0:
                raise ValueError("the radius is not above 0")
            return Ellipse(cx, cy, rx, ry, math.radians(_number(shape, "rotation", "0")))
        case "mask":
            return _mask(shape, size)
        case "polygon" | "polyline" | "points":
            points = points_of(_pair(text) for text in shape.get("points", "").split(";"))
            if shape.tag == "points":
                return Union(tuple(Stroke((point,), POINT_DIAMETER) for point in points))
            if shape.tag == "polygon" and len(set(points)) < 3:
                raise ValueError("the polygon has fewer than three points")
            return Polygon(points) if shape.tag == "polygon" else Stroke(points, LINE_WIDTH)
    raise ValueError("a cuboid or skeleton is no outline")


def _mask(shape: Element, size: tuple[int, int] | None) -> RunLengths:
    """Read CVAT's own code: runs of 0 and 1 in turn along the rows of the mask's box."""
    import numpy as np

    counts = [int(part) for part in shape.get("rle", "").split(",") if part.strip().isdecimal()]
    x, y, width, height = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
    if size is None or min(width, height) < 1 or sum(counts) != width * height or width * height > size[0] * size[1]:
        raise ValueError("the mask's run lengths do not fill its box, or the image's size is not said")
    crop = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)
    return run_lengths(crop, x=x, y=y, size=size)


def _pair(text: str) -> tuple[float, ...]:
    pair = tuple(_float(part) for part in text.split(","))
    if len(pair) != 2:
        raise ValueError("the points are no list of pairs")
    return pair


def _number(shape: Element, key: str, default: str = "") -> float:
    return _float(shape.get(key, default))


def _float(text: str) -> float:
    try:
        return finite(float(text))
    except ValueError:
        raise ValueError("a coordinate is not a number of pixels") from None


def _whole(image: Element, key: str) -> int | None:
    text = image.get(key, "")
    return int(text) if text.isdecimal() and len(text) < 7 else None
