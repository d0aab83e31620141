"""One image of a gallery: its small picture, and what the pages say and draw of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, pi
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.gallery import contours, crops, maps
from mammoprep.gallery.maps import Map
from mammoprep.gallery.material import Item, Material
from mammoprep.panoptic import Segment

THUMB_HEIGHT = 240
"""Height in pixels of the small pictures."""
_QUALITY = 82
_SIZES_MM2 = ((pi * 5**2, pi * 10**2), ("under 79 mm2", "79 to 314 mm2", "314 mm2 and more"))
_SIZES_PX2 = ((32**2, 96**2), ("under 32 x 32 px", "32 x 32 to 96 x 96", "96 x 96 px and more"))
"""Edges and names of the sizes by which `mammoprep evaluate` divides lesions."""
_BIRADS = ("finding_birads", "birads", "assessment", "breast_birads")
"""Attributes that hold a BI-RADS category, the lesion's own before the breast's."""
_SHOWN = ("patient_id", "study_id", "laterality", "view", "density", "split", "manufacturer", "attributes")
"""Columns of cases.csv that the pages filter by or show."""
_REST = "background"
"""The stuff that is what nothing else is."""


class Verdict(Protocol):
    """What became of a segment; see mammoprep.evaluation.verdicts."""

    @property
    def word(self) -> str: ...  # noqa: D102
    @property
    def partner(self) -> int | None: ...  # noqa: D102
    @property
    def iou(self) -> float | None: ...  # noqa: D102


Judge = Callable[..., tuple[Mapping[int, Verdict], Mapping[int, Verdict]]]
"""`mammoprep.evaluation.verdicts.verdicts`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the pages know of an image: `row` is in the index of all, `detail` is loaded with the image."""

    row: dict[str, Any]
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What all images share: `out` is the folder of the pages, `link` gives the address of a file from there.

    `judge` pairs true and predicted lesions; without it nothing is said of hits.
    """

    material: Material
    out: Path
    link: Callable[[Path, str], str]
    judge: Judge | None

    @property
    def things(self) -> set[int]:
        """Give the ids of the thing classes."""
        return {category.id for category in self.material.categories if category.isthing}


def make(item: Item, *, job: Job) -> Entry:
    """Look at one image: write its small picture, and its crops where there are raw files."""
    cv2.setNumThreads(1)  # the images are what runs in parallel
    image, root = item.image, job.material.dataset
    path = root / "images" / f"{image.name}.png"
    grey = panoptic.read_png(path)
    maps.check_size(root, image, grey.shape)
    (job.out / "thumbs" / f"{image.id}.jpg").write_bytes(_thumb(grey))
    truth = maps.read(root, image, image.segments)
    lesions = list(_lesions(item, truth, job=job))
    row = {
        "id": image.id,
        "name": image.name,
        "image": job.link(path, f"images/{image.id}.png"),
        "size": [image.width, image.height],
        **{name: item.row[name] for name in _SHOWN if item.row.get(name)},
        **({} if item.fold is None else {"fold": item.fold}),
        **({"lesion_free": True} if item.row.get("lesion_free") == "1" else {}),
        "lesions": [lesion for lesion, _ in lesions],
    }
    heat = item.guess and item.guess.root / "heatmaps" / f"{image.name}.png"
    if heat and heat.is_file():
        row["heat"] = job.link(heat, f"heatmaps/{image.id}.png")
    true = {lesion["id"]: lesion["box"] for lesion, _ in lesions if lesion["side"] == "truth"}
    detail = {
        "outlines": [outline for _, outline in lesions],
        "facts": {segment.id: segment.extra for segment in truth.segments if segment.id in true},
        "regions": dict(_regions(truth, job)),
        **crops.cut(item, true, material=job.material, out=job.out),
    }
    return Entry(row, detail)


def _thumb(grey: NDArray[Any]) -> bytes:
    """Give a small JPEG of an image (H, W) of 8 or 16 bits."""
    base = (grey >> 8).astype(np.uint8) if grey.dtype == np.uint16 else grey
    share = min(1.0, THUMB_HEIGHT / base.shape[0])
    size = (max(round(base.shape[1] * share), 1), max(round(base.shape[0] * share), 1))
    small = cv2.resize(base, size, interpolation=cv2.INTER_AREA) if share < 1 else base
    _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return data.tobytes()


def _lesions(item: Item, truth: Map, *, job: Job) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each lesion, true, predicted, or detected, with its outline."""
    image, guess = item.image, item.guess
    predicted, is_panoptic = maps.read_predicted(guess, image) if guess else (None, False)
    judged: tuple[Mapping[int, Verdict], Mapping[int, Verdict]] = ({}, {})
    if job.judge and predicted and is_panoptic:
        both = (truth.runs, predicted.runs)
        judged = job.judge(truth.segments, predicted.segments, maps=both, things=job.things)
    for side, found, verdicts in (("truth", truth, judged[0]), ("predicted", predicted, judged[1])):
        for segment in found.segments if found else ():
            if segment.category_id in job.things:
                lesion = _lesion(segment, side=side, row=item.row, verdict=verdicts.get(segment.id))
                yield lesion, contours.path(found.mask_of(segment)) if found else ""
    if guess is None:
        return
    for number, result in enumerate(guess.detections, start=1):
        mask = maps.read_detection(guess, result, image)
        segment = Segment(
            number, result["category_id"], int(mask.sum()), panoptic.mask_box(mask), score=float(result["score"])
        )
        yield _lesion(segment, side="detection", row=item.row, verdict=None), contours.path(mask)


def _lesion(segment: Segment, *, side: str, row: Mapping[str, str], verdict: Verdict | None) -> dict[str, Any]:
    """Give what the index says of a lesion; what is not known is left out."""
    square = _square_mm(row)
    edges, names = _SIZES_MM2 if square else _SIZES_PX2
    area = segment.area * square if square else float(segment.area)
    made, covered, source = (segment.extra.get(name) for name in ("pseudo_mask", "covered", "source"))
    how = made if isinstance(made, Mapping) else {}
    told = {
        "id": segment.id,
        "side": side,
        "class": segment.category_id,
        "box": segment.bbox,
        "area": segment.area,
        "mm2": round(area, 1) if square else None,
        "size": names[sum(area >= edge for edge in edges)],
        "birads": _birads(segment),
        "method": f"{how.get('method')}{' (fallback)' * bool(how.get('fallback'))}" if how else None,
        "covered": covered if isinstance(covered, int | float) else None,
        "source": source if isinstance(source, str) else None,
        "score": None if segment.score is None else round(segment.score, 4),
        "verdict": verdict.word if verdict else None,
        "partner": verdict.partner if verdict else None,
        "iou": round(verdict.iou, 4) if verdict and verdict.iou is not None else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _square_mm(row: Mapping[str, str]) -> float | None:
    """Give the area of a stored pixel: a native one has `pixel_spacing_mm` squared; where mirrored, scale_x < 0."""
    try:
        spacing, across, down = (float(row[name]) for name in ("pixel_spacing_mm", "scale_x", "scale_y"))
        area = spacing * spacing / abs(across * down)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return area if isfinite(area) and area > 0 else None


def _birads(segment: Segment) -> str | None:
    """Give the BI-RADS category, without its prefix; several in one."""
    attributes = segment.extra.get("attributes")
    known = attributes if isinstance(attributes, Mapping) else {}
    value = next((known[name] for name in _BIRADS if known.get(name) not in (None, "", [])), None)
    if value is None:
        return None
    parts = value if isinstance(value, list) else [value]
    return ", ".join(str(part).upper().replace("BI-RADS", "").strip() for part in parts)


def _regions(truth: Map, job: Job) -> Iterator[tuple[str, str]]:
    """Yield the outline of each stuff class but the background."""
    for category in job.material.categories:
        if not category.isthing and category.name != _REST:
            for segment in truth.segments:
                if segment.category_id == category.id:
                    yield category.name, contours.path(truth.mask_of(segment))
