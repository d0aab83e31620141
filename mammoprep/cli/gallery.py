"""`mammoprep gallery`: pages for the browser of a DATASET, of PREDICTIONS for it, or of a RUN."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoprep.cli import console
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.gallery import Summary

PAGE = "index.html"


def gallery(
    source: Annotated[
        Path, typer.Argument(metavar="DATASET|RUN|PREDICTIONS", help="What to show; PREDICTIONS need --on DATASET.")
    ],
    predictions: Annotated[
        Path | None, typer.Argument(metavar="PREDICTIONS", help="PREDICTIONS for the DATASET, of any model.")
    ] = None,
    on: Annotated[Path | None, typer.Option(help="The DATASET of a RUN that was moved, or of PREDICTIONS.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pages.", show_default="RUN/gallery, or NAME-gallery beside NAME")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Folder that evaluate wrote.", show_default="RUN/evaluation, if it is there")
    ] = None,
    raw: Annotated[Path | None, typer.Option(help="RAW folder: lesions are shown at native resolution too.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Doubtful cases first, as a reviewer's list.")] = False,
    copy: Annotated[
        bool, typer.Option("--copy", help="Put the images beside the pages, so that the folder can be passed on.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier gallery.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the pages in the browser.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: the number of cores.")] = None,
    json: console.Json = False,
) -> None:
    """Write pages that open without a server: filters, overlays, zoom, all scores, and a reviewer's marks."""
    from joblib import cpu_count

    from mammoprep import gallery as pages
    from mammoprep.evaluation.marks import FOOTNOTE, knows_truth
    from mammoprep.evaluation.verdicts import verdicts
    from mammoprep.parallel import Workers

    dataset, found = _locate(source, predictions, on)
    if scores is None and (source / "evaluation" / "scores.json").is_file():
        scores = source / "evaluation"
    out = out or _place((predictions or source).resolve())
    material = pages.load(dataset, found, raw=raw)
    with console.progress("gallery") as on_progress:
        options = pages.Options(
            judge=verdicts,
            scores=scores,
            footnote=FOOTNOTE if any(map(knows_truth, found)) else None,
            queue=queue,
            copy=copy,
            overwrite=overwrite,
            workers=Workers(workers or cpu_count()),
            on_progress=on_progress,
        )
        summary = pages.write(material, out, options=options)
    console.note(f"{out / PAGE} written. Open it in a browser.")
    if json:
        console.print_json({"page": str(out / PAGE), **asdict(summary)})
    else:
        _print(summary)
    if show:
        import webbrowser

        webbrowser.open((out / PAGE).resolve().as_uri())


def _place(shown: Path) -> Path:
    """Give the folder of the pages where none is named: in a RUN, else beside what is shown."""
    return shown / "gallery" if (shown / "run.json").is_file() else shown.with_name(f"{shown.name}-gallery")


def _locate(source: Path, predictions: Path | None, on: Path | None) -> tuple[Path, tuple[Path, ...]]:
    """Give the data set and the folders of predictions."""
    from mammoprep.evaluation import runs

    if predictions is not None:
        if on is not None:
            raise MammoprepError("--on names the DATASET of a RUN or of PREDICTIONS. Here it is the first argument.")
        return source, (predictions,)
    if (source / "run.json").is_file():
        dataset, folds = runs.locate(source, on=on)
        return dataset, tuple(folds.values())
    if on is not None:
        return on, (source,)
    if source.is_dir() and not (source / "images").is_dir():
        raise MammoprepError(
            f"{source} has no images/, as a DATASET has, and no run.json. For PREDICTIONS say --on DATASET."
        )
    return source, ()


def _print(summary: "Summary") -> None:
    counts = {"images": summary.images, "lesions": summary.lesions}
    if summary.predicted:
        counts["predicted lesions"] = summary.predicted
    if summary.unpredicted:
        counts["images without a prediction, left out"] = summary.unpredicted
    if summary.crops:
        counts["lesions at native resolution"] = summary.crops
    sections = [
        ("", counts),
        ("lesions at IoU 0.1, class ignored in pairing", summary.verdicts),
        ("doubts", {**summary.doubts, "cases with any": summary.doubtful} if summary.doubtful else {}),
        ("not at native resolution: images", console.shortened(summary.raw, elsewhere="the pages")),
    ]
    console.show_counts((title, section) for title, section in sections if section)
