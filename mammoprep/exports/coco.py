"""COCO instances: one JSON file for all images."""

from collections.abc import Iterator, Mapping
from typing import Any

from mammoprep import strict_json
from mammoprep.errors import MammoprepError
from mammoprep.exports.entry import UNCLEAR, Entry, finite, points_of, size_of
from mammoprep.records import Box, Finding, Outline, Polygon, RunLengths, Skipped, Union


def recognise(content: Any) -> bool:
    """Tell whether JSON is COCO with annotations of instances."""
    lists = isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    )
    return lists and not any(isinstance(each, dict) and "segments_info" in each for each in content["annotations"][:1])


def read(content: Mapping[str, Any], *, name: str) -> Iterator[Entry | Skipped]:
    """Yield an Entry for each image in the file's order; an annotation that cannot be drawn gives a Skipped.

    Raises MammoprepError where the lists do not hold what COCO says.
    """
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        findings: dict[object, list[Finding]] = {image["id"]: [] for image in content["images"]}
        unclear = set()
        for number, annotation in enumerate(content["annotations"], start=1):
            where = f"{name} annotation {annotation.get('id', number)}"
            if annotation["image_id"] not in findings or annotation["category_id"] not in names:
                yield Skipped(where, "finding", "its image or its class is not in the file")
                continue
            try:
                shape, attributes = outline(annotation), _attributes(annotation)
            except ValueError as error:
                yield Skipped(where, "finding", str(error))
                unclear.add(annotation["image_id"])
                continue
            label = names[annotation["category_id"]]
            findings[annotation["image_id"]].append(Finding(shape, label, where, attributes))
        for image in content["images"]:
            where, size = f"{name} image {image['id']}", size_of(image.get("height"), image.get("width"))
            facts = UNCLEAR if image["id"] in unclear else {}
            yield Entry(str(image["file_name"]), where, tuple(findings[image["id"]]), size, facts, number_of(image))
    except (AttributeError, KeyError, TypeError) as error:
        raise MammoprepError(f"{name} is not COCO instances: {error!s} is missing or of another type.") from error


def number_of(image: Mapping[str, Any]) -> int:
    """Give an image's integer id from 1 on, 0 where it has none."""
    number = image["id"]
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0


def outline(annotation: Mapping[str, Any]) -> Box | Outline:
    """Give an annotation's outline, else its box; a ValueError says why there is neither.

    Several polygons are united, as pycocotools does: COCO has no holes but in run-length codes.
    """
    if annotation.get("iscrowd"):
        raise ValueError("a crowd is not one lesion")
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _code(segmentation)
    if isinstance(segmentation, list) and segmentation:
        polygons = tuple(map(_polygon, segmentation))
        return polygons[0] if len(polygons) == 1 else Union(polygons)
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("it has neither segmentation nor bbox")
    x, y, width, height = map(finite, box)
    if min(width, height) <= 0:
        raise ValueError("the box is empty or inverted")
    return Box(x, y, x + width, y + height)


def _polygon(numbers: Any) -> Polygon:
    if not isinstance(numbers, list) or len(numbers) % 2:
        raise ValueError("the points are no list of pairs")
    return Polygon(points_of(zip(numbers[::2], numbers[1::2], strict=True)))


def _code(code: Mapping[str, Any]) -> RunLengths:
    size, counts = code.get("size"), code.get("counts")
    if not isinstance(size, list) or len(size) != 2 or (shape := size_of(*size)) is None:
        raise ValueError("the run-length code has no size")
    if isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        return RunLengths(shape, tuple(counts))
    if not isinstance(counts, str):
        raise ValueError("the run-length code has no counts")
    return RunLengths(shape, counts)


def _attributes(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what is handed on as it is; a ValueError says that it could not be written again."""
    attributes = annotation.get("attributes")
    if not isinstance(attributes, dict):
        return {}
    strict_json.check(attributes)
    return attributes
