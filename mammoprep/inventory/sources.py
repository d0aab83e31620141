"""Where counts come from: a reader's tables, with or without the files they name, or the tables of a DATASET."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from os.path import isfile
from pathlib import Path
from typing import cast, get_args

from mammoprep import panoptic, parallel, pixels, tables
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.inventory.counts import Inventory, Lesion, Look, count
from mammoprep.inventory.lesions import lesions_of
from mammoprep.parallel import ONE, Workers
from mammoprep.pixels import PixelError, mask_file
from mammoprep.records import Classes, Reader, Record, Skipped, Stage

Recognise = Callable[[Path], Reader | None]
"""Gives the reader of a raw folder, None where it is of no data set that is known."""
Progress = Callable[[int, int], None]
NOT_THERE = "the file is not there"


def inspect(
    source: Path,
    *,
    recognise: Recognise,
    labels: str | None = None,
    read_pixels: bool = False,
    workers: Workers = ONE,
    on_progress: Progress = lambda done, total: None,
) -> Inventory:
    """Count what a raw folder or a DATASET holds; nothing is written.

    Of a raw folder the tables and label maps are read and files looked for; with `read_pixels` these are read too,
    which adds what stands in them alone: manufacturer, pixel spacing, the size of lesions whose masks are files, and
    what cannot be read. `labels` is one of the reader's schemes, None for its default. `on_progress` is told
    (done, total) in files. Raises MammoprepError for a folder that is neither, and for options that it does not have.
    """
    if not source.is_dir():
        raise MissingFileError(source, hint="Name a raw folder, as it was downloaded, or a DATASET.")
    reader = recognise(source)
    if is_dataset(source) or (reader is None and (source / "panoptic.json").is_file()):
        if labels is not None or read_pixels:
            option = "--pixels" if labels is None else "--labels"
            raise MammoprepError(f"{source} is a DATASET: its tables say all. Leave out {option}.")
        return _of_dataset(source)
    if reader is None:
        raise _unknown(source, recognise)
    scheme = labels or next(iter(reader.labels))
    if scheme not in reader.labels:
        raise UnknownNameError(scheme, kind=f"label scheme of {reader.title}", known=reader.labels)
    tables.inside(source, reader.tables(source))
    items = list(reader.read(source, labels=scheme))
    records = sorted((item for item in items if isinstance(item, Record)), key=lambda record: record.source)
    skipped = [item for item in items if isinstance(item, Skipped)]
    classes = next((item.names for item in items if isinstance(item, Classes)), reader.labels[scheme])
    looks, more = _of_records(source, records, scheme, read_pixels, workers=workers, on_progress=on_progress)
    skipped += more
    missing = sum(item.reason == NOT_THERE for item in more)
    return count(
        looks,
        source=f"{reader.title} (mammoprep convert {reader.name})",
        labels=scheme,
        classes=classes,
        files=len(records) - missing,
        skipped=skipped,
    )


def is_dataset(source: Path) -> bool:
    """Tell whether a folder is a DATASET, which has a table of cases beside its COCO-panoptic annotations."""
    return all((source / name).is_file() for name in ("panoptic.json", "cases.csv"))


def _unknown(source: Path, recognise: Recognise) -> MammoprepError:
    inner = sorted(entry for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    below = next((entry for entry in inner if recognise(entry) or (entry / "panoptic.json").is_file()), None)
    hint = f"Name {below}." if below else "For images of your own say --reader folder, for COCO's JSON --reader coco."
    return MammoprepError(f"{source} is neither a DATASET nor the folder of a data set that is known. {hint}")


def _of_records(
    root: Path,
    records: Sequence[Record],
    labels: str,
    read_pixels: bool,
    *,
    workers: Workers,
    on_progress: Progress,
) -> tuple[list[Look], list[Skipped]]:
    """Give what is known of each record, and what of it a conversion would leave out."""
    looked = partial(_look, root=root, labels=labels, read_pixels=read_pixels)
    looks, skipped = [], []
    for done, (look, left_out) in enumerate(parallel.each(looked, records, workers=workers), start=1):
        looks.append(look)
        skipped += left_out
        on_progress(done, len(records))
    return looks, skipped


def _look(record: Record, *, root: Path, labels: str, read_pixels: bool) -> tuple[Look, list[Skipped]]:
    look = Look(
        patient=record.patient_id,
        study=record.study_id,
        laterality=record.laterality,
        view=record.view,
        density=record.density,
        split=record.split,
    )
    skipped: list[Skipped] = []
    size = None
    try:
        path = pixels.locate(root, record.source)
        if read_pixels:
            look, size = _with_file(look, record, path)
    except PixelError as error:
        skipped.append(Skipped(record.source, "image", str(error)))
    items = [item for each in record.findings for item in lesions_of(each, root=root, labels=labels, size=size)]
    skipped += [item for item in items if isinstance(item, Skipped)]
    is_free = record.lesion_free and not (items and any(each.may_be_empty for each in record.findings))
    if record.findings and not items and not is_free:
        skipped.append(Skipped(record.source, "selection", mask_file.EMPTY))
    return replace(
        look, lesion_free=is_free, lesions=tuple(each for each in items if isinstance(each, Lesion))
    ), skipped


def _with_file(look: Look, record: Record, path: Path) -> tuple[Look, tuple[int, int]]:
    """Add what the image's file says, and give its size (H, W)."""
    grey = pixels.read(path)
    height, width = grey.pixels.shape
    if record.size and record.size != (height, width):
        raise PixelError(f"Rows/Columns are {height}x{width}, the table says {record.size[0]}x{record.size[1]}")
    more = replace(
        look,
        laterality=look.laterality or grey.facts.laterality,
        view=look.view or grey.facts.view,
        manufacturer=grey.facts.manufacturer,
        spacing_mm=grey.facts.pixel_spacing_mm,
    )
    return more, (height, width)


def _of_dataset(root: Path) -> Inventory:
    with panoptic.no_collection():
        content = panoptic.load(root)
    rows = {row.get("image_id", ""): row for row in panoptic.read_cases(root)} if (root / "cases.csv").is_file() else {}
    names = {category.id: category.name for category in content.things}
    looks = [_of_image(image, rows.get(image.name, {}), names) for image in content.images]
    manifest = {}
    with suppress(MammoprepError):
        manifest = panoptic.read_json(root / "manifest.json", hint="")
    manifest = manifest if isinstance(manifest, dict) else {}
    return count(
        looks,
        source=f"DATASET of {manifest.get('dataset', 'unknown origin')}",
        labels=str(manifest.get("labels", "")),
        classes=tuple(names.values()),
        files=sum(isfile(root / "images" / f"{image.name}.png") for image in content.images),
        skipped=_skipped(root / "skipped.csv"),
    )


def _of_image(image: panoptic.Image, row: Mapping[str, str], names: Mapping[int, str]) -> Look:
    scale_x, scale_y = (_number(row, f"scale_{axis}") or 1.0 for axis in "xy")
    left, top = (_number(row, f"crop_{axis}0") or 0.0 for axis in "xy")
    lesions = []
    for segment in image.segments:
        if segment.category_id in names:
            x, y, width, height = segment.bbox
            x0, x1 = sorted(left + edge / scale_x for edge in (x, x + width))  # scale_x < 0 where mirrored
            box = (x0, top + y / scale_y, x1, top + (y + height) / scale_y)
            lesions.append(Lesion(names[segment.category_id], box))
    return Look(
        patient=row.get("patient_id", ""),
        study=row.get("study_id", ""),
        laterality=row.get("laterality", ""),
        view=row.get("view", ""),
        density=row.get("density", ""),
        split=row.get("split", ""),
        manufacturer=row.get("manufacturer", ""),
        lesion_free=row.get("lesion_free") == "1",
        spacing_mm=_number(row, "pixel_spacing_mm"),
        lesions=tuple(lesions),
    )


def _number(row: Mapping[str, str], column: str) -> float | None:
    """Give a number above 0; None where the cell holds none."""
    try:
        value = float(row.get(column) or 0)
    except ValueError:
        return None
    return value if 0 < value < inf else None


def _skipped(path: Path) -> Iterator[Skipped]:
    if not path.is_file():
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                stage = row.get("stage") or ""
                if stage in get_args(Stage):
                    yield Skipped(row.get("source") or "", cast(Stage, stage), row.get("reason") or "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MammoprepError(f"{path} cannot be read as CSV in UTF-8. Convert again.") from error
