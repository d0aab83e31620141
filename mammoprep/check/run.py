"""All rules over a DATASET, and the mending of what follows from data that are there."""

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic, parallel
from mammoprep.check import duplicates, entries, folds, hashes, pixels, tables
from mammoprep.check.entries import Content
from mammoprep.check.rules import RULES, Edit, Problem, Report, count_fixed
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.parallel import ONE, Workers

Progress = Callable[[int, int], None]
_BATCH = 16
"""Images a call on a cluster: a call costs a millisecond, an image some ten."""


def check(
    dataset: Path,
    *,
    ignore: Collection[str] = (),
    fix: bool = False,
    workers: Workers = ONE,
    on_progress: Progress = lambda done, total: None,
) -> Report:
    """Hold a DATASET against every rule but those to `ignore`; with `fix` mend what can be, and check again.

    `on_progress` is told (done, total) in images. Raises MammoprepError where the folder is no DATASET at all.
    """
    for name in ignore:
        if name not in RULES:
            raise UnknownNameError(name, kind="rule", known=RULES)
    left = hashes.unfinished(dataset)
    if left and not (dataset / "panoptic.json").is_file():
        raise MammoprepError(f"{dataset} is unfinished: {left}.")
    if not dataset.is_dir():
        raise MissingFileError(dataset, hint="Name a DATASET, as `mammoprep convert` writes it.")
    dataset = dataset.resolve() if workers.cluster else dataset  # whose workers stand in other folders
    report = _check(dataset, ignore, workers, on_progress).without(ignore)
    edits = [problem.edit for problem in report.problems if problem.edit]
    if not fix or not edits:
        return report
    mend(dataset, edits)
    return replace(_check(dataset, ignore, workers, on_progress).without(ignore), fixed=count_fixed(report.problems))


def _check(dataset: Path, ignore: Collection[str], workers: Workers, on_progress: Progress) -> Report:
    content = entries.read(dataset)
    rows, problems = tables.rows_of(dataset, "cases.csv", panoptic.CASE_COLUMNS, rule="cases-columns")
    skipped, strange = tables.rows_of(dataset, "skipped.csv", tables.SKIPPED, rule="skipped")
    manifest, wrong = tables.read_manifest(dataset)
    patients = tables.count_rows(rows or (), content)
    problems += [*content.problems, *strange, *wrong, *tables.files(dataset, content), *tables.skipped(skipped or ())]
    if rows is not None:
        problems += tables.cases(rows, content)
    if manifest:
        problems += tables.manifest(manifest, content, None if rows is None else len(set(patients.values())))
    problems += folds.check(dataset, content, patients)
    problems += hashes.check(dataset, manifest, workers=workers)
    if left := hashes.unfinished(dataset):
        problems.append(Problem("unfinished", dataset.name, left))
    found, names, digests, prints = _look(dataset, content, manifest, workers=workers, on_progress=on_progress)
    problems += found
    in_pairs = "near-duplicates" not in ignore
    problems += duplicates.find(names, digests, prints, patients, in_pairs=in_pairs, workers=workers)
    images = content.images.values()
    return Report(
        images=len(images),
        patients=len(set(patients.values())),
        lesion_free=sum(image.lesion_free for image in images),
        without_finding=sum(not image.findings and not image.lesion_free for image in images),
        problems=tuple(problems),
    )


def _look(
    dataset: Path,
    content: Content,
    manifest: Mapping[str, Any],
    *,
    workers: Workers,
    on_progress: Progress,
) -> tuple[list[Problem], list[str], list[bytes], NDArray[np.uint64]]:
    """Look at the pixels of all images; give names, digests and fingerprints of those that show something."""
    cv2.setNumThreads(1)  # the images are what runs in parallel
    bits = manifest["options"].get("bits") if manifest else None
    bits = bits if bits in (8, 16) else None
    things, total = frozenset(content.things), len(content.images)
    jobs = (pixels.Job(dataset, each, things, bits, content.has_instances) for each in content.whole())
    problems: list[Problem] = []
    names, digests, fingerprints = list[str](), list[bytes](), np.empty((total, 8), dtype=np.uint64)
    looks = parallel.each(pixels.look, jobs, workers=workers, batch=_BATCH, killed=pixels.killed)
    for done, (number, seen) in enumerate(zip(sorted(content.images), looks, strict=True), start=1):
        problems += seen.problems
        if seen.fingerprint is not None:
            fingerprints[len(names)] = seen.fingerprint
            names.append(content.images[number].name)
            digests.append(seen.digest)
        on_progress(done, total)
    return problems, names, digests, fingerprints[: len(names)]


def mend(dataset: Path, edits: Sequence[Edit]) -> None:
    """Set values in the files of a DATASET, each of them written whole or not at all."""
    names = {edit.file for edit in edits}
    whole = hashes.matching(dataset, names)
    for name in sorted(names):
        path, own = dataset / name, [edit for edit in edits if edit.file == name]
        if name.endswith(".csv"):
            columns, rows = tables.read_csv(path)
            _set(rows, own)
            panoptic.write_bytes(path, _csv(columns, rows))
        else:
            content = panoptic.read_json(path, hint="It was there a moment ago.")
            _set(content, own)
            panoptic.write_json(path, content)
    hashes.sign(dataset, whole)


def _set(content: Any, edits: Sequence[Edit]) -> None:
    for edit in edits:
        place = content
        for step in edit.place[:-1]:
            place = place[step]
        place[edit.place[-1]] = edit.value


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
