"""SHA256SUMS held against the files, and an interrupted run that lies beside the folder."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mammoprep import panoptic, parallel
from mammoprep.check.rules import Problem
from mammoprep.errors import MammoprepError
from mammoprep.parallel import Workers

MANIFEST = "manifest.json"
_BATCH = 64
"""Files a call on a cluster."""


def check(dataset: Path, manifest: Mapping[str, Any], *, workers: Workers) -> Iterator[Problem]:
    """Compare every file that has a hash; a DATASET of another tool, or of an earlier version, has none."""
    listed = (dataset / panoptic.SUMS).is_file()
    wanted = manifest.get("outputs", {}).get(panoptic.SUMS) if manifest else None
    if wanted and not listed:
        yield Problem("hashes", panoptic.SUMS, "it is missing, and manifest.json has its SHA-256")
    if not listed:
        return
    if wanted and panoptic.file_hash(dataset / panoptic.SUMS) != wanted:
        yield Problem("hashes", panoptic.SUMS, "its SHA-256 is not that of manifest.json")
    try:
        lines = panoptic.read_sums(dataset)
        yield from filter(None, parallel.each(partial(_differs, dataset), lines, workers=workers, batch=_BATCH))
    except MammoprepError:
        yield Problem("hashes", panoptic.SUMS, "a line of it is no SHA-256 and path")


def _differs(dataset: Path, line: tuple[str, str]) -> Problem | None:
    name, wanted = line
    if not (dataset / name).is_file():
        return Problem("hashes", name, "it is missing, and SHA256SUMS lists it")
    try:
        same = panoptic.file_hash(dataset / name) == wanted
    except MammoprepError:
        return Problem("hashes", name, "it cannot be read")
    return None if same else Problem("hashes", name, "it is not what was written: its SHA-256 differs")


def matching(dataset: Path, names: Collection[str]) -> list[str]:
    """Give those of some files that are what SHA256SUMS says: what they are after a mending may be said there."""
    if not (dataset / panoptic.SUMS).is_file():
        return []
    return [line[0] for line in panoptic.read_sums(dataset) if line[0] in names and _differs(dataset, line) is None]


def sign(dataset: Path, names: Collection[str]) -> None:
    """Write the hashes of files that were mended into SHA256SUMS, and its own into manifest.json."""
    if not names:
        return
    lines = (
        (name, panoptic.file_hash(dataset / name) if name in names else code)
        for name, code in panoptic.read_sums(dataset)
    )
    sums = panoptic.write_sums(dataset, lines)
    manifest = panoptic.read_json(dataset / MANIFEST, hint="It was there a moment ago.")
    panoptic.write_json(dataset / MANIFEST, {**manifest, "outputs": {panoptic.SUMS: sums}})


def unfinished(folder: Path) -> str:
    """Say what an interrupted command left of a folder; nothing where none did.

    A RUN is finished when each of its folds has predictions, which are written last.
    """
    partial = panoptic.partial_of(folder)
    if partial.is_dir():
        return f"{partial} holds an interrupted run: the same command with --resume goes on with it"
    if not (folder / "run.json").is_file():
        return ""
    run = panoptic.read_json(folder / "run.json", hint="Name a RUN or a DATASET.")
    folds = run.get("folds", [run.get("fold")]) if isinstance(run, dict) else []
    left = [fold for fold in folds if not (folder / f"fold-{fold}" / "predictions" / "panoptic.json").is_file()]
    if not left:
        return ""
    return f"training has not ended: fold {', '.join(map(str, left))} has no predictions; --resume goes on with it"
