"""LabelMe: one JSON file an image."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from math import dist
from typing import Any

from mammoprep.exports.entry import LINE_WIDTH, POINT_DIAMETER, UNCLEAR, Entry, points_of, run_lengths, size_of
from mammoprep.records import Box, Ellipse, Finding, Outline, Polygon, RunLengths, Skipped, Stroke, Union


def recognise(content: Any) -> bool:
    """Tell whether JSON is a LabelMe file."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read(content: Mapping[str, Any], *, name: str) -> Iterator[Entry | Skipped]:
    """Yield the image's Entry; shapes of one label and group are one finding, as LabelMe's own converters take them."""
    size = size_of(content.get("imageHeight"), content.get("imageWidth"))
    groups: dict[object, list[Finding]] = {}
    facts: Mapping[str, str] = {}
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"{name} shape {number}"
        try:
            drawn = _outline(shape, size)
            label, group = str(shape.get("label") or ""), shape.get("group_id")
        except ValueError as error:
            yield Skipped(where, "finding", str(error))
            facts = UNCLEAR
            continue
        key = number if group is None or isinstance(drawn, Box) else (str(group), label)
        finding = Finding(drawn, label, where, {"shape": shape.get("shape_type") or "polygon"})
        groups.setdefault(key, []).append(finding)
    yield Entry(str(content["imagePath"]), name, tuple(map(_one, groups.values())), size, facts)


def _one(group: list[Finding]) -> Finding:
    outlines = tuple(finding.shape for finding in group)
    return group[0] if len(group) == 1 else replace(group[0], shape=Union(outlines))  # type: ignore[arg-type]


def _outline(shape: Any, size: tuple[int, int] | None) -> Box | Outline:
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        raise ValueError("the shape has no points")
    points, kind = points_of(shape["points"]), shape.get("shape_type") or "polygon"
    if kind == "polygon" and len(set(points)) >= 3:
        return Polygon(points)
    if kind == "circle" and len(points) == 2 and points[0] != points[1]:
        return Ellipse(*points[0], dist(*points), dist(*points))
    if kind == "rectangle" and len({x for x, _ in points}) > 1 < len({y for _, y in points}):
        (x0, *_, x1), (y0, *_, y1) = (sorted(values) for values in zip(*points, strict=True))
        return Box(x0, y0, x1, y1)
    if kind == "mask":
        return _mask(shape, points[0], size)
    if kind in ("line", "linestrip", "point", "points"):
        lone = tuple(Stroke((point,), POINT_DIAMETER) for point in points) if kind == "points" else ()
        return Union(lone) if lone else Stroke(points, LINE_WIDTH)
    raise ValueError("the shape is no polygon, rectangle, circle, line, point or mask of enough points")


def _mask(shape: Mapping[str, Any], corner: tuple[float, float], size: tuple[int, int] | None) -> RunLengths:
    import numpy as np
    from PIL import Image

    if size is None:
        raise ValueError("a mask, in a file that does not say the image's size")
    try:
        data = base64.b64decode(str(shape.get("mask")), validate=True)
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > size[0] * size[1]:
                raise ValueError("the mask is larger than the image")
            crop = np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError("the mask is no PNG") from None
    return run_lengths(crop, x=round(corner[0]), y=round(corner[1]), size=size)
