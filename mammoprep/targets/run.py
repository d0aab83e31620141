"""A DATASET to another tool's format: whole or not at all, and what that format cannot hold is counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from joblib import cpu_count

from mammoprep import __version__, panoptic
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.targets import coco, cvat, dicom_seg, hf, labelme, nnunet, source, truth_seg, yolo
from mammoprep.targets.source import Source

REPORT = "export.json"
"""Says in the exported folder what it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """A format: its writer, which gives the counts of what is lost, and whether it can, must or cannot have a fold."""

    write: Callable[[Source, Path], Counter[str]]
    fold: Literal["can", "must", "cannot"] = "cannot"


TARGETS: Mapping[str, Target] = {
    "coco": Target(coco.write, fold="can"),
    "yolo": Target(yolo.write, fold="must"),
    "nnunet": Target(nnunet.write),
    "cvat": Target(cvat.write),
    "labelme": Target(labelme.write),
    "hf": Target(hf.write, fold="can"),
    "dicom-seg": Target(truth_seg.write),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for: the target, a fold of folds.json, the raw folder (DICOM SEG), an OUT that may be replaced."""

    to: str
    fold: int | None = None
    raw: Path | None = None
    overwrite: bool = False
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and the counts of what the format does not hold, by what it is."""

    to: str
    fold: int | None
    images: int
    lesions: int
    not_held: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Give a dictionary for JSON."""
        return asdict(self)


def export(dataset: Path, out: Path, *, options: Options) -> Report:
    """Write a DATASET to the folder `out` as the target has it. Same input and options, same bytes, but for DICOM SEG.

    Raises MammoprepError where the DATASET, the options or `out` are wrong; then nothing is written.
    """
    target = _check(dataset, out, options=options)
    content, cases = source.load(dataset, fold=options.fold)
    given = Source(content, cases, cpu_count(), options.raw, options.on_progress)
    if options.to == "hf":
        hf.check(given)
    with panoptic.staged(out, overwrite=options.overwrite) as partial:
        lost = target.write(given, partial)
        lost["images in neither part of the fold are left out"] = len(content.images) - len(cases)
        lesions = sum(len(case.lesions) for case in cases)
        report = Report(options.to, options.fold, len(cases), lesions, dict(sorted((+lost).items())))
        manifest = dataset / "manifest.json"
        made_from = panoptic.file_hash(manifest) if manifest.is_file() else None
        panoptic.write_json(
            partial / REPORT, {"mammoprep": __version__, "manifest_sha256": made_from, **report.to_json()}
        )
    return report


def _check(dataset: Path, out: Path, *, options: Options) -> Target:
    """Refuse what cannot work before anything is read."""
    if options.to not in TARGETS:
        raise UnknownNameError(options.to, kind="export target", known=TARGETS)
    target = TARGETS[options.to]
    if not dataset.is_dir():
        raise MissingFileError(dataset, hint="A DATASET is written by `mammoprep convert`.")
    if options.fold is None and target.fold == "must":
        raise MammoprepError(f"{options.to} needs train and val images: say --fold 0 (`mammoprep folds` makes folds).")
    if options.fold is not None and target.fold == "cannot":
        more = " It gets all folds in splits_final.json." if options.to == "nnunet" else ""
        raise MammoprepError(f"{options.to} has no train and val part. Leave out --fold.{more}")
    if (options.raw is None) == (options.to == "dicom-seg"):
        raise MammoprepError(
            "--raw is for dicom-seg alone, which needs it: a DICOM SEG refers to the files of the raw folder."
        )
    for folder in (dataset, *([options.raw] if options.raw else ())):
        here, there = folder.resolve(), out.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise MammoprepError(f"{out} and {folder} hold one another. Name an OUT beside it.")
    panoptic.check_vacant(out, overwrite=options.overwrite)
    if options.to == "nnunet":
        nnunet.check_name(out)
    if options.to == "dicom-seg":
        dicom_seg.require()
    return target
