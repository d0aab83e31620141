"""The pages of a gallery on disk: plain HTML, CSS and JavaScript that open without a server, and their data."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mammoprep import panoptic, parallel
from mammoprep.errors import MammoprepError
from mammoprep.gallery import doubts, entry
from mammoprep.gallery.entry import Job, Judge
from mammoprep.gallery.material import Material

PAGE = Path(__file__).parent / "page"
"""The files of the pages themselves, written by hand."""
CHUNK = 50
"""Images whose outlines are in one file, which the page loads with the first of them."""
MARK = "gallery.json"
"""Says in OUT what was written."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a gallery is made: `judge` pairs true and predicted lesions, `scores` is a folder that `evaluate` wrote.

    `queue` puts the doubtful cases first; `copy` puts the images beside the pages, which else refer to them where they
    are. `footnote` is what a reader of the predictions has to know: its first letter marks them.
    """

    judge: Judge | None = None
    scores: Path | None = None
    footnote: str | None = None
    queue: bool = False
    copy: bool = False
    overwrite: bool = False
    workers: parallel.Workers = parallel.ONE
    on_progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a gallery shows, in numbers. `verdicts` are of the true lesions and, under `false`, of predicted ones.

    `crops` counts the lesions at native resolution, `raw` the images without, by reason; `unpredicted` images were left
    out.
    """

    images: int
    lesions: int
    predicted: int
    unpredicted: int
    verdicts: Mapping[str, int]
    doubtful: int
    doubts: Mapping[str, int]
    crops: int
    scores: bool
    raw: Mapping[str, int] = field(default_factory=dict)


_DEFAULTS = Options()


def write(material: Material, out: Path, *, options: Options = _DEFAULTS) -> Summary:
    """Write the gallery into `out`, whole or not at all; `index.html` is where to begin."""
    out = out.resolve()
    for place in (material.dataset, *material.predictions, *((material.raw,) if material.raw else ())):
        if place.resolve().is_relative_to(out):
            raise MammoprepError(f"{out} holds {place}. Name an --out of its own.")
    scores = _scores(options.scores)
    with panoptic.staged(out, overwrite=options.overwrite) as folder:
        for name in ("data", "thumbs", "images", "heatmaps", "crops", "figures"):
            (folder / name).mkdir()
        job = Job(material, folder, partial(_copied, folder) if options.copy else partial(_linked, out), options.judge)
        rows, raw, crops = _make_all(job, options)
        if raw and not crops:
            reason, count = raw.most_common(1)[0]
            raise MammoprepError(f"{material.raw}: no lesion can be cut out; {count} images: {reason}.")
        doubts.mark(rows, {category.id: category.name for category in material.categories})
        figures = _copy_figures(options.scores, folder)
        summary = _summary(rows, material, scores=scores, raw=raw, crops=crops)
        _write_data(folder, rows, material, options=options, more={"scores": scores, "figures": figures})
        panoptic.write_json(folder / MARK, asdict(summary))
        for page in sorted(PAGE.iterdir()):
            shutil.copyfile(page, folder / page.name)
        for empty in ("images", "heatmaps", "crops", "figures"):
            if not any((folder / empty).iterdir()):
                (folder / empty).rmdir()
    return summary


def _make_all(job: Job, options: Options) -> tuple[list[dict[str, Any]], Counter[str], int]:
    """Make the entries, whose details go to disk; give the rows of the index, why images lack crops, and the crops."""
    rows: list[dict[str, Any]] = []
    raw: Counter[str] = Counter()
    crops = 0
    items = job.material.items
    made = parallel.each(partial(entry.make, job=job), items, workers=options.workers)
    for number, some in enumerate(parallel.batched(made, CHUNK)):
        details = [each.detail for each in some]
        text = f"GALLERY.take({number}, {_json(details)});\n"
        panoptic.write_bytes(job.out / "data" / f"cases-{number}.js", text.encode())
        rows += [each.row for each in some]
        raw.update(detail["raw"] for detail in details if "raw" in detail)
        crops += sum(len(detail.get("crops", ())) for detail in details)
        if options.on_progress:
            options.on_progress(len(rows), len(items))
    return rows, raw, crops


def _json(content: Any) -> str:
    """Give JSON in ASCII, which is JavaScript too."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise MammoprepError("panoptic.json or scores.json holds NaN, which is no JSON. Write it again.") from error


def _copied(folder: Path, path: Path, name: str) -> str:
    """Copy a file beside the pages and give its address."""
    shutil.copyfile(path, folder / name)
    return name


def _linked(out: Path, path: Path, _: str) -> str:
    """Give the address of a file where it is, from the pages in `out`."""
    path = path.resolve()
    try:
        return quote(Path(os.path.relpath(path, out)).as_posix())
    except ValueError:  # another drive
        return path.as_uri()


def _scores(folder: Path | None) -> Any:
    """Load what `evaluate` wrote; None where there is nothing."""
    if folder is None:
        return None
    path, hint = folder / "scores.json", "Name the folder that `mammoprep evaluate --out` wrote."
    content = panoptic.read_json(path, hint=hint)
    if not isinstance(content, dict) or not isinstance(content.get("sweep"), dict):
        raise MammoprepError(f"{path} was not written by `mammoprep evaluate`. {hint}")
    return content


def _copy_figures(scores: Path | None, folder: Path) -> list[str]:
    names = sorted(path.name for path in scores.glob("*.png")) if scores else []
    for number, name in enumerate(names):
        shutil.copyfile(scores / name if scores else folder, folder / "figures" / f"{number}.png")
    return [name.removesuffix(".png") for name in names]


def _summary(rows: list[dict[str, Any]], material: Material, *, scores: Any, raw: Counter[str], crops: int) -> Summary:
    lesions = [lesion for row in rows for lesion in row["lesions"]]
    doubtful = [row["doubts"] for row in rows if "doubts" in row]
    judged = (
        lesion["verdict"]
        for lesion in lesions
        if "verdict" in lesion and (lesion["side"] == "truth" or lesion["verdict"] == "false")
    )
    return Summary(
        images=len(rows),
        lesions=sum(lesion["side"] == "truth" for lesion in lesions),
        predicted=sum(lesion["side"] == "predicted" for lesion in lesions),
        unpredicted=material.unpredicted,
        verdicts=dict(sorted(Counter(judged).items())),
        doubtful=len(doubtful),
        doubts=dict(sorted(Counter(doubt["kind"] for some in doubtful for doubt in some).items())),
        crops=crops,
        scores=scores is not None,
        raw=dict(raw.most_common()),
    )


def _write_data(
    folder: Path, rows: list[dict[str, Any]], material: Material, *, options: Options, more: Mapping[str, Any]
) -> None:
    """Write data/index.js: what the page loads first."""
    given = {
        "panoptic": any(lesion["side"] == "predicted" for row in rows for lesion in row["lesions"]),
        "detections": any(lesion["side"] == "detection" for row in rows for lesion in row["lesions"]),
        "heat": any("heat" in row for row in rows),
    }
    marks = [{**asdict(mark), "finding": mark.finding or None} for mark in material.marks]
    content = {
        "title": material.dataset.resolve().name,
        "classes": {category.id: [category.name, category.color] for category in material.categories},
        "predictions": bool(material.predictions),
        "footnote": options.footnote,
        "given": given,
        "judged": options.judge is not None,
        "queue": options.queue,
        "raw": material.raw is not None,
        "review": {"dataset": material.identity, "marks": marks},
        "chunk": CHUNK,
        "images": rows,
        **more,
    }
    panoptic.write_bytes(folder / "data" / "index.js", f"window.GALLERY = {_json(content)};\n".encode())
