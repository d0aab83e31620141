"""One image on its way into a DATASET: from its record to the stored image, its map of segments and its row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammoprep import anatomy, outlines, panoptic, pixels, pseudo_mask
from mammoprep.convert import layers
from mammoprep.convert.layers import Grid, Layer
from mammoprep.convert.options import Options
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Ids, Image, Mask, Segment, Written
from mammoprep.pixels import BURNED_IN, FOR_PROCESSING, TEXT, Facts, Grey, PixelError, label_map, mask_file
from mammoprep.records import (
    Box,
    Finding,
    LabelMap,
    MaskFile,
    Outline,
    PanopticSegment,
    Record,
    SegmentFrames,
    Skipped,
)

COLUMNS = (*panoptic.CASE_COLUMNS, "attributes")
"""The columns of cases.csv as they are written here."""
_Drawn = Outline | PanopticSegment | SegmentFrames
NO_CLASS = "no class under --labels"
"""How the reason begins for which a finding is left out that has no class under the label scheme."""
NOT_SHOWN = "FOR PROCESSING: the detector's raw values, no picture; --for-processing takes them"
"""Why an image is left out that the header says is not for display."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all images of a run share: `root` is read, `out` holds the folders images/ and panoptic/."""

    root: Path
    out: Path
    options: Options
    categories: tuple[Category, ...]

    def class_id(self, name: str) -> int:
        """Give a class's id."""
        return next(category.id for category in self.categories if category.name == name)


@dataclass(frozen=True, slots=True)
class Case:
    """What became of one record: `image` is None where it was skipped; `skipped` says why, also of its findings.

    `number` is the integer image id, `row` a line of cases.csv, `instances` are COCO's annotations, without ids.
    `files` are its image and its map of segments as they were written.
    """

    number: int
    skipped: tuple[Skipped, ...] = ()
    image: Image | None = None
    row: Mapping[str, str | int | float] = field(default_factory=dict)
    instances: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Written, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give what `from_json` reads."""
        return {
            "number": self.number,
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "image": self.image.to_json() if self.image else None,
            "segments": [segment.to_json() for segment in self.image.segments] if self.image else [],
            "row": self.row,
            "instances": self.instances,
            "files": self.files,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Case":
        """Read what `to_json` gave."""
        return cls(
            number=entry["number"],
            skipped=tuple(Skipped(**skipped) for skipped in entry["skipped"]),
            image=Image.from_json(entry["image"], entry["segments"]) if entry["image"] else None,
            row=entry["row"],
            instances=tuple(entry["instances"]),
            files=tuple(Written(*file) for file in entry["files"]),
        )


@dataclass(frozen=True, slots=True)
class _Lesion:
    """A finding drawn on the native or the stored grid: `whole` is all of it.

    `how` says how a box or a file became a mask.
    """

    finding: Finding
    whole: Layer
    how: Mapping[str, Any]


def make(record: Record, *, number: int, job: Job) -> Case:
    """Convert one image and write its two PNGs; one that cannot be used becomes a Case that says why."""
    cv2.setNumThreads(1)  # the images are what runs in parallel
    pseudo_mask.prepare(job.options.recipe)  # here, so that what fails ends the run and is no finding's fault
    try:
        grey = _read(record, root=job.root, window=job.options.window)
        grid = layers.fit(*grey.pixels.shape, long_side=job.options.long_side)
        outlined = {name: _union(parts, grid, root=job.root) for name, parts in record.regions.items()}
    except MammoprepError as error:
        return Case(number, (Skipped(record.shown, "image", str(error)),))
    facts = _look(grey, job.options)
    if reason := _unwanted(facts, job.options):
        return Case(number, (Skipped(record.shown, "selection", reason),))
    has_box = any(isinstance(finding.shape, Box) for finding in record.findings)
    is_aimed = job.options.crop_breast or job.options.flip_right
    is_wanted = "breast" in job.options.stuff and "breast" not in outlined
    found = anatomy.find(grey.pixels) if has_box or is_aimed or is_wanted else None
    every = (_draw_all(finding, grey, breast=found, grid=grid, job=job) for finding in record.findings)
    drawn = [item for items in every for item in items]
    if record.findings and not drawn and not record.lesion_free:
        return Case(number, (Skipped(record.shown, "selection", mask_file.EMPTY),))
    if drawn and any(finding.may_be_empty for finding in record.findings):
        record = replace(record, lesion_free=False)
    lesions = [item for item in drawn if isinstance(item, _Lesion)]
    if found is not None and is_aimed:
        grid = _aim(grid, found, lesions, side=record.laterality or grey.facts.laterality, options=job.options)
    lesions = [placed for lesion in lesions if (placed := _place(lesion, grid))]
    ids, visible = _lay(lesions, grid)
    shown = [(lesion, layer) for lesion, layer in zip(lesions, visible, strict=True) if layer]
    segments = [_thing(i, lesion, layer, job=job) for i, (lesion, layer) in enumerate(shown, start=1)]
    regions = {name: layers.shrink(mask, grid) for name, mask in outlined.items()}
    if found is not None and is_wanted:
        regions["breast"] = layers.spread(found, grid)
    segments += _fill_stuff(ids, regions, grid=grid, job=job)
    stored, name = layers.resize_image(grey.pixels, grid, bits=job.options.bits), f"{record.image_id}.png"
    files = panoptic.write_png(job.out / "images" / name, stored), panoptic.write_ids(job.out / "panoptic" / name, ids)
    return Case(
        number,
        skipped=(*(item for item in drawn if isinstance(item, Skipped)), *_hidden(lesions, visible)),
        image=Image(number, record.image_id, grid.height, grid.width, tuple(segments)),
        row=_row(record, facts, grid=grid, findings=len(shown)),
        instances=tuple(_instance(lesion, number=number, grid=grid, job=job) for lesion, _ in shown),
        files=files,
    )


def _read(record: Record, *, root: Path, window: str) -> Grey:
    grey = pixels.read(pixels.locate(root, record.source), window=window)
    height, width = grey.pixels.shape
    if record.size and record.size != (height, width):
        raise PixelError(f"Rows/Columns are {height}x{width}, the table says {record.size[0]}x{record.size[1]}")
    return grey


def _look(grey: Grey, options: Options) -> Facts:
    """Add to the header's facts what the pixels tell."""
    if options.on_burned_in == "keep" or not pixels.shows_text(grey.pixels):
        return grey.facts
    return replace(grey.facts, attributes=(*grey.facts.attributes, TEXT))


def _unwanted(facts: Facts, options: Options) -> str:
    """Say why the options leave an image out, "" where they do not."""
    if FOR_PROCESSING in facts.attributes and not options.for_processing:
        return NOT_SHOWN
    found = [attribute for attribute in (BURNED_IN, TEXT) if attribute in facts.attributes]
    return f"{' and '.join(found)}; --on-burned-in list takes it" if found and options.on_burned_in == "skip" else ""


def _draw_all(
    finding: Finding, grey: Grey, *, breast: Mask | None, grid: Grid, job: Job
) -> Iterator[_Lesion | Skipped]:
    """Draw one finding, or all lesions of a label map, at native resolution; an empty mask gives nothing."""
    if not isinstance(shape := finding.shape, LabelMap):
        if drawn := _draw(finding, grey, shape=shape, breast=breast, grid=grid, job=job):
            yield drawn
        return
    for item in label_map.read(finding, shape, root=job.root, size=(grid.native_height, grid.native_width)):
        if isinstance(item, Skipped):
            yield item
        elif item.finding.label is None:
            yield no_class(item.finding, job.options.labels)
        else:
            yield _Lesion(item.finding, Layer(item.x, item.y, item.crop), _made(finding, {"mask_file": item.facts}))


def _draw(
    finding: Finding, grey: Grey, *, shape: _Drawn | MaskFile | Box, breast: Mask | None, grid: Grid, job: Job
) -> _Lesion | Skipped | None:
    """Draw one finding at native resolution; None is a mask that may be empty, and is.

    `breast` is as `anatomy.find` gives it.
    """
    if finding.label is None:
        return no_class(finding, job.options.labels)
    how: dict[str, Any] = {}
    try:
        if isinstance(shape, Box):
            tissue = None if breast is None else _tissue(breast, shape, *grey.pixels.shape)
            found = pseudo_mask.segment(grey.pixels, shape, tissue=tissue, recipe=job.options.recipe)
            mask = found.mask
            how["pseudo_mask"] = {"method": found.method, "threshold": found.threshold, "fallback": found.fallback}
        elif isinstance(shape, MaskFile):
            mask, how["mask_file"] = mask_file.read(shape, root=job.root, size=grey.pixels.shape)
        else:
            mask = _outlined(shape, grid, root=job.root)
    except MammoprepError as error:
        is_fine = finding.may_be_empty and isinstance(error, mask_file.EmptyMaskError)
        return None if is_fine else Skipped(finding.source, "finding", str(error))
    whole = layers.cut(mask)
    if whole is None:
        return Skipped(finding.source, "finding", "nothing of the outline lies inside the image")
    return _Lesion(finding, whole, _made(finding, how))


def _tissue(breast: Mask, box: Box, height: int, width: int) -> Mask:
    """Give the breast's pixels in a box, as a mask (height, width) that is empty elsewhere."""
    tissue = np.zeros((height, width), dtype=np.bool_)
    part = pseudo_mask.clip(box, height=height, width=width)
    if part:
        x0, y0, x1, y1 = part
        tissue[y0:y1, x0:x1] = anatomy.enlarge(breast, height, width, part=part)
    return tissue


def _made(finding: Finding, how: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a mask was made; what is known of it from an earlier conversion, or stands for a path, holds."""
    return {**how, **{key: {**how.get(key, {}), **facts} for key, facts in finding.made.items()}}


def _outlined(outline: _Drawn, grid: Grid, *, root: Path) -> Mask:
    """Draw an outline, or take a segment of a panoptic PNG or a DICOM SEG, at native resolution."""
    mask: Mask
    if isinstance(outline, PanopticSegment):
        kind, mask = "panoptic PNG", panoptic.read_ids(pixels.locate(root, outline.source)) == outline.id
    elif isinstance(outline, SegmentFrames):
        kind, mask = "DICOM SEG", pixels.read_frames(pixels.locate(root, outline.source), outline.frames)
    else:
        return outlines.draw(outline, height=grid.native_height, width=grid.native_width)
    if mask.shape != (grid.native_height, grid.native_width):
        raise PixelError(f"the {kind} has {mask.shape[0]}x{mask.shape[1]} pixels, unlike the image")
    return mask


def _union(outlined: Sequence[Outline | PanopticSegment], grid: Grid, *, root: Path) -> Mask:
    mask = np.zeros((grid.native_height, grid.native_width), dtype=np.bool_)
    for outline in outlined:
        mask |= _outlined(outline, grid, root=root)
    return mask


def _aim(grid: Grid, found: Mask, lesions: Sequence[_Lesion], *, side: str, options: Options) -> Grid:
    """Give the grid of the part that is asked for, mirrored or not; a lesion beside the breast is not cut off."""
    height, width = grid.native_height, grid.native_width
    part = None
    if options.crop_breast:
        corners = [anatomy.crop(found, height, width)]
        corners += [(x, y, x + w, y + h) for x, y, w, h in (lesion.whole.box for lesion in lesions)]
        x0, y0, x1, y1 = zip(*corners, strict=True)
        part = (min(x0), min(y0), max(x1), max(y1))
    faces_left = anatomy.faces_left(found)
    mirrored = options.flip_right and (side == "R" if faces_left is None else faces_left)
    return layers.fit(height, width, long_side=options.long_side, part=part, mirrored=mirrored)


def _place(lesion: _Lesion, grid: Grid) -> _Lesion | None:
    """Bring a lesion from the native to the stored grid, on which `_aim` lets it lie."""
    whole = layers.place(lesion.whole, grid)
    return replace(lesion, whole=whole) if whole else None


def no_class(finding: Finding, labels: str) -> Skipped:
    """List a finding that has no class under a label scheme."""
    return Skipped(finding.source, "finding", f"{NO_CLASS} {labels}")


def _lay(lesions: Sequence[_Lesion], grid: Grid) -> tuple[Ids, list[Layer | None]]:
    """Lay lesions over one another; give the map of ids, from 1 for those that show, and what shows of each."""
    ids = layers.stack([lesion.whole for lesion in lesions], height=grid.height, width=grid.width)
    visible = [layers.cut(ids == position) for position in range(1, len(lesions) + 1)]
    if None in visible:
        renumber = np.cumsum([layer is not None for layer in (None, *visible)], dtype=np.int32)
        ids = renumber[ids]
    return ids, visible


def _hidden(lesions: Sequence[_Lesion], visible: Sequence[Layer | None]) -> list[Skipped]:
    """List the lesions of which nothing shows."""
    skipped = []
    for position, (lesion, layer) in enumerate(zip(lesions, visible, strict=True)):
        if layer is None:
            twin = next((other for other in lesions[:position] if other.whole.same_as(lesion.whole)), None)
            reason = f"the same pixels as {twin.finding.source}" if twin else "fully covered by smaller findings"
            skipped.append(Skipped(lesion.finding.source, "finding", reason))
    return skipped


def _thing(segment_id: int, lesion: _Lesion, visible: Layer, *, job: Job) -> Segment:
    covered = 1 - visible.area / lesion.whole.area
    return Segment(
        id=segment_id,
        category_id=job.class_id(str(lesion.finding.label)),
        area=visible.area,
        bbox=visible.box,
        extra={
            **({"covered": round(covered, 6)} if covered else {}),
            **lesion.how,
            "source": lesion.finding.source,
            "attributes": dict(lesion.finding.attributes),
        },
    )


def _instance(lesion: _Lesion, *, number: int, grid: Grid, job: Job) -> dict[str, Any]:
    whole = lesion.whole
    return {
        "image_id": number,
        "category_id": job.class_id(str(lesion.finding.label)),
        "segmentation": panoptic.encode_crop(whole.crop, x=whole.x, y=whole.y, size=(grid.height, grid.width)),
        "bbox": list(whole.box),
        "area": whole.area,
        "iscrowd": 0,
        "attributes": dict(lesion.finding.attributes),
    }


def _fill_stuff(ids: Ids, regions: Mapping[str, Layer | None], *, grid: Grid, job: Job) -> list[Segment]:
    """Label what no finding covers, in place: each class asked for where its region lies, then background."""
    segments: list[Segment] = []
    for name in job.options.stuff_classes:
        free = ids == 0
        if name != "background":
            region = regions.get(name)
            free &= region.full(grid.height, grid.width) if region else np.False_
        layer = layers.cut(free)
        if layer:
            segment = Segment(int(ids.max()) + 1, job.class_id(name), layer.area, layer.box)
            ids[free] = segment.id
            segments.append(segment)
    return segments


def _row(record: Record, facts: Facts, *, grid: Grid, findings: int) -> dict[str, str | int | float]:
    spacing = record.pixel_spacing_mm if facts.pixel_spacing_mm is None else facts.pixel_spacing_mm
    values: tuple[str | int | float, ...] = (
        *(record.image_id, record.patient_id, record.study_id),
        *(record.laterality or facts.laterality, record.view or facts.view, record.density, record.split),
        *(grid.native_height, grid.native_width, grid.crop_x0, grid.crop_y0, grid.scale_x, grid.scale_y),
        *("" if spacing is None else spacing, facts.manufacturer, findings, int(record.lesion_free), record.source),
        "; ".join(facts.attributes),
    )
    row = dict(zip(COLUMNS, values, strict=True)) | dict(record.given)
    if "scale_x" in record.given:  # it was converted before
        for axis, crop, scale in (("x", grid.crop_x0, grid.scale_x), ("y", grid.crop_y0, grid.scale_y)):
            if (crop, scale) != (0, 1):
                before = float(record.given[f"scale_{axis}"])
                row[f"crop_{axis}0"] = float(record.given.get(f"crop_{axis}0", 0)) + crop / before
                row[f"scale_{axis}"] = before * scale
    return row
