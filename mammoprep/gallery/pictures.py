"""Pictures to look at: what a data set says and what a network says, drawn over the image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError

Canvas = NDArray[np.uint8]
"""A BGR picture (H, W, 3)."""

PANEL_HEIGHT = 640
"""Height of a panel in pixels, whatever the image's."""
MOST_INSTANCES = 10
"""Detections drawn in a picture; a query network gives a hundred."""
LEAST_SCORE = 0.1
SMALL_HEIGHT = 400
"""Height in pixels of a panel that stands beside four others in a figure."""
_FILL = 0.25
_BAR = 30
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (225, 225, 225)


def overlay(
    grey: NDArray[Any],
    ids: panoptic.Ids,
    *,
    segments: Iterable[panoptic.Segment],
    categories: Sequence[panoptic.Category],
    zoom: float = 1.0,
) -> Canvas:
    """Draw the things of `ids` (H, W) over `grey` (H, W; 8 or 16 bit), enlarged `zoom` times: BGR (H', W', 3).

    A lesion has a translucent fill, an outline and its class name (with the score, if any) in its class's colour;
    stuff stays as it is.
    """
    if grey.shape != ids.shape:
        raise MammoprepError(f"An image of {grey.shape} pixels and a map of {ids.shape} segment ids do not fit.")
    base = (grey >> 8).astype(np.uint8) if grey.dtype == np.uint16 else grey
    size = (max(round(grey.shape[1] * zoom), 1), max(round(grey.shape[0] * zoom), 1))
    large = cv2.resize(base, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    large_ids = cv2.resize(ids.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    canvas = np.repeat(np.asarray(large, np.uint8)[..., None], 3, axis=-1)
    classes = {category.id: category for category in categories}
    things = [segment for segment in segments if classes[segment.category_id].isthing]
    for segment in things:
        _fill(canvas, large_ids == segment.id, colour=_bgr(classes[segment.category_id]))
    for segment in things:
        category = classes[segment.category_id]
        text = category.name if segment.score is None else f"{category.name} {segment.score:.2f}"
        x, y, _, height = (round(side * zoom) for side in segment.bbox)
        _write_text(canvas, text, at=(x, y - 6 if y > 20 else y + height + 16), colour=_bgr(category))
    return canvas


def write_overlays(dataset: Path, out: Path, *, predictions: Path | None = None, limit: int = 24) -> list[Path]:
    """Write one PNG an image into `out`: image | ground truth | prediction, with a legend; give their paths.

    With `predictions` only images that have one are shown. At most `limit` are written: images with lesions first,
    then the others, each in the order of the data set.
    """
    truth = panoptic.load(dataset)
    sources = {"ground truth": truth}
    if predictions is not None:
        sources["prediction"] = panoptic.load(predictions)
    common = set.intersection(*({image.name for image in source.images} for source in sources.values()))
    if not common:
        raise MammoprepError(f"{predictions or dataset} has no image of {dataset} to show. Name another folder.")
    things = {category.id for category in truth.things}
    chosen = sorted(
        (image for image in truth.images if image.name in common),
        key=lambda image: (things.isdisjoint(segment.category_id for segment in image.segments), image.id),
    )
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{image.name}.png" for image in chosen[:limit]]
    for path in paths:
        panoptic.write_png(path, _page(path.stem, sources))
    return paths


def panels(dataset: Path, predictions: Path, name: str) -> dict[str, Canvas | None]:
    """Give the pictures of one image: itself, ground truth, panoptic map, instances with scores, heat map.

    All are BGR (H', W', 3) of one size; None for what the predictions lack. Of the instances those with a score of at
    least LEAST_SCORE are drawn, MOST_INSTANCES at most.
    """
    truth = panoptic.load(dataset)
    image = _image_of(truth, name)
    grey = panoptic.read_png(dataset / "images" / f"{name}.png")
    zoom = SMALL_HEIGHT / grey.shape[0]
    nothing = np.zeros(grey.shape, np.int32)
    plain = overlay(grey, nothing, segments=(), categories=(), zoom=zoom)
    drawn: dict[str, Canvas | None] = {
        "image": plain,
        "ground truth": overlay(
            grey, truth.ids_of(image), segments=image.segments, categories=truth.categories, zoom=zoom
        ),
        "panoptic": None,
        "instances": None,
        "heat map": None,
    }
    if (predictions / "panoptic.json").exists():
        guess = panoptic.load(predictions)
        found = _image_of(guess, name)
        drawn["panoptic"] = overlay(
            grey, guess.ids_of(found), segments=found.segments, categories=guess.categories, zoom=zoom
        )
    if (predictions / "instances.json").exists():
        drawn["instances"] = _with_instances(plain.copy(), predictions, image=image, categories=truth.categories)
    heat = predictions / "heatmaps" / f"{name}.png"
    if heat.exists():
        drawn["heat map"] = _with_heat(plain, panoptic.read_png(heat))
    return drawn


def _image_of(source: panoptic.Panoptic, name: str) -> panoptic.Image:
    found = next((image for image in source.images if image.name == name), None)
    if found is None:
        raise MammoprepError(
            f"{source.root / 'panoptic.json'} has no image {name}. Name the predictions of this data set."
        )
    return found


def _with_instances(
    canvas: Canvas, predictions: Path, *, image: panoptic.Image, categories: Sequence[panoptic.Category]
) -> Canvas:
    """Draw the outlines of an image's best detections, with their scores."""
    classes = {category.id: category for category in categories}
    listed = panoptic.load_instances(predictions)
    own = [entry for entry in listed if entry["image_id"] == image.id and entry["score"] >= LEAST_SCORE]
    size = (canvas.shape[1], canvas.shape[0])
    for entry in sorted(own, key=lambda entry: -float(entry["score"]))[:MOST_INSTANCES][::-1]:
        mask = panoptic.decode_rle(entry["segmentation"]).astype(np.uint8)
        large = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = _bgr(classes[entry["category_id"]])
        cv2.drawContours(canvas, contours, -1, colour, 1)
        x, y, _, height = panoptic.mask_box(large.astype(bool))
        _write_text(canvas, f"{entry['score']:.2f}", at=(x, y - 6 if y > 20 else y + height + 16), colour=colour)
    return canvas


def _with_heat(canvas: Canvas, heat: NDArray[Any]) -> Canvas:
    """Lay an 8-bit map of probabilities over a picture, the more opaque the higher."""
    large = cv2.resize(heat, (canvas.shape[1], canvas.shape[0]), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap(large, cv2.COLORMAP_INFERNO)
    share = (large / 255.0)[..., None] ** 0.5 * 0.85
    mixed: Canvas = np.rint((1 - share) * canvas + share * colours).astype(np.uint8)
    return mixed


def _page(name: str, sources: dict[str, panoptic.Panoptic]) -> Canvas:
    """Put an image's panels side by side, with titles above and the classes below."""
    truth = next(iter(sources.values()))
    grey = panoptic.read_png(truth.root / "images" / f"{name}.png")
    zoom = PANEL_HEIGHT / grey.shape[0]
    nothing = np.zeros(grey.shape, np.int32)
    panels = [_titled(name, overlay(grey, nothing, segments=(), categories=(), zoom=zoom))]
    for title, source in sources.items():
        image = next(image for image in source.images if image.name == name)
        drawn = overlay(grey, source.ids_of(image), segments=image.segments, categories=source.categories, zoom=zoom)
        panels.append(_titled(title, drawn))
    gap = np.full((panels[0].shape[0], 6, 3), 60, np.uint8)
    row = np.hstack([part for panel in panels for part in (gap, panel)][1:])
    return np.vstack([row, _legend(row.shape[1], truth.things)])


def _titled(title: str, panel: Canvas) -> Canvas:
    bar = np.zeros((_BAR, panel.shape[1], 3), np.uint8)
    _write_text(bar, title, at=(8, 20), colour=_INK)
    return np.vstack([bar, panel])


def _legend(width: int, things: Sequence[panoptic.Category]) -> Canvas:
    """Draw a bar with a square and a name for each thing class, in as many lines as it takes."""
    lines, x = [np.zeros((_BAR, width, 3), np.uint8)], 8
    for category in things:
        needed = 22 + cv2.getTextSize(category.name, _FONT, 0.5, 1)[0][0] + 20
        if x + needed > width and x > 8:
            lines.append(np.zeros((_BAR, width, 3), np.uint8))
            x = 8
        cv2.rectangle(lines[-1], (x, 8), (x + 14, 22), _bgr(category), cv2.FILLED)
        _write_text(lines[-1], category.name, at=(x + 22, 20), colour=_INK)
        x += needed
    return np.vstack(lines)


def _fill(canvas: Canvas, mask: panoptic.Mask, *, colour: tuple[int, int, int]) -> None:
    """Tint the pixels of a mask (H, W) and draw its border."""
    canvas[mask] = np.rint((1 - _FILL) * canvas[mask] + _FILL * np.array(colour)).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, 1)


def _write_text(canvas: Canvas, text: str, *, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a line with a dark border, moved left where it would leave the picture."""
    (width, _), _ = cv2.getTextSize(text, _FONT, 0.5, 1)
    x, y = max(min(at[0], canvas.shape[1] - width - 2), 0), at[1]
    for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(canvas, text, (x + right, y + down), _FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), _FONT, 0.5, colour, 1, cv2.LINE_AA)


def _bgr(category: panoptic.Category) -> tuple[int, int, int]:
    red, green, blue = category.color
    return (blue, green, red)
