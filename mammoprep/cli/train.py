"""`mammoprep train`: a network on one fold or all folds of a DATASET."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mammoprep.cli import console
from mammoprep.cli.extra import require_model
from mammoprep.errors import MammoprepError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mammoprep_model.checkpoint import Choices
    from mammoprep_model.log import Step
    from mammoprep_model.plan import Session

Augment = Literal["none", "flip", "crop", "lsj"]
View = Literal["whole", "windows", "both"]
Device = Literal["auto", "cpu", "cuda"]
AT = (0.1, 0.25, 0.5)
"""IoU thresholds of the scores shown at the end."""


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A data set with folds.json.")],
    model: Annotated[str | None, typer.Option(help="Preset of `mammoprep models`.")] = None,
    fold: Annotated[str | None, typer.Option(help="Fold to validate on, 0 … k-1, or all.", show_default="0")] = None,
    out: Annotated[Path | None, typer.Option(help="RUN folder.", show_default="runs/MODEL-fold-FOLD")] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A part: mam-e=DIR (or file, or hub id; {fold} is the number of each fold). Or a folder of parts."
        ),
    ] = None,
    augment: Annotated[Augment | None, typer.Option(help="Short for --set train.augment=…", show_default="lsj")] = None,
    view: Annotated[View | None, typer.Option(help="Short for --set train.view=…", show_default="whole")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A value: train.lr=1e-4. May be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Start of every random stream.", show_default="0")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out as if never stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    jobs: Annotated[
        int, typer.Option(help="Folds trained side by side, each on a GPU where there are some.", min=1)
    ] = 1,
    json: console.Json = False,
) -> int | None:
    """Train a network, then predict and score the validation images.

    On several GPUs, or machines with shared folders: torchrun --nproc-per-node GPUS -m mammoprep train …

    Ctrl-C or SIGTERM finishes the step and writes a checkpoint; --resume goes on from there, to the last digit.
    On --resume the model, fold, seed and settings are those of the run; --set train.… may change them from there on.
    """
    require_model()
    from mammoprep_model import plan, settings

    number = None if fold is None else _parse_fold(fold)
    out = out or Path("runs") / f"{model or 'tiny'}-fold-{number or 0}"
    choices = _choices(model, run=out if resume else None)
    choices = replace(
        choices,
        seed=choices.seed if seed is None else seed,
        fold=choices.fold if number is None else number,
        preset=settings.change(choices.preset, [*_short(augment=augment, view=view), *(set_ or [])]),
    )
    places = parse_weights(weights or [], choices.preset.model.parts)
    session = plan.Session(weights=places, device=device, resume=resume, overwrite=overwrite, jobs=jobs, draw=draw)
    try:
        _train(dataset, out, choices=choices, session=session)
    except KeyboardInterrupt as stopped:
        if not (out / "run.json").is_file():
            raise
        if is_first():
            again = shlex.join(["mammoprep", "train", str(dataset), "--out", str(out), "--resume"])
            console.note(f"{str(stopped) or 'Stopped.'} Continue with: {again}")
        return 130
    try:
        if is_first():
            _report(dataset, out, json=json)
    except MammoprepError as error:
        console.note(f"{out} is trained, but could not be scored. {error}")
        return 1
    return None


def _train(dataset: Path, out: Path, *, choices: "Choices", session: "Session") -> None:
    """Train as chosen, and show it."""
    from mammoprep_model import trainer

    with console.bar() as bar:
        bar.disable = bar.disable or not is_first()
        live = Live(bar)
        session = replace(session, on_step=live.step, on_predict=live.predict, on_note=live.note)
        trainer.train(dataset, out=out, preset=choices.preset, fold=choices.fold, seed=choices.seed, session=session)


def _short(**values: str | None) -> list[str]:
    """Give what the options that stand for a setting of the training set."""
    return [f"train.{name}={value}" for name, value in values.items() if value]


def _choices(model: str | None, *, run: Path | None) -> "Choices":
    """Give preset, fold and seed as the run to be resumed has them, or as a new one starts."""
    from mammoprep_model import checkpoint, zoo

    if run:
        choices = checkpoint.read_choices(run)
        return choices if model in (None, choices.preset.name) else replace(choices, preset=zoo.preset(str(model)))
    if not model:
        raise MammoprepError(f"Name a preset: --model {' or --model '.join(zoo.PRESETS)}.")
    return checkpoint.Choices(zoo.preset(model), fold=0, seed=0)


def _report(dataset: Path, out: Path, *, json: bool) -> None:
    """Print how well each fold's validation images were segmented; `evaluate` says more."""
    from mammoprep.evaluation import runs
    from mammoprep.evaluation.marks import FOOTNOTE, MARK

    with console.progress("evaluate") as on_progress:
        options = runs.Options(resamples=0)
        content = runs.evaluate(out, on=dataset, options=options, on_progress=on_progress).report.to_json()
    scores = {
        fold["fold"]: {name: _at(content, fold["sweep"][name]) for name in ("PQ", "AP")} for fold in content["folds"]
    }
    known = {"knows_truth": True} if content.get("knows_truth") else {}
    if json:
        console.print_json({"run": str(out), "folds": scores, **known})
        return
    for fold, curves in scores.items():
        console.stdout().print(
            f"{MARK * bool(known)}fold {fold}: {'; '.join(_line(name, values) for name, values in curves.items())}",
            soft_wrap=True,
        )
    if known:
        console.stdout().print(FOOTNOTE, soft_wrap=True)
    console.stdout().print(f"{out} holds the run. All scores: mammoprep evaluate {out} --iou-sweep", soft_wrap=True)


def _at(content: Mapping[str, Any], curve: Sequence[float] | None) -> dict[str, float] | None:
    """Give a curve at a few thresholds; None where it was not given."""
    if curve is None:
        return None
    return {str(threshold): curve[content["thresholds"].index(threshold)] for threshold in AT}


def _line(name: str, values: Mapping[str, float] | None) -> str:
    if not values:
        return f"{name} not given"
    return f"{name} " + ", ".join(f"{value:.1%} at IoU {threshold}" for threshold, value in values.items())


def parse_weights(options: Sequence[str], parts: Sequence[str]) -> dict[str, str]:
    """Read `part=PATH` options, and folders in which `mammoprep weights` collected the parts of a model."""
    from mammoprep_model import weights

    places: dict[str, str] = {}
    for option in options:
        part, equals, place = option.partition("=")
        if equals:
            places[part] = place
        elif Path(option).is_dir():
            places |= weights.in_folder(Path(option), parts)
        else:
            raise MammoprepError(
                f"--weights {option!r} is no folder. Write it as mam-e=DIR, or name a folder of parts."
            )
    return places


def _parse_fold(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not text.isdecimal():
        raise MammoprepError(f"--fold {text!r} is neither a number from 0 nor all.")
    return int(text)


def is_first() -> bool:
    """Tell whether this is the only process, or the one of torchrun's that reports."""
    return os.environ.get("RANK", "0") == "0"


def draw(dataset: Path, out: Path, predictions: Path) -> Sequence[Path]:
    """Draw a few validation images for TensorBoard: image | ground truth | prediction."""
    from mammoprep import gallery

    return gallery.write_overlays(dataset, out, predictions=predictions, limit=4)


class Live:
    """Shows loss terms, images/s, memory and remaining time on stderr; a line a tenth where that is no terminal.

    Each fold has a bar for its steps and one for its predictions.
    """

    def __init__(self, bar: "Progress", *, title: str = "") -> None:
        self._bar = bar
        self._title = title
        self._tasks: dict[str, TaskID] = {}

    def step(self, step: "Step") -> None:
        """Show a step."""
        terms = "  ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
        facts = f"loss {step.total:.3f} ({terms})  {step.images_per_second:.1f} images/s  {step.peak_memory:,.0f} MiB"
        title = self._title if step.fold is None else self._named(f"train fold {step.fold}")
        remaining = self._move(title, step.number, step.steps, facts)
        if self._bar.disable and step.number % max(1, step.steps // 10) == 0:
            console.note(f"{title}: step {step.number}/{step.steps}  {facts}  {remaining}")

    def predict(self, fold: int, done: int, total: int) -> None:
        """Show how many images are predicted."""
        self._move(self._named(f"predict fold {fold}"), done, total, "")

    def _named(self, what: str) -> str:
        return f"{self._title}: {what}" if self._title else what

    def note(self, text: str) -> None:
        """Print a message above the bars."""
        self._bar.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _move(self, title: str, done: int, total: int, facts: str) -> str:
        """Move a bar, which goes when it is full; give the remaining time in words."""
        if title not in self._tasks:
            self._tasks[title] = self._bar.add_task(title, total=total, completed=done - 1, facts=facts)
        self._bar.update(self._tasks[title], completed=done, total=total, facts=facts, visible=done < total)
        seconds = self._bar.tasks[self._bar.task_ids.index(self._tasks[title])].time_remaining
        return "" if seconds is None else f"{timedelta(seconds=round(seconds))} left"
