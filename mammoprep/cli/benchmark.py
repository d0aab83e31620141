"""`mammoprep benchmark`: many presets on the same folds for the same time, and one table."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoprep.cli import compare, console
from mammoprep.cli.extra import require_model
from mammoprep.cli.train import Device, Live, parse_weights
from mammoprep.errors import MammoprepError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mammoprep_model.benchmark import Length, Task
    from mammoprep_model.config import Preset
    from mammoprep_model.plan import Session

_SET = "A value for all presets, train.lr=1e-4, or for one, u-net:model.width=16. May be repeated."
_COLUMNS = ("", "steps", "epochs", "seconds a fold", "GPU (GiB)", "trained (M)")


def benchmark(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set with folds.json.")],
    models: Annotated[str, typer.Option(help="Presets of `mammoprep models`: a,b,c; or all whose weights are there.")],
    budget: Annotated[float, typer.Option(help="Minutes of training that all presets share in equal parts.")],
    folds: Annotated[int, typer.Option(min=1, help="So many of the folds, from the first.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for RUNs, scores and tables.")] = Path("benchmark"),
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A part: mam-e=DIR ({fold} is the number of each fold). Or a folder of parts."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help=_SET)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Start of every random stream.")] = 0,
    threshold: Annotated[float, typer.Option(help="IoU threshold of the sweep at which to compare.")] = 0.1,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the benchmark in --out.")] = False,
    json: console.Json = False,
) -> None:
    """Train and score presets on the same folds for the same time; print the paper's table and what each took.

    A few steps of each preset tell its speed; its steps are what fits into its share, on every fold alike. Prediction
    and scoring come on top. --resume repeats nothing that is complete, and keeps the steps.
    """
    require_model()
    from mammoprep_model import benchmark as work
    from mammoprep_model import plan

    if budget <= 0:
        raise MammoprepError(f"--budget {budget:g} is no time. Say how many minutes the training may take.")
    work.check_folds(dataset, folds)
    presets, places = _presets(models, weights or [], set_ or [], folds=folds)
    _check_threshold(threshold)
    task = work.Task(dataset, out, folds, 60 * budget, seed)
    session = plan.Session(weights=places, device=device, resume=resume, on_note=console.note)
    try:
        lengths = work.begin(task, presets, session=session)
        with _shown(presets, session) as sessions:
            work.train(task, presets, lengths, sessions=sessions)
    except KeyboardInterrupt:
        console.note("Stopped. The same command with --resume goes on from here.")
        raise
    found = _compare(task, list(presets), threshold=threshold)
    compare.write(found, out, compare.texts_of(found))
    took = _costs(task, lengths)
    if json:
        console.print_json({**found.to_json(), "cost": took})
    else:
        compare.show(found)
        _show(took)


def _presets(
    models: str, weights: Sequence[str], changes: Sequence[str], *, folds: int
) -> "tuple[dict[str, Preset], dict[str, str]]":
    """Give the presets by name, changed as asked, and the places of their parts; a missing part is an error."""
    from mammoprep_model import benchmark as work
    from mammoprep_model import zoo

    names = list(zoo.PRESETS) if models == "all" else list(dict.fromkeys(filter(None, models.split(","))))
    presets = {name: _changed(zoo.preset(name), changes, names=names) for name in names}
    parts = list(dict.fromkeys(part for preset in presets.values() for part in preset.model.parts))
    places = parse_weights(weights, parts)
    for part in places:
        if part not in parts:
            raise UnknownNameError(part, kind="part of these models", known=parts or ["none"])
    lacking = {name: gone for name, preset in presets.items() if (gone := work.missing(preset, places, folds=folds))}
    if lacking and models != "all":
        told = "; ".join(f"{name} lacks {', '.join(gone)}" for name, gone in lacking.items())
        raise MammoprepError(
            f"Weights are missing: {told}. Collect them with `mammoprep weights --for MODEL --to DIR` and say --weights"
            " DIR."
        )
    for name, gone in lacking.items():
        console.note(f"{name} is left out: it lacks {', '.join(gone)}.")
    chosen = {name: preset for name, preset in presets.items() if name not in lacking}
    if len(chosen) < 2:
        raise MammoprepError("One preset cannot be compared. Name two or more: --models tiny,u-net.")
    return chosen, places


def _changed(preset: "Preset", changes: Sequence[str], *, names: Sequence[str]) -> "Preset":
    """Carry out the settings that are for all presets or for this one."""
    from mammoprep_model import settings

    for change in changes:
        name, colon, own = change.partition("=")[0].rpartition(":")
        if colon and name not in names:
            raise UnknownNameError(name, kind="model of this benchmark", known=names)
        if own.strip() in ("train.steps", "train.epochs"):
            raise MammoprepError(f"--set {change} has no say: --budget decides how long each preset trains.")
        if not colon or name == preset.name:
            preset = settings.change(preset, [change.removeprefix(f"{name}:") if colon else change])
    settings.check(preset.train)
    return preset


def _check_threshold(threshold: float) -> None:
    from mammoprep.evaluation.matching import THRESHOLDS

    if threshold not in THRESHOLDS:
        raise MammoprepError(f"--threshold {threshold:g} is not of the sweep. Take one of 0.05, 0.10 … 0.90.")


@contextmanager
def _shown(names: "Mapping[str, Preset]", session: "Session") -> "Iterator[dict[str, Session]]":
    """Give each preset a session that shows its progress."""
    with console.bar() as bar:
        sessions = {}
        for name in names:
            live = Live(bar, title=name)
            sessions[name] = replace(session, on_step=live.step, on_predict=live.predict, on_note=live.note)
        yield sessions


def _compare(task: "Task", names: Sequence[str], *, threshold: float) -> Any:
    """Score each preset's folds into its folder, and compare."""
    from mammoprep import panoptic
    from mammoprep.evaluation import results, runs
    from mammoprep.evaluation.compare import compare as compare_results

    truth = panoptic.file_hash(task.dataset / "panoptic.json")
    for name in names:
        with console.progress(f"evaluate {name}") as moved:
            found = runs.evaluate_folds(task.dataset, task.predictions(name), on_progress=moved)
        results.save(task.out / name, found.report, found.tables, truth=truth)
    return compare_results([results.load(task.out / name) for name in names], threshold=threshold)


def _costs(task: "Task", lengths: "Mapping[str, Length]") -> dict[str, dict[str, Any]]:
    """Give what each preset took."""
    from mammoprep_model import cost

    found = {}
    for name, length in lengths.items():
        spent = cost.of_folds([cost.of_run(task.run(name, fold)) for fold in range(task.folds)])
        found[name] = {**asdict(length), **asdict(spent)}
    return found


def _show(took: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for name, each in took.items():
        epochs, memory, trained = each["steps"] / max(1, each["steps_an_epoch"]), each["gpu_memory"], each["parameters"]
        last = ("–" if memory is None else f"{memory / 1024:.2f}", "–" if trained is None else f"{trained / 1e6:.3f}")
        table.add_row(name, str(each["steps"]), f"{epochs:.1f}", f"{each['seconds']:.0f}", *last)
    console.stdout().print(table)
