"""A raw folder to a DATASET: parallel, resumable, whole or not at all."""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from mammoprep import panoptic, parallel, pixels, tables
from mammoprep.convert import dataset, review, summary, workers
from mammoprep.convert.case import Case, Job, no_class
from mammoprep.convert.options import Options, Work
from mammoprep.convert.summary import Summary
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.panoptic import Journal
from mammoprep.pixels import PixelError, label_map, mask_file
from mammoprep.pseudo_mask import Prompted
from mammoprep.records import Classes, Finding, LabelMap, MaskFile, Reader, Record, Skipped
from mammoprep.shelf import Again, Shelf

_WORK = Work()


def convert(reader: Reader, root: Path, *, out: Path, options: Options, work: Work = _WORK) -> Summary:
    """Convert a raw folder into the DATASET `out`.

    A run that is stopped or killed leaves `out` as it was and, once an image is done, what `existing="resume"`
    continues; the bytes are those of a run that was not stopped. Raises MammoprepError where the folder, the options
    or `out` are wrong, or where no image at all can be converted.
    """
    out = out.resolve()
    _check_apart(root, out)
    header = _header(reader, root, options)
    if options.review:
        review.check(options.review, header)
    if work.existing == "resume":
        panoptic.tidy(out)
        if is_complete(out):
            return _read_counts(out, header, verify=work.verify)
    with panoptic.journaled(out, header=header, existing=work.existing) as (folder, journal):
        records, skipped, classes = _read_tables(reader, root, options)
        categories = panoptic.make_categories(classes, options.stuff_classes)
        job = Job(root, folder, replace(options, review=None), categories)
        _make_cases(records, job, journal=journal, work=work)
        cases = _cases(journal)
        for case in cases:
            for item in case.skipped:
                _list(item, skipped)
        counts = summary.of_cases(cases, categories=categories, skipped=skipped, recipe=options.recipe)
        if not counts.images:
            raise MammoprepError(_nothing_done(root, counts))
        manifest = header | {"counts": counts.to_json()}
        if options.review:
            panoptic.write_bytes(folder / panoptic.REVIEW, options.review.content)
        dataset.write(folder, cases, categories=categories, skipped=skipped, manifest=manifest)
        if work.verify:
            _verify(folder)
    return counts


def preview(reader: Reader, root: Path, *, options: Options) -> Summary:
    """Count what `convert` would find, from tables, label maps and the presence of the files; nothing is written."""
    header = _header(reader, root, options)
    if options.review:
        review.check(options.review, header)
    records, skipped, classes = _read_tables(reader, root, options)
    present = _present(islice(records, options.limit), root, options, skipped)
    return summary.of_records(present, classes=classes, skipped=skipped, recipe=options.recipe)


def _present(records: Iterable[Record], root: Path, options: Options, skipped: Shelf[Skipped]) -> Iterator[Record]:
    """Yield the records whose file is there, with the findings that can be used; list the rest."""
    for record in records:
        try:
            pixels.locate(root, record.source)
        except PixelError as error:
            _list(Skipped(record.shown, "image", str(error)), skipped)
            continue
        items = [item for finding in record.findings for item in _promised(finding, root, options)]
        for item in items:
            if isinstance(item, Skipped):
                _list(item, skipped)
        if record.findings and not items and not record.lesion_free:
            _list(Skipped(record.shown, "selection", mask_file.EMPTY), skipped)
        else:
            yield replace(record, findings=tuple(item for item in items if isinstance(item, Finding)))


def _promised(finding: Finding, root: Path, options: Options) -> Iterator[Finding | Skipped]:
    """Yield a finding, or those of a label map; list one that has no class, or none of whose mask files is there."""
    if isinstance(finding.shape, LabelMap):
        for item in label_map.read(finding, finding.shape, root=root):
            yield item if isinstance(item, Skipped) else _classed(item.finding, options)
        return
    if isinstance(finding.shape, MaskFile) and finding.label is not None:
        try:
            mask_file.check_there(finding.shape, root=root)
        except PixelError as error:
            yield Skipped(finding.source, "finding", str(error))
            return
    yield _classed(finding, options)


def _classed(finding: Finding, options: Options) -> Finding | Skipped:
    return no_class(finding, options.labels) if finding.label is None else finding


def is_complete(out: Path) -> bool:
    """Tell whether `out` is a DATASET that no interrupted run is about to replace."""
    return (out / "manifest.json").is_file() and not panoptic.partial_of(out).exists()


def _check_apart(root: Path, out: Path) -> None:
    """Refuse an `out` that would mix with the raw folder."""
    raw = root.resolve()
    if out == raw or out.is_relative_to(raw) or raw.is_relative_to(out):
        raise MammoprepError(f"{out} and the raw folder {raw} hold one another. Name an OUT beside it.")


def _header(reader: Reader, root: Path, options: Options) -> dict[str, Any]:
    """Give manifest.json without its counts: all that the result follows from."""
    if options.labels not in reader.labels:
        raise UnknownNameError(options.labels, kind=f"label scheme of {reader.title}", known=reader.labels)
    if not root.is_dir():
        raise MissingFileError(root, hint=f"Name the raw folder of {reader.title}.")
    paths = {path.relative_to(root).as_posix(): path for path in tables.inside(root, reader.tables(root))}
    inputs = {reader.called(name): panoptic.file_hash(path) for name, path in sorted(paths.items())}
    header = {
        "format": panoptic.FORMAT,
        "dataset": reader.name,
        "options": options.to_json() | ({"key": reader.key} if reader.key else {}),
        "labels": options.labels,
        "versions": {package: version(package) for package in parallel.DECISIVE},
        "seed": 0,  # nothing is drawn at random
        "inputs": inputs,
    }
    as_read_back: dict[str, Any] = json.loads(json.dumps(header))
    return as_read_back


def _read_counts(out: Path, header: dict[str, Any], *, verify: bool) -> Summary:
    """Give the counts of a DATASET that is there, made with the same options from the same tables."""
    manifest = panoptic.read_json(out / "manifest.json", hint="Say --overwrite to make it anew.")
    counts = manifest.pop("counts")
    manifest.pop("outputs", None)
    panoptic.refuse_other(manifest, header, where=out)
    if verify and (wrong := next(panoptic.wrong_files(out), None)):
        raise MammoprepError(f"{out / wrong} is not what was written. Say --overwrite to make the data set anew.")
    return Summary(**counts)


def _verify(folder: Path) -> None:
    """Read again what was written; a file that differs goes, so that it is made again."""
    wrong = list(panoptic.wrong_files(folder))
    for name in wrong:
        (folder / name).unlink(missing_ok=True)
    if wrong:
        others = f" and {len(wrong) - 1} other files are" if wrong[1:] else " is"
        raise MammoprepError(
            f"{folder / wrong[0]}{others} not what was written: the disk may be failing. Say --resume to make it again."
        )


def _read_tables(reader: Reader, root: Path, options: Options) -> tuple[Shelf[Record], Shelf[Skipped], tuple[str, ...]]:
    """Give the records in the order of their numbers, what belongs to none, and the classes."""
    records, skipped, names = Shelf[Record](), Shelf[Skipped](), Shelf[None](one_each=True)
    classes = reader.labels[options.labels]
    for item in reader.read(root, labels=options.labels, **options.reader):
        if isinstance(item, Record):
            records.put(item, number=item.number, text=item.shown)  # the order of names would tell of them
            names.put(None, text=item.image_id)
        elif isinstance(item, Classes):
            classes = item.names
        else:
            _list(item, skipped)
    if len(names) < len(records):
        raise MammoprepError(f"{root}: its tables give one image_id to two files. Correct them.")
    if options.review:
        kept, rejected = review.apply(options.review, islice(records, options.limit))
        records = Shelf[Record]()
        for record in kept:
            records.put(record, number=record.number, text=record.shown)
        for item in rejected:
            _list(item, skipped)
    return records, skipped, classes


def _list(item: Skipped, skipped: Shelf[Skipped]) -> None:
    """Put what is left out where skipped.csv has it."""
    skipped.put(item, text=f"{item.source}\0{item.stage}\0{item.reason}")


def _numbered(records: Shelf[Record], *, limit: int | None, done: Collection[int]) -> Iterator[tuple[int, Record]]:
    """Yield the records that are not done, each with its number."""
    for place, record in enumerate(islice(records, limit), start=1):
        number = record.number or place
        if number not in done:
            yield number, record


def _make_cases(records: Shelf[Record], job: Job, *, journal: Journal, work: Work) -> None:
    """Convert what the journal does not hold yet."""
    for folder in ("images", "panoptic"):
        (job.out / folder).mkdir(exist_ok=True)
    done = {case.number for case in _cases(journal) if _is_written(case, job.out, verify=work.verify)}
    tasks = Again(lambda: _numbered(records, limit=job.options.limit, done=done))
    if work.existing == "resume":
        _clear((record for _, record in tasks), job.out)
    total = min(len(records), job.options.limit or len(records))
    left = max(1, total - len(done))
    recipe = job.options.recipe
    more = recipe.memory if isinstance(recipe, Prompted) else 0
    count = min(work.workers or workers.count(left, more=more), left)
    report = work.on_progress or (lambda done, total: None)
    report(len(done), total)
    job = replace(job, root=job.root.resolve())  # workers may stand in other folders
    made = workers.make_all(tasks, job=job, workers=count, cluster=work.cluster, on_note=work.on_note)
    with closing(made) as cases:
        for finished, case in enumerate(cases, start=len(done) + 1):
            journal.append(case.to_json())
            report(finished, total)


def _cases(journal: Journal) -> Shelf[Case]:
    """Read the cases in the order of their numbers; of one that was made twice, the last."""
    cases = Shelf[Case](one_each=True)
    for entry in journal.entries():
        cases.put(Case.from_json(entry), number=entry["number"])
    return cases


def _is_written(case: Case, out: Path, *, verify: bool) -> bool:
    """Tell whether a case need not be made again; a file that could not be used is tried again."""
    paths = _files(case.image.name, out) if case.image else ()
    return bool(paths) and all(
        panoptic.is_as_written(path, written, verify=verify) for path, written in zip(paths, case.files, strict=True)
    )


def _clear(records: Iterable[Record], out: Path) -> None:
    """Delete what a killed run may have left of images that are to be made: not all of them can be made now."""
    for record in records:
        for path in _files(record.image_id, out):
            path.unlink(missing_ok=True)


def _files(name: str, out: Path) -> tuple[Path, Path]:
    return out / "images" / f"{name}.png", out / "panoptic" / f"{name}.png"


def _nothing_done(root: Path, counts: Summary) -> str:
    reasons = counts.skipped.get("image", {})
    if not reasons:
        refused = "; ".join([*counts.skipped.get("selection", {}), *counts.skipped.get("table", {})][:3])
        return f"{root}: its tables name no image that these options ask for{refused and f' ({refused})'}."
    reason, count = next(iter(reasons.items()))
    return f"{root}: none of {counts.skipped_images} images could be converted; {count} of them: {reason}."
