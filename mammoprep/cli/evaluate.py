"""`mammoprep evaluate`: the scores of a RUN, or of any PREDICTIONS for a DATASET."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mammoprep.cli import console
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from rich.table import Table

    from mammoprep.evaluation.report import Report

QUALITIES = ("RQ", "SQ", "PQ", "AP")
NOT_GIVEN = "not given"
FIXED = (0.05, 0.1, 0.25, 0.5)
"""IoU thresholds that are always shown, whichever is the best."""


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="RUN|DATASET", help="RUN of `mammoprep train`, or a DATASET.")],
    predictions: Annotated[
        Path | None, typer.Argument(metavar="PREDICTIONS", help="PREDICTIONS for the DATASET, of any model.")
    ] = None,
    iou_sweep: Annotated[
        bool, typer.Option("--iou-sweep", help="Show all 18 thresholds and draw PQ, RQ, SQ and AP over them.")
    ] = False,
    matching: Annotated[
        Literal["one-to-one", "paper"],
        typer.Option(help="one-to-one: the largest summed IoU; paper: every pair above the threshold counts."),
    ] = "one-to-one",
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.json and the figure. Default: RUN/evaluation.")
    ] = None,
    on: Annotated[Path | None, typer.Option(help="The DATASET of the RUN, where it was moved.")] = None,
    missing_as_empty: Annotated[
        bool, typer.Option("--missing-as-empty", help="Score an image without a prediction as predicted empty.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Images at a time. Default: the number of cores.")] = None,
    json: console.Json = False,
) -> None:
    """Score predictions: PQ, RQ and SQ over the IoU threshold, AP, Dice and IoU.

    A RUN is scored fold by fold on its validation images and shown as mean ± standard deviation over the folds.
    """
    from joblib import cpu_count

    from mammoprep.evaluation import runs

    out = out or (None if predictions else source / "evaluation")
    if out and out.exists() and not out.is_dir():
        raise MammoprepError(f"{out} is a file. Name a folder.")
    options = runs.Options(matching, missing_as_empty, workers or cpu_count())
    with console.progress("evaluate") as on_progress:
        report = runs.evaluate(source, predictions, on=on, options=options, on_progress=on_progress)
    if out:
        _write(report, out, iou_sweep=iou_sweep)
    if json:
        console.print_json(report.to_json())
    else:
        show(report.to_json(), iou_sweep=iou_sweep)


def _write(report: "Report", out: Path, *, iou_sweep: bool) -> None:
    """Write scores.json and, for a sweep, its figure as PNG and PDF; what else lies in `out` stays."""
    from mammoprep import panoptic
    from mammoprep.evaluation import figures

    try:
        out.mkdir(parents=True, exist_ok=True)
        if iou_sweep and (report.scores.sweep.PQ or report.scores.sweep.AP):
            for name in ("sweep.png", "sweep.pdf"):
                figures.sweep(report, out / name)
        panoptic.write_json(out / "scores.json", report.to_json())
    except OSError as error:
        raise MammoprepError(f"{out} could not be written: {error.strerror}. Name another --out.") from error
    console.note(f"mammoprep: {out / 'scores.json'} written.")


def show(content: Mapping[str, Any], *, iou_sweep: bool = False) -> None:
    """Print what scores.json says: the table over the thresholds, the classes, what to know, what is not given."""
    screen = console.stdout()
    patients = "" if content["patients"] is None else f" of {content['patients']} patients"
    folds = f", mean ± standard deviation over {len(content['folds'])} folds" if content["std"] else ""
    screen.print(f"{content['images']} images{patients}{folds}; matching {content['matching']}; per cent\n")
    screen.print(_thresholds(content, iou_sweep=iou_sweep), "")
    screen.print(_classes(content), "")
    if content["dice"]:
        lesion = f"Dice {_cell(content, 'dice', 'per_image')}, IoU {_cell(content, 'iou', 'per_image')}"
        screen.print(
            f"All lesions as one map, mean over images: {lesion}. IoU by class: {_cell(content, 'iou', 'pooled')}."
        )
    if content["missing"]:
        screen.print(f"{content['missing']} images without a prediction were scored as predicted empty.")
    screen.print(*content["notes"], sep="\n")
    for reason in dict.fromkeys(content["not_given"].values()):
        keys = ", ".join(key for key, why in content["not_given"].items() if why == reason)
        screen.print(f"Not given: {keys} ({reason}).")


def _thresholds(content: Mapping[str, Any], *, iou_sweep: bool) -> "Table":
    """Lay out a threshold a line as the paper's Table 1 does a model; * marks the highest PQ."""
    best = content["best"] and content["best"]["threshold"]
    table = _table("IoU t", "RQ", "SQ", "PQ", "AP", "Dice")
    for level, threshold in enumerate(content["thresholds"]):
        if iou_sweep or threshold in FIXED or threshold == best:
            cells = [_cell(content, "sweep", name, level) for name in QUALITIES]
            table.add_row(f"{threshold:.2f}{' *' * (threshold == best)}", *cells, _cell(content, "dice", "pooled"))
    return table


def _classes(content: Mapping[str, Any]) -> "Table":
    """Lay out the classes at the threshold with the highest PQ: things, then stuff, which enters no mean."""
    threshold = content["best"]["threshold"] if content["best"] else content["thresholds"][0]
    level = content["thresholds"].index(threshold)
    table = _table(f"at t = {threshold:.2f}", "TP/FP/FN", "RQ", "SQ", "PQ", "AP", "Dice")
    for place, dice in ((("per_class",), ("dice", "per_class")), (("stuff", "per_class"), ("stuff", "dice"))):
        for name, entry in _find(content, place).items():
            counts = "/".join(str(entry[key][level]) for key in ("TP", "FP", "FN")) if entry["TP"] else NOT_GIVEN
            cells = [
                _cell(content, *place, name, quality, level, spread=False) if quality in entry else ""
                for quality in QUALITIES
            ]
            table.add_row(name, counts, *cells, _cell(content, *dice, name, spread=False))
        table.add_section()
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", no_wrap=column != columns[0])
    return table


def _cell(content: Mapping[str, Any], *place: str | int, spread: bool = True) -> str:
    """Give the score at a place of the JSON in per cent, with its standard deviation where there is one."""
    value, deviation = _find(content, place), _find(content["std"], place) if spread else None
    if value is None:
        return NOT_GIVEN
    return f"{100 * value:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _find(content: Any, place: Iterable[str | int]) -> Any:
    for key in place:
        content = None if content is None else content[key]
    return content
