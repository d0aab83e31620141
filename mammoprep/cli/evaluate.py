"""`mammoprep evaluate`: the scores of a RUN, or of any PREDICTIONS for a DATASET."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mammoprep.cli import console, transfer
from mammoprep.cli.score_tables import show
from mammoprep.cli.train import Device
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from mammoprep.evaluation.kept import Keeper
    from mammoprep.evaluation.runs import Evaluation

FIGURES = ("sweep", "explain-threshold", "precision-recall", "froc", "strata", "cases")
KINDS = ("png", "pdf")

IouSweep = Annotated[
    bool, typer.Option("--iou-sweep", help="Show all 18 thresholds and draw PQ, RQ, SQ and AP over them.")
]
Figures = Annotated[
    bool, typer.Option("--figures", help="Draw sweep, precision-recall, FROC, strata and example cases.")
]
Explain = Annotated[
    bool, typer.Option("--explain-threshold", help="PQ(t) under both matchings by lesion size, extra pairs counted.")
]
Matching = Annotated[
    Literal["one-to-one", "paper"],
    typer.Option(help="one-to-one: the largest summed IoU; paper: every pair above the threshold counts."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for scores.json, tables.npz and figures. Default: RUN/evaluation or RUN/on/NAME."),
]
On = Annotated[
    Path | None,
    typer.Option(help="The RUN's DATASET, where it was moved; or another one, to predict and be scored on."),
]
AllowOverlap = Annotated[
    bool, typer.Option("--allow-overlap", help="Let --on name a DATASET that shares patients with the training.")
]
Weights = Annotated[
    list[str] | None, typer.Option(help="For another DATASET: where a part lies, mam-e=DIR, or a folder of parts.")
]
Prompts = Annotated[
    str | None,
    typer.Option(help="For another DATASET: as predict has it.", show_default="as in training"),
]
Where = Annotated[Device, typer.Option(help="For another DATASET: where to compute.")]
Missing = Annotated[
    bool, typer.Option("--missing-as-empty", help="Score an image without a prediction as predicted empty.")
]
Resamples = Annotated[int, typer.Option(min=0, help="Bootstraps over patients for the 95 % intervals; 0: none.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the bootstraps.")]


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RUN|DATASET", help="RUN of `mammoprep train`, or a DATASET.")],
    predictions: Annotated[
        Path | None, typer.Argument(metavar="PREDICTIONS", help="PREDICTIONS for the DATASET, of any model.")
    ] = None,
    iou_sweep: IouSweep = False,
    figures: Figures = False,
    explain_threshold: Explain = False,
    matching: Matching = "one-to-one",
    out: Out = None,
    on: On = None,
    allow_overlap: AllowOverlap = False,
    weights: Weights = None,
    device: Where = "auto",
    prompts: Prompts = None,
    missing_as_empty: Missing = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: the number of cores.")] = None,
    cluster: console.Cluster = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an evaluation that was killed.")] = False,
    json: console.Json = False,
) -> None:
    """Score predictions: PQ, RQ and SQ over the IoU threshold, AP, FROC, Dice and IoU, by class and by part.

    A RUN is scored fold by fold on its validation images and shown as mean ± standard deviation over the folds. Where
    --on names another DATASET, each fold's network predicts all images of that one first.
    """
    from joblib import cpu_count

    from mammoprep.evaluation import runs
    from mammoprep.parallel import Workers

    other = on if on and not predictions and runs.is_other(source, on) else None
    if (allow_overlap or weights or prompts) and not other:
        raise MammoprepError(
            "--allow-overlap, --weights and --prompts are for a RUN --on another DATASET. Leave them out."
        )
    out = out or _default_out(source, predictions, other=other)
    _check_out(out, figures=figures)
    asked = transfer.Asked(allow_overlap, weights, device, prompts)
    carried = other and out and transfer.predict(source, other, out=out, asked=asked)
    how = Workers(workers or cpu_count(), cluster)
    with _keeping(out, resume=resume) as keeper:
        options = runs.Options(matching, missing_as_empty, resamples, seed, explain_threshold, how, keeper)
        with console.progress("evaluate") as moved:
            if other and carried:
                found = runs.evaluate_across(other, carried.predictions, options=options, on_progress=moved)
            else:
                found = runs.evaluate(source, predictions, on=on, options=options, on_progress=moved)
        if out:
            _write(found, out, iou_sweep=iou_sweep, figures=figures)
    more = {"transfer": transfer.write(carried, out, found.tables)} if carried and out else {}
    if json:
        console.print_json({**found.report.to_json(), **more})
    else:
        if more:
            transfer.show(more["transfer"])
        show(found.report.to_json(), iou_sweep=iou_sweep)


def _default_out(source: Path, predictions: Path | None, *, other: Path | None) -> Path | None:
    if predictions:
        return None
    return source / "on" / other.resolve().name if other else source / "evaluation"


def _check_out(out: Path | None, *, figures: bool) -> None:
    if out and out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    if figures and not out:
        raise MammoprepError("--figures needs a folder to draw into. Say --out DIR.")


@contextmanager
def _keeping(out: Path | None, *, resume: bool) -> "Iterator[Keeper | None]":
    """Keep finished images beside the results meanwhile."""
    from mammoprep.evaluation import kept

    if out is None:
        if resume:
            raise MammoprepError("--resume needs the folder of the evaluation that was killed. Say --out DIR.")
        yield None
        return
    try:
        with kept.keeping(out, resume=resume) as keeper:
            yield keeper
    except KeyboardInterrupt:
        console.note("Stopped. What is done is kept; the same command with --resume goes on from here.")
        raise


def _write(found: "Evaluation", out: Path, *, iou_sweep: bool, figures: bool) -> None:
    """Write figures as PNG and PDF, tables.npz, and last scores.json; those of an earlier time go, all else stays."""
    from mammoprep import panoptic
    from mammoprep.evaluation import results

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (results.SCORES, results.TABLES, *(f"{figure}.{kind}" for figure in FIGURES for kind in KINDS)):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise MammoprepError(f"{out} could not be written: {error.strerror}. Name another --out.") from error
    _draw(found, out, sweep=iou_sweep or figures, figures=figures)
    truth = panoptic.file_hash(found.dataset / "panoptic.json")
    results.save(out, found.report, found.tables, truth=truth)
    console.note(f"{out / results.SCORES} written.")


def _draw(found: "Evaluation", out: Path, *, sweep: bool, figures: bool) -> None:
    """Draw the figures that the scores allow."""
    from mammoprep.evaluation import figures as draw

    report, scores = found.report, found.report.scores
    for kind in KINDS:
        if sweep and (scores.sweep.PQ or scores.sweep.AP):
            draw.sweep(report, out / f"sweep.{kind}")
        if report.explained and scores.sweep.PQ:
            draw.explain(report, out / f"explain-threshold.{kind}")
        if figures and scores.froc:
            draw.precision_recall(report, found.tables, out / f"precision-recall.{kind}")
            draw.froc(report, found.tables, out / f"froc.{kind}")
        if figures and scores.sweep.PQ:
            draw.strata(report, out / f"strata.{kind}")
    if figures:
        _draw_cases(found, out)


def _draw_cases(found: "Evaluation", out: Path) -> None:
    """Draw the best, the median and the worst patient, as the paper's Figure 2."""
    from mammoprep import gallery
    from mammoprep.evaluation import examples
    from mammoprep.evaluation import figures as draw

    chosen = examples.examples(found.tables)
    rows = [
        (examples.caption(example), gallery.panels(found.dataset, found.predictions[example.table], example.name))
        for example in chosen
    ]
    for kind in KINDS:
        if rows:
            draw.cases(rows, out / f"cases.{kind}", footnote=found.report.footnote)
