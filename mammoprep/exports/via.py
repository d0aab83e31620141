"""VGG Image Annotator: shapes as its CSV and JSON exports hold them, versions 1 to 3 of its project files."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mammoprep import strict_json
from mammoprep.exports.entry import LINE_WIDTH, POINT_DIAMETER, UNCLEAR, Entry, finite, points_of
from mammoprep.records import Box, Ellipse, Finding, Outline, PointXY, Polygon, Skipped, Stroke

RING_GAP = 0.125
"""A polyline is a ring where its ends are nearer than this share of its length; CDD-CESM's reach 0.104."""
LABEL_KEYS = ("label", "class", "category", "pathology", "finding", "lesion", "type", "name")
"""Region attributes that may hold the class, the first that is there; of other attributes, an only one."""


def recognise(content: Any) -> bool:
    """Tell whether JSON is a VIA project or its exported annotations."""
    return isinstance(content, dict) and bool(content) and all(map(_is_image, _images(content).values()))


def _images(content: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = content.get("_via_img_metadata", content)
    return inner if isinstance(inner, dict) else {"": None}


def _is_image(entry: Any) -> bool:
    return isinstance(entry, dict) and "filename" in entry and isinstance(entry.get("regions"), list | dict)


def read(content: Mapping[str, Any], *, name: str) -> Iterator[Entry | Skipped]:
    """Yield an Entry for each image of the file, and a Skipped for each region that cannot be drawn."""
    for number, image in enumerate(_images(content).values(), start=1):
        regions, findings = image["regions"], []
        facts: Mapping[str, str] = {}
        for place, region in enumerate(regions.values() if isinstance(regions, dict) else regions, start=1):
            where = f"{name} image {number} region {place}"
            try:
                kind, shape = shape_of(region.get("shape_attributes") if isinstance(region, dict) else None)
                label = label_of(region.get("region_attributes"))
                findings.append(Finding(shape, label, where, {"shape": kind}))
            except ValueError as error:
                yield Skipped(where, "finding", str(error))
                facts = UNCLEAR
        yield Entry(str(image["filename"]), f"{name} image {number}", tuple(findings), facts=facts)


def load_cell(cell: str) -> Any:
    """Give the JSON of a cell of the CSV export; a ValueError says that it is none."""
    try:
        return strict_json.loads(cell)
    except ValueError:
        raise ValueError("the shape is not JSON") from None


def label_of(attributes: Any) -> str:
    """Give the class that a region's attributes hold, "" where they hold none or several that could be it.

    A choice among check boxes is an object of truths: the first true one counts.
    """
    if not isinstance(attributes, dict):
        return ""
    plain = {str(key).casefold(): value for key, value in attributes.items()}
    key = next((key for key in LABEL_KEYS if key in plain), next(iter(plain), "") if len(plain) == 1 else "")
    value = plain.get(key, "")
    if isinstance(value, dict):
        value = next((name for name, chosen in value.items() if chosen in (True, "true")), "")
    return str(value).strip() if isinstance(value, str | int) else ""


def outline_of(cell: str) -> tuple[str, Outline]:
    """Give the name and the outline of a VIA shape; a ValueError says why it cannot be drawn."""
    name, outline = shape_of(load_cell(cell))
    if isinstance(outline, Box):
        raise ValueError(f"the shape is not {_DRAWN}")
    return name, outline


_DRAWN = "a polygon, polyline, ellipse, circle or point"


def shape_of(shape: Any) -> tuple[str, Box | Outline]:
    """Give the name and the outline, or box, of `shape_attributes`; a ValueError says why it cannot be drawn."""
    if not isinstance(shape, dict):
        raise ValueError("the shape is not a JSON object")
    name = shape.get("name")
    if name in ("polygon", "polyline"):
        points = _points(shape)
        if name == "polyline" and not _is_ring(points):
            return name, Stroke(points, LINE_WIDTH)
        if len(set(points)) < 3:
            raise ValueError("the polygon has fewer than three points")
        return name, Polygon(points)
    if name == "point":
        return name, Stroke(((_value(shape, "cx"), _value(shape, "cy")),), POINT_DIAMETER)
    if name in ("circle", "ellipse"):
        rx, ry = (_value(shape, key) for key in (("r", "r") if name == "circle" else ("rx", "ry")))
        if rx <= 0 or ry <= 0:
            raise ValueError("the radius is not above 0")
        theta = _value(shape, "theta") if "theta" in shape else 0.0
        return name, Ellipse(_value(shape, "cx"), _value(shape, "cy"), rx, ry, theta)
    if name == "rect":
        x, y, width, height = (_value(shape, key) for key in ("x", "y", "width", "height"))
        if min(width, height) <= 0:
            raise ValueError("the box is empty or inverted")
        return name, Box(x, y, x + width, y + height)
    raise ValueError(f"the shape is not {_DRAWN}")


def _points(shape: Mapping[str, Any]) -> tuple[PointXY, ...]:
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or not xs or len(xs) != len(ys):
        raise ValueError("the shape's x and y are not lists of one length")
    return points_of(zip(xs, ys, strict=True))


def _is_ring(points: Sequence[PointXY]) -> bool:
    length = sum(math.dist(a, b) for a, b in zip(points, points[1:], strict=False))
    return len(set(points)) >= 3 and math.dist(points[0], points[-1]) < RING_GAP * length


def _value(shape: Mapping[str, Any], key: str) -> float:
    if key not in shape:
        raise ValueError(f"the shape has no {key}")
    return finite(shape[key])
